"""MovieLens, as its zip files or folders (100K, 1M, latest), and as RecBole's atomic files.

A rating is one event: `ordered` at `liked` stars or more, else `clicked`, with the stars as value. Ratings that one
user gave in the same second are one page (`session_seconds` widens that to a pause). Item text is title and genres,
category the first genre. The split leaves out each user's last page as test and the one before it as validation, or
is one of time where `validation_start` and `test_start` are given.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import duckdb

from nextpage.interactions.downloads import fetch
from nextpage.interactions.log import Split
from nextpage.interactions.paging import make_interactions, pages_by_session

EDITIONS = {
    # address, and the checksum published beside it
    "ml-100k": (
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "md5:0e33842e24a9c977be4e0107933c0723",
    ),
    "ml-1m": (
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "md5:c4d9eecfca2ab87c1945afe126590906",
    ),
}

GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


@dataclass(frozen=True, kw_only=True)
class MovieLens:
    """`path`: a zip file, or a folder of files; with `edition` (see EDITIONS) that one is downloaded into it first."""

    path: str
    edition: str | None = None
    liked: float = 4.0
    session_seconds: float = 0.0
    validation_start: str | None = None
    test_start: str | None = None


def read_movielens(config: MovieLens, connection: duckdb.DuckDBPyConnection) -> Split:
    """Define `interactions`, `items` and `users` in the connection."""
    path = Path(config.path)
    if config.edition is not None:
        if config.edition not in EDITIONS:
            raise ValueError(f"edition {config.edition!r} has no known address: use one of {', '.join(EDITIONS)}")
        path = fetch(*EDITIONS[config.edition], path)
    with TemporaryDirectory() as unpacked:
        if path.suffix == ".zip":
            with ZipFile(path) as archive:
                archive.extractall(unpacked)
            path = Path(unpacked)
        _read_files(path, connection)
    connection.execute(
        """
        create table events as
        select user_id, null::varchar as request_id, item_id,
               case when coalesce(rating, ?) >= ? then 'ordered' else 'clicked' end as behaviour,
               to_timestamp(moment) as timestamp, rating as value, null::varchar as scenario,
               null::bigint as position
        from ratings
        """,
        [config.liked, config.liked],
    )
    pages_by_session(connection, config.session_seconds)
    make_interactions(connection)
    connection.execute(
        """
        create view items as
        select item_id, concat_ws(' ', title, array_to_string(genres, ' ')) as text, genres[1] as category,
               array_to_string(genres, ', ') as genres, title
        from movies
        """
    )
    if config.validation_start is None and config.test_start is None:
        return Split(kind="leave_one_out")
    return Split(kind="time", validation_start=_moment(config.validation_start), test_start=_moment(config.test_start))


def _moment(text: str | None) -> datetime | None:
    """A moment without a time zone is one of UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_files(folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Tables `ratings` (user_id, item_id, rating, moment), `movies` (item_id, title, genres) and `users`."""
    for name, read in (
        ("u.data", _read_100k),
        ("ratings.dat", _read_dat),
        ("ratings.csv", _read_csv),
        ("*.inter", _read_atomic),
    ):
        for found in sorted(folder.rglob(name)):
            read(found, connection)
            return
    raise FileNotFoundError(
        f"{folder} holds none of u.data, ratings.dat, ratings.csv, *.inter: set option 'path' to the unpacked "
        "folder or its zip, or option 'edition' to download one"
    )


def _table(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, columns: tuple[str, ...], delimiter: str
) -> None:
    """A table of strings from a Latin-1 file without a header."""
    connection.execute(
        f"""create table {name} as from read_csv($path, delim = $delimiter, header = false, quote = '',
            encoding = 'latin-1', columns = {dict.fromkeys(columns, "varchar")})""",
        {"path": str(path), "delimiter": delimiter},
    )


def _read_100k(data: Path, connection: duckdb.DuckDBPyConnection) -> None:
    _table(connection, "raw_ratings", data, ("user_id", "item_id", "rating", "moment"), "\t")
    flags = tuple(f"genre_{number}" for number in range(len(GENRES_100K)))
    columns = ("item_id", "title", "date", "video", "url", *flags)
    _table(connection, "raw_movies", data.with_name("u.item"), columns, "|")
    genres = ", ".join(f"case when {flag} = '1' then $g{place} end" for place, flag in enumerate(flags))
    connection.execute(
        f"""create table movies as select item_id, title,
            list_filter([{genres}], lambda genre: genre is not null) as genres from raw_movies""",
        {f"g{place}": name for place, name in enumerate(GENRES_100K)},
    )
    _table(connection, "users", data.with_name("u.user"), ("user_id", "age", "gender", "occupation", "zip"), "|")
    _read_ratings(connection)


def _read_dat(data: Path, connection: duckdb.DuckDBPyConnection) -> None:
    _table(connection, "raw_ratings", data, ("user_id", "item_id", "rating", "moment"), "::")
    _table(connection, "raw_movies", data.with_name("movies.dat"), ("item_id", "title", "genres"), "::")
    _split_genres(connection)
    users = data.with_name("users.dat")
    if users.exists():
        _table(connection, "users", users, ("user_id", "gender", "age", "occupation", "zip"), "::")
    else:
        connection.execute("create view users as select distinct user_id from raw_ratings")
    _read_ratings(connection)


def _read_csv(data: Path, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        """create table raw_ratings as select "userId" as user_id, "movieId" as item_id, rating,
           "timestamp" as moment from read_csv($path, header = true, all_varchar = true)""",
        {"path": str(data)},
    )
    connection.execute(
        """create table raw_movies as select "movieId" as item_id, title, genres
           from read_csv($path, header = true, all_varchar = true, quote = '"', escape = '"')""",
        {"path": str(data.with_name("movies.csv"))},
    )
    _split_genres(connection)
    connection.execute("create view users as select distinct user_id from raw_ratings")
    _read_ratings(connection)


def _split_genres(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create table movies as select item_id, title, string_split(genres, '|') as genres from raw_movies"
    )


def _read_ratings(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create table ratings as select user_id, item_id, rating::double as rating, moment::double as moment "
        "from raw_ratings"
    )


def _read_atomic(data: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """RecBole's files: tab-separated, `name:type` in the header; ratings and the item and user files may be absent."""
    columns = _atomic(connection, "raw_ratings", data)
    if "timestamp" not in columns:
        raise ValueError(f"{data} has no column 'timestamp', only {', '.join(columns)}: pages need a time")
    rating = "rating" if "rating" in columns else "null"
    connection.execute(
        f"""create table ratings as select user_id, item_id, {rating}::double as rating,
            timestamp::double as moment from raw_ratings"""
    )
    items, users = data.with_suffix(".item"), data.with_suffix(".user")
    if items.exists():
        columns = _atomic(connection, "raw_movies", items)
        title = next((name for name in ("movie_title", "title", "name") if name in columns), "item_id")
        genres = next((name for name in ("class", "genre", "genres", "categories") if name in columns), "''")
        connection.execute(
            f"""create table movies as select item_id, {title} as title,
                list_filter(string_split({genres}, ' '), lambda genre: genre <> '') as genres from raw_movies"""
        )
    else:
        connection.execute(
            "create view movies as select distinct item_id, item_id as title, []::varchar[] as genres from ratings"
        )
    if users.exists():
        _atomic(connection, "users", users)
    else:
        connection.execute("create view users as select distinct user_id from ratings")


def _atomic(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> list[str]:
    """A table of the file's columns as strings, under their names without the types; those names."""
    connection.execute(
        f"create table {name} as from read_csv($path, delim = '\t', header = true, quote = '', all_varchar = true)",
        {"path": str(path)},
    )
    columns = [column for column, *_ in connection.execute(f"describe {name}").fetchall()]
    for column in columns:
        plain = column.split(":")[0]
        if plain != column:
            connection.execute(f'alter table {name} rename "{column}" to "{plain}"')
    return [column.split(":")[0] for column in columns]
