"""Items come and go: whose codes change, what is recommended, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nextpage.catalogue_folder import CatalogueRefused, load_catalogue, read_catalogue_manifest
from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.recommender import Query, Recommender, load_recommender
from nextpage.renew_catalogue import read_items, renew_catalogue
from pipelines.cli import app
from tests.releases import ITEMS, items, semantic_ids, write_release

LEAVING = ["i003", "i007", "i050"]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write_release(tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


def table(*item_ids: str, **columns: list[Any]) -> pa.Table:
    return pa.table({"item_id": list(item_ids), "text": [f"new {item_id}" for item_id in item_ids]} | columns)


def renewed(release: Path, folder: Path, arriving: pa.Table, leaving: list[str]) -> ServedCatalogue:
    manifest = renew_catalogue(release, folder, arriving=arriving, leaving=leaving)
    return load_catalogue(folder, manifest, release_hash=manifest.release)


def codes(catalogue: ServedCatalogue) -> dict[str, list[int]]:
    known = catalogue.known
    return dict(zip(known.item_ids.tolist(), known.codes.tolist(), strict=True))


def asked(recommender: Recommender, catalogue: ServedCatalogue, history: list[str], k: int = 100) -> dict[str, float]:
    times = list(range(1, len(history) + 1))
    query = Query(item_ids=history, behaviours=[2] * len(history), pages=times, times=times, as_of=1000, k=k)
    (answer,) = recommender.recommend([query], catalogue)
    return {item.item_id: item.score for item in answer}


def test_who_stays_and_who_left_keep_their_codes_and_who_came_has_some(release: Path, folder: Path) -> None:
    catalogue = renewed(release, folder, table("a", "b"), LEAVING)
    before = dict(zip(semantic_ids().item_ids.tolist(), semantic_ids().codes.tolist(), strict=True))
    after = codes(catalogue)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"a", "b"}
    assert set(catalogue.semantic_ids.item_ids) == set(before) - set(LEAVING) | {"a", "b"}
    assert len(catalogue) == ITEMS - 1


def test_every_item_there_is_recommended_and_none_that_left_even_to_who_ordered_it(release: Path, folder: Path) -> None:
    recommender, catalogue = load_recommender(release), renewed(release, folder, table("a", "b"), LEAVING)
    found = asked(recommender, catalogue, ["i003", "i020", "a", "i007"])
    assert set(found) == set(catalogue.semantic_ids.item_ids)


def test_items_that_left_are_read_in_histories_as_before(release: Path, folder: Path) -> None:
    write_release(folder.parent / "alone", prior=0.0)
    recommender = load_recommender(folder.parent / "alone")
    manifest = renew_catalogue(folder.parent / "alone", folder, arriving=table("a").slice(0, 0), leaving=LEAVING)
    catalogue = load_catalogue(folder, manifest, release_hash=recommender.release_hash)
    history = ["i003", "i020", "i007"]
    before, after = asked(recommender, recommender.catalogue, history), asked(recommender, catalogue, history)
    assert after == pytest.approx({name: score for name, score in before.items() if name not in LEAVING}, abs=1e-5)
    assert after != pytest.approx(asked(recommender, catalogue, ["i020"]), abs=1e-2)


def test_a_catalogue_is_gone_on_from_and_who_comes_back_has_the_codes_of_before(release: Path, folder: Path) -> None:
    first = renewed(release, folder, table("a", "b"), LEAVING)
    second = renewed(release, folder, table("c"), ["a"])
    third = renewed(release, folder, table("a", "i003"), [])
    assert codes(second) == codes(third)
    assert {name: codes(third)[name] for name in codes(first)} == codes(first)
    assert set(third.semantic_ids.item_ids) - set(second.semantic_ids.item_ids) == {"a", "i003"}


def test_the_same_call_again_seals_the_same_catalogue(release: Path, folder: Path) -> None:
    hashes = {renew_catalogue(release, folder, arriving=table("a"), leaving=LEAVING).hash for _ in range(2)}
    assert len(hashes) == 1
    assert len(list(folder.iterdir())) == 4


def test_rows_of_known_items_are_replaced_and_orders_stay_where_none_are_told(release: Path, folder: Path) -> None:
    catalogue = renewed(release, folder, table("i020", "a", category=["c9", "c9"]), [])
    rows = {row["item_id"]: row for row in catalogue.items.to_pylist()}
    former = {row["item_id"]: row for row in items().to_pylist()}
    assert rows["i020"] == {"item_id": "i020", "text": "new i020", "category": "c9", "orders": former["i020"]["orders"]}
    assert rows["a"] == {"item_id": "a", "text": "new a", "category": "c9", "orders": 0}
    assert rows["i021"] == former["i021"]
    assert list(rows) == catalogue.semantic_ids.item_ids.tolist()


def test_the_command_line_seals_what_two_tables_say_and_names_what_is_wrong(release: Path, folder: Path) -> None:
    arriving, leaving = release.parent / "new.csv", release.parent / "gone.parquet"
    arriving.write_text("item_id,text,category\n007,a licence,c1\n")
    pq.write_table(pa.table({"item_id": LEAVING}), leaving)
    asked = ["catalogue", str(release), str(arriving), "--output", str(folder)]
    done = CliRunner().invoke(app, [*asked, "--leaving", str(leaving)])
    assert done.exit_code == 0, done.output
    manifest = read_catalogue_manifest(folder)
    assert manifest is not None
    assert (manifest.items, manifest.departed) == (ITEMS - 2, 3)
    assert manifest.hash in done.output
    arriving.write_text("item_id,colour\n008,red\n")
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 1
    assert "column 'colour' is none of" in refused.output


def test_item_ids_of_a_csv_are_text(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_id,text\n007,a licence\n")
    assert read_items(tmp_path / "new.csv")["item_id"].to_pylist() == ["007"]


@pytest.mark.parametrize(
    ("arriving", "leaving", "message"),
    [
        (table("a", colour=["red"]), [], "column 'colour' is none of"),
        (table("a").drop_columns("text"), [], "have no 'text'"),
        (table("a", "a"), [], "comes twice"),
        (table("a"), ["never"], "item 'never' cannot leave"),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_the_folder_stays(
    release: Path, folder: Path, arriving: pa.Table, leaving: list[str], message: str
) -> None:
    before = renew_catalogue(release, folder, arriving=table("b"))
    with pytest.raises(ValueError, match=message):
        renew_catalogue(release, folder, arriving=arriving, leaving=leaving)
    assert read_catalogue_manifest(folder) == before


def test_a_catalogue_of_another_release_or_an_edited_one_is_refused(release: Path, folder: Path) -> None:
    manifest = renew_catalogue(release, folder, arriving=table("a"))
    with pytest.raises(CatalogueRefused, match="served is another: codes of one tokenizer mean nothing to another"):
        load_catalogue(folder, manifest, release_hash="another")
    written = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(written.replace(f'"items": {ITEMS + 1}', '"items": 5'))
    with pytest.raises(CatalogueRefused, match="does not match its own hash"):
        read_catalogue_manifest(folder)


def test_items_in_another_order_than_their_codes_are_refused() -> None:
    shuffled = items().take(np.arange(ITEMS)[::-1])
    with pytest.raises(ValueError, match="in their order"):
        ServedCatalogue.of(semantic_ids(), shuffled)
