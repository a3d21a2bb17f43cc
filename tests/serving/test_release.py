"""A sealed release behind the container's own entry point, `python -m serving`; its weights are random."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nextpage.decoding.filters import ItemFilter
from nextpage.recipes import Recipe
from nextpage.recommender import Query, load_recommender, write_parts
from nextpage.release import FeatureService, seal
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import decoder
from tests.serving.conftest import Server, end, free_port, start
from tests.serving.standin import MODEL

ITEMS = 120
SIZES = (6, 6, 6)
HISTORY = {"items": ["i003", "i050", "i007"], "behaviours": ["ordered"] * 3, "times": [100, 200, 300]}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    draw = np.random.default_rng(0)
    names = np.array([f"i{row:03d}" for row in range(ITEMS)], dtype=object)
    semantic_ids = SemanticIds.sorted(names, draw.integers(0, 6, (ITEMS, 3)), SIZES)
    items = pa.table(
        {
            "item_id": list(semantic_ids.item_ids),
            "text": [f"text of {item_id}" for item_id in semantic_ids.item_ids],
            "category": [f"c{row % 4}" for row in range(ITEMS)],
            "orders": draw.integers(0, 1000, ITEMS),
        }
    )
    model = decoder(SIZES)
    recipe = Recipe(name="test", sections={})
    write_parts(folder, decoder=model, semantic_ids=semantic_ids, items=items, recipe=recipe)
    seal(folder, name="r1", recipe="test", feature_service=FeatureService(name="recommender_r1", hash="f00d"))
    return folder


def start_release(folder: Path) -> Server:
    http_port, grpc_port = free_port(), free_port()
    arguments = ["-m", "serving", f"--release={folder}", f"--model_name={MODEL}"]
    arguments += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    return start(arguments, http_port=http_port, grpc_port=grpc_port, events=folder / "no events")


@pytest.fixture(scope="module")
def served(release: Path) -> Iterator[Server]:
    started = start_release(release)
    yield started
    end(started)


def test_served_slate_is_what_the_library_recommends(served: Server, release: Path) -> None:
    recommender = load_recommender(release)
    category = np.array(recommender.catalogue.items["category"].to_pylist())
    query = Query(
        item_ids=HISTORY["items"],
        behaviours=[2, 2, 2],
        pages=[0, 1, 2],
        times=HISTORY["times"],
        as_of=400,
        k=20,
        allowed=ItemFilter.of(np.isin(category, ["c1", "c2"])),
    )
    expected = recommender.recommend([query])[0]
    slate = served.slate(history=HISTORY, as_of=400, k=20, filters={"category": ["c1", "c2"]})
    assert [item["item_id"] for item in slate["items"]] == [item.item_id for item in expected]
    assert [item["score"] for item in slate["items"]] == pytest.approx([item.score for item in expected], abs=1e-4)
    assert slate["release"] == {"name": "r1", "hash": recommender.release_hash}
    assert slate["items"][0]["text"] == f"text of {expected[0].item_id}"


def test_largest_k_gives_every_item_once_and_none_is_invalid(served: Server) -> None:
    slate = served.slate(history=HISTORY, k=200)
    assert sorted(item["item_id"] for item in slate["items"]) == [f"i{row:03d}" for row in range(ITEMS)]
    assert served.metric("nextpage_invalid_items_total") == 0


def test_history_of_exposures_alone_is_answered(served: Server) -> None:
    shown = {"items": ["i003"], "behaviours": ["exposed"]}
    assert len(served.slate(history=shown, k=5)["items"]) == 5


def test_user_id_without_a_feature_store_gets_popularity_degraded(served: Server, release: Path) -> None:
    popular = load_recommender(release)
    slate = served.slate(user_id="u", k=3)
    assert (slate["degraded"], slate["reason"]) == (True, "no_history")
    expected = [popular.semantic_ids.item_ids[row] for row in popular.catalogue.popular[:3]]
    assert [item["item_id"] for item in slate["items"]] == expected


def test_release_with_a_changed_byte_is_not_served(release: Path, tmp_path: Path) -> None:
    for path in release.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(RuntimeError, match=r"ended with 1: not serving: weights.safetensors is not the file"):
        start_release(tmp_path)
