"""Plans follow from their demand: by structure, for what a machine does in a second is no test's to say."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nextpage.capacity.plan import MACHINES, Demand, Machine, plan, workload_of
from nextpage.models.cost import Chip
from nextpage.recipes import Recipe, read_recipe
from serving.batching import BatchingConfig
from serving.server import ServerConfig

WORKLOAD = workload_of(read_recipe("genrec"), items=100_000)
DEMAND = Demand(users=1_000_000, requests=400.0, p99_s=0.2)
MACHINE = MACHINES["cpu"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"


def test_the_workload_is_the_recipes_release() -> None:
    recipe = Recipe(
        name="other",
        sections={
            "tokenizer": {"quantiser": {"levels": 4, "codes": 512}},
            "model": {"width": 64},
            "layout": {"merged": False},
            "decoding": {"beam_width": 20, "prompt_items": 90},
        },
    )
    other = workload_of(recipe, items=7, context=128)
    assert (other.sizes, other.config.width, other.beam_width) == ((512,) * 4, 64, 20)
    assert other.config.level_ranges[3] == (2 + 3 * 512, 2 + 4 * 512)
    assert other.positions == 90 * 4 + 1  # the model reads 90 items, of four tokens each
    assert WORKLOAD.positions == 128 + 1


def test_batches_and_kept_prompts_are_the_servers() -> None:
    assert WORKLOAD.batch == BatchingConfig().most
    assert WORKLOAD.prompt_cache == ServerConfig().prompt_cache_mb * 2**20


def test_a_batch_takes_the_roofline_over_its_share_and_what_is_beside_it() -> None:
    chip = Chip(flops=1e30, bandwidth=1e30)
    machine = Machine(chip=chip, memory=None, share=1.0, batch_s=0.01, request_s=0.002)
    assert machine.seconds(WORKLOAD, 5) == pytest.approx(0.02)
    slow = replace(machine, chip=Chip(flops=1e9, bandwidth=1e30), batch_s=0.0, request_s=0.0)
    assert slow.seconds(WORKLOAD, 8) == pytest.approx(8 * slow.seconds(WORKLOAD, 1))  # computing grows with the batch
    narrow = replace(slow, chip=Chip(flops=1e30, bandwidth=1e9))
    assert narrow.seconds(WORKLOAD, 8) < 3 * narrow.seconds(WORKLOAD, 1)  # weights are read once for all
    assert replace(slow, share=0.5).seconds(WORKLOAD, 3) == pytest.approx(2 * slow.seconds(WORKLOAD, 3))


def test_the_figures_of_a_cpu_are_held_to_what_was_measured() -> None:
    """The page's table: what its machine served, and what the formulas say of it now."""
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(clients) for clients, *_ in rows] == [1, 8, 32]
    shop = workload_of(read_recipe("genrec"), items=27_007)
    for clients, measured, foretold in rows:
        rate = int(clients) / MACHINE.seconds(shop, int(clients))
        assert float(foretold) == pytest.approx(rate, abs=0.06), "the page says another figure than the formulas"
        assert rate == pytest.approx(float(measured), rel=0.2)


def test_replicas_carry_the_load_and_one_may_go() -> None:
    found = plan(DEMAND, WORKLOAD, MACHINE)
    assert found.rate <= 0.8 * found.most
    assert (found.replicas - 1) * found.rate >= DEMAND.requests > (found.replicas - 2) * found.rate
    twice = plan(replace(DEMAND, requests=2 * DEMAND.requests), WORKLOAD, MACHINE)
    assert twice.rate == found.rate
    assert twice.replicas - 1 == pytest.approx(2 * (found.replicas - 1), abs=1)


@pytest.mark.parametrize("more", [{"beam_width": 256}, {"context": 512}])
def test_more_work_a_request_is_fewer_requests_a_replica(more: dict[str, int]) -> None:
    patient = replace(DEMAND, p99_s=2.0)
    assert plan(patient, replace(WORKLOAD, **more), MACHINE).rate < plan(patient, WORKLOAD, MACHINE).rate


def test_a_tighter_latency_takes_more_replicas() -> None:
    rates = [plan(replace(DEMAND, p99_s=p99_s), WORKLOAD, MACHINE).rate for p99_s in (0.05, 0.1, 1.0)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_users_fill_the_feature_store_and_nothing_else() -> None:
    few, many = (plan(replace(DEMAND, users=users), WORKLOAD, MACHINE) for users in (1000, 2000))
    assert many.store_bytes == pytest.approx(2 * few.store_bytes, abs=1)
    assert replace(many, store_bytes=few.store_bytes) == few


def test_filters_are_what_a_large_catalogue_costs() -> None:
    large = replace(WORKLOAD, items=10_000_000)
    parts = large.bytes()
    assert max(parts, key=lambda name: parts[name]) == "filters"
    assert replace(large, filter_sets=0).bytes() == {**parts, "filters": 0}


def test_a_replica_that_the_device_cannot_hold_is_refused_by_what_fills_it() -> None:
    with pytest.raises(ValueError, match=r"device has 24: filters take most; have smaller batches"):
        plan(DEMAND, replace(WORKLOAD, items=200_000_000), MACHINES["L4"])


def test_cost_is_that_of_all_replicas() -> None:
    found = replace(plan(DEMAND, WORKLOAD, MACHINE), replicas=3)
    assert found.cost_a_month(2.0) == 3 * 2.0 * 730
    assert found.cost_a_million(2.0, requests=100.0) == pytest.approx(3 * 2.0 * 1e6 / 360_000)
