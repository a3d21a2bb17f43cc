import json
from pathlib import Path

import pytest

from nextpage.interactions.loaders import LOADERS, Source, load


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"source 'netflix' is unknown: use one of {', '.join(LOADERS)}"):
        load(Source(name="netflix"), tmp_path)


def test_an_unknown_option_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no option 'homes': use households, exposed_per_page"):
        load(Source(options={"homes": 3}), tmp_path)


def test_a_failed_load_leaves_the_old_dataset_untouched(tmp_path: Path) -> None:
    source = tmp_path / "Beauty.sequences.txt"
    source.write_text("1 10 11\n")
    texts = tmp_path / "Beauty.item_text.tsv"
    texts.write_text("item_id\tasin\ttext_id\tlexical_id\tattributes\n10\tA\ta\tb\tc\n11\tB\ta\tb\tc\n")
    amazon = Source(name="amazon", options={"folder": str(tmp_path)})
    folder = load(amazon, tmp_path / "out").folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(before) == ["interactions.parquet", "items.parquet", "split.json", "users.parquet"]
    source.write_text("1 10 11 10\n")
    texts.write_text("no columns\n")  # fails after the interactions were made
    with pytest.raises(Exception, match="text_id"):
        load(amazon, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_split_is_written_beside_the_log(tmp_path: Path) -> None:
    (tmp_path / "Beauty.sequences.txt").write_text("1 10\n")
    (tmp_path / "Beauty.item_text.tsv").write_text("item_id\tasin\ttext_id\tlexical_id\tattributes\n10\tA\ta\tb\tc\n")
    dataset = load(Source(name="amazon", options={"folder": str(tmp_path)}), tmp_path / "out")
    assert json.loads((dataset.folder / "split.json").read_text())["kind"] == "leave_one_out"
