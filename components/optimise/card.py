"""The card of the step, and the one that lies beside each engine."""

from components.optimise.outcome import Outcome, Tried


def step_card(outcome: Outcome) -> str:
    """What was tried and what will answer, as Markdown."""
    fastest = outcome.fastest
    sizes = list(outcome.torch_latency_ms)
    if fastest:
        said = f"On a machine like this one `{fastest.engine}` answers, {fastest.speed:.2f} times as fast as torch."
    else:
        said = "On a machine like this one torch answers: no engine is right and faster."
    titles = ["engine", "kept", "same items", "largest score difference", *(f"ms, batch {size}" for size in sizes)]
    ours = ["torch", "always", "", "", *(f"{outcome.torch_latency_ms[size]:.1f}" for size in sizes)]
    rows = [titles, ["---"] * len(titles), ours, *(_row(one, sizes) for one in outcome.tried)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    left_out = "\n".join(f"- `{one.name}` is left out: {one.refused}." for one in outcome.tried if one.refused)
    return (
        f"""# Engines

{said}

{table}

Answers to {outcome.requests} held-out requests beside the reference's, torch in fp32; latency is the median of a \
search, engines in turn with torch as it would serve.

{left_out}
""".rstrip()
        + "\n"
    )


def engine_card(one: Tried, requests: int) -> str:
    """What an engine is for and how it was found to be."""
    assert one.key is not None
    key, agreed = one.key, one.agreement
    assert agreed is not None
    took = "\n".join(
        f"| batch {size} | {latency:.1f} ms | {key.torch_latency_ms[size]:.1f} ms |"
        for size, latency in key.latency_ms.items()
    )
    by_metric = "\n".join(
        f"| {metric} | {found.mean:+.4f} | {found.low:+.4f} to {found.high:+.4f} |"
        for metric, found in one.differences.items()
    )
    return f"""# {key.name}

For release `{key.release}` on {key.architecture}, by {key.package} {key.version} in {key.precision}. Elsewhere it is \
refused.

| a search | here | torch |
|---|---|---|
{took}

On {requests} held-out requests {agreed.items:.2%} of the reference's items are found, with log-probabilities at most \
{agreed.scores:.2g} apart.

| | engine − reference | 95% interval |
|---|---|---|
{by_metric}
"""


def _row(one: Tried, sizes: list[str]) -> list[str]:
    agreed, key = one.agreement, one.key
    parity = [f"{agreed.items:.2%}", f"{agreed.scores:.2g}"] if agreed else ["", ""]
    return [
        one.name,
        "yes" if key else "no",
        *parity,
        *(f"{key.latency_ms[size]:.1f}" if key else "" for size in sizes),
    ]
