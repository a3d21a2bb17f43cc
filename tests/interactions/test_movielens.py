import hashlib
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pyarrow.parquet as pq
import pytest

from nextpage.interactions import movielens
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset

GENRES = "0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0"  # Action, Comedy
NONE = "|".join("0" * 19)

HUNDRED_K = {
    "u.data": "1\t10\t5\t1000\n1\t11\t3\t1000\n1\t12\t4\t1010\n2\t10\t2\t900\n",
    "u.item": f'10|Café (1995)|01-Jan-1995||http://x|{GENRES}\n11|Toy|||http://x|{NONE}\n12|"Q"|||x|{NONE}\n',
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
}
ONE_M = {
    "ratings.dat": "1::10::5::1000\n1::11::3::1000\n1::12::4::1010\n2::10::2::900\n",
    "movies.dat": '10::Café (1995)::Action|Comedy\n11::Toy::Drama\n12::"Q"::Drama\n',
    "users.dat": "1::M::24::12::85711\n2::F::53::7::94043\n",
}
LATEST = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5.0,1000\n1,11,3.5,1000\n1,12,4.0,1010\n2,10,2.0,900\n",
    "movies.csv": 'movieId,title,genres\n10,Café (1995),Action|Comedy\n11,"Toy, The",Drama\n12,"""Q""",Drama\n',
}
ATOMIC = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t10\t5\t1000\n1\t11\t3\t1000\n1\t12\t4\t1010\n2\t10\t2\t900\n",
    "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    '10\tCafé (1995)\t1995\tAction Comedy\n11\tToy\t1995\tDrama\n12\t"Q"\t\tDrama\n',
    "ml.user": "user_id:token\tage:token\tgender:token\n1\t24\tM\n2\t53\tF\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        encoding = "latin-1" if files in (HUNDRED_K, ONE_M) else "utf-8"
        (folder / name).write_bytes(text.encode(encoding))
    return folder


def loaded(tmp_path: Path, path: Path, **options: object) -> Dataset:
    return load(Source(name="movielens", options={"path": str(path)} | options), tmp_path / "out")


@pytest.mark.parametrize("files", [HUNDRED_K, ONE_M, LATEST, ATOMIC], ids=["100k", "1m", "latest", "atomic"])
def test_every_layout_becomes_the_same_pages(tmp_path: Path, files: dict[str, str]) -> None:
    dataset = loaded(tmp_path, write(tmp_path / "ml", files))
    log = pq.read_table(dataset.interactions)
    assert log.schema.equals(INTERACTION_SCHEMA)
    assert [
        (row["user_id"], row["page"], row["position"], row["item_id"], row["behaviour"], row["timestamp"].timestamp())
        for row in log.to_pylist()
    ] == [
        ("1", 0, 0, "10", "ordered", 1000),
        ("1", 0, 1, "11", "clicked", 1000),
        ("1", 1, 0, "12", "ordered", 1010),
        ("2", 0, 0, "10", "clicked", 900),
    ]
    assert log["value"].to_pylist()[0] == 5.0
    first = pq.read_table(dataset.items).to_pylist()[0]
    assert (first["text"], first["category"], first["genres"]) == (
        "Café (1995) Action Comedy",
        "Action",
        "Action, Comedy",
    )
    assert pq.read_table(dataset.users)["user_id"].to_pylist() == ["1", "2"]
    assert dataset.split().kind == "leave_one_out"


@pytest.mark.parametrize("files", [HUNDRED_K, ONE_M, ATOMIC], ids=["100k", "1m", "atomic"])
def test_users_bring_their_age_and_gender(tmp_path: Path, files: dict[str, str]) -> None:
    users = pq.read_table(loaded(tmp_path, write(tmp_path / "ml", files)).users).to_pylist()
    assert [(user["age"], user["gender"]) for user in users] == [("24", "M"), ("53", "F")]


def test_a_session_lasts_until_a_longer_pause(tmp_path: Path) -> None:
    source = write(tmp_path / "ml", HUNDRED_K)
    (source / "u.data").write_text("".join(f"1\t{10 + n % 3}\t5\t{t}\n" for n, t in enumerate([0, 9, 20, 31, 50])))
    log = pq.read_table(loaded(tmp_path, source, session_seconds=11).interactions).to_pylist()
    pages = [(row["page"], row["item_id"], row["timestamp"].timestamp()) for row in log]
    assert pages == [(0, "10", 0), (0, "11", 0), (0, "12", 0), (1, "11", 50)]
    # the second rating of movie 10, in the same session, adds its value to the first
    assert [row["value"] for row in log] == [10.0, 5.0, 5.0, 5.0]


def test_what_counts_as_liked_and_a_time_split_can_be_chosen(tmp_path: Path) -> None:
    dataset = loaded(
        tmp_path,
        write(tmp_path / "ml", HUNDRED_K),
        liked=3,
        validation_start="1970-01-01 00:16:00",
        test_start="1970-01-01 00:16:45",
    )
    assert pq.read_table(dataset.interactions)["behaviour"].to_pylist().count("ordered") == 3
    assert dataset.split().test_start == datetime(1970, 1, 1, 0, 16, 45, tzinfo=UTC)


def test_an_edition_is_downloaded_checked_and_read_from_its_zip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "ml", ONE_M)
    archive = tmp_path / "ml-1m.zip"
    with ZipFile(archive, "w") as zipped:
        for file in source.iterdir():
            zipped.write(file, f"ml-1m/{file.name}")
    monkeypatch.setitem(movielens.EDITIONS, "ml-1m", (archive.as_uri(), "md5:0123"))
    with pytest.raises(ValueError, match=r"ml-1m\.zip has md5"):
        loaded(tmp_path, tmp_path / "data", edition="ml-1m")
    right = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(movielens.EDITIONS, "ml-1m", (archive.as_uri(), right))
    dataset = loaded(tmp_path, tmp_path / "data", edition="ml-1m")
    assert pq.read_metadata(dataset.interactions).num_rows == 4
    assert (tmp_path / "data" / "ml-1m.zip").exists()


def test_a_folder_without_ratings_and_an_unknown_edition_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds none of u\.data, ratings\.dat"):
        loaded(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="edition 'ml-9m' has no known address: use one of ml-100k, ml-1m"):
        loaded(tmp_path, tmp_path, edition="ml-9m")
