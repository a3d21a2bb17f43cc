"""`nextpage capacity`: a demand in, a table and the chart's values out."""

from dataclasses import replace

from nextpage.capacity.plan import MACHINES, Demand, Machine, Plan, plan, workload_of
from nextpage.recipes import Recipe

MIB, GIB = 2**20, 2**30


def estimate(
    demand: Demand, recipe: Recipe, items: int, context: int, machine: str, measured: str, price: float
) -> str:
    """The table. `measured`: three figures that `benchmarks/capacity.py` printed on that machine, apart by commas.

    Raises ValueError for a machine that is not known, and what `plan` raises.
    """
    runs_on = known(machine, measured)
    found = plan(demand, workload_of(recipe, items=items, context=context), runs_on)
    said = [f"{name:<26} {value}" for name, value in rows(found, demand, runs_on, price)]
    if machine != "cpu" and not measured:
        said.append(f"\nWhat is reached of an {machine} is assumed: run benchmarks/capacity.py there, give --measured.")
    return "\n".join([*said, "", values(found, runs_on)])


def known(name: str, measured: str) -> Machine:
    if name not in MACHINES:
        raise ValueError(f"machine {name!r} is not known: use one of {', '.join(MACHINES)}")
    if not measured:
        return MACHINES[name]
    share, batch_ms, request_ms = (float(figure) for figure in measured.split(","))
    return replace(MACHINES[name], share=share, batch_s=batch_ms / 1000, request_s=request_ms / 1000)


def rows(found: Plan, demand: Demand, machine: Machine, price: float) -> list[tuple[str, str]]:
    p99_ms, events = 1000 * demand.p99_s, demand.events
    busy = demand.requests / found.replicas / found.most
    said = [
        ("replicas", f"{found.replicas}, {demand.spare} of them spare; {busy:.0%} busy at {demand.requests:g}/s"),
        (
            "a replica carries",
            f"{found.rate:.1f}/s with p99 up to {p99_ms:g} ms, {found.most:.1f}/s at most",
        ),
        ("a request alone", f"{1000 * found.alone_s:.1f} ms"),
    ]
    if machine.memory:
        said += [*_memory("device", found.device_bytes), *_memory("pod", found.host_bytes)]
    else:
        said += _memory("pod", found.device_bytes | found.host_bytes)
    said.append(("feature store", f"{_size(found.store_bytes)} of Redis: {demand.users:,} users × {events} events"))
    if price:
        month, million = found.cost_a_month(price), found.cost_a_million(price, demand.requests)
        said.append(("cost", f"{month:,.0f} a month, {million:.2f} a million requests at this load"))
    return said


def values(found: Plan, machine: Machine) -> str:
    """The chart's values that a plan decides; memory with a quarter to spare."""
    pod = sum(found.host_bytes.values()) + (0 if machine.memory else sum(found.device_bytes.values()))
    return (
        f"serving: {{replicas: {found.replicas}, gpus: {1 if machine.memory else 0}, memory: {_whole(1.25 * pod)}}}\n"
        f"redis: {{memory: {_whole(found.store_bytes)}, storage: {_whole(3 * found.store_bytes)}}}"
    )


def _memory(where: str, parts: dict[str, int]) -> list[tuple[str, str]]:
    held = [(f"  {name}", _size(size)) for name, size in parts.items() if size]
    return [(f"memory of a {where}", _size(sum(parts.values()))), *held]


def _size(count: float) -> str:
    return f"{count / GIB:,.1f} GiB" if count >= GIB else f"{count / MIB:,.1f} MiB"


def _whole(count: float) -> str:
    return f"{max(1, -int(-count // GIB))}Gi"
