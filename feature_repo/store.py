"""A Feast store in a folder: opened, registered, materialised."""

import contextlib
import io
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ibis
from feast import FeatureStore

ENVIRONMENTS = Path(__file__).parent / "environments"
"""A feature_store.yaml for each place where the platform runs, local and cluster, and for each on Spark."""

SETTINGS = "feature_store.yaml"


def create_store(folder: Path, environment: str, engine: str = "duckdb") -> FeatureStore:
    """Put the environment's feature_store.yaml into the folder and open it.

    With Spark as `engine`, offline questions go there, by settings of their own beside that file: whoever only reads
    online opens the folder without Spark.
    """
    known = sorted(path.stem for path in ENVIRONMENTS.glob("*.yaml") if "-" not in path.stem)
    if environment not in known:
        raise ValueError(f"feature store environment {environment!r} is unknown: use one of {known}")
    shutil.copyfile(ENVIRONMENTS / f"{environment}.yaml", folder / SETTINGS)
    if engine == "duckdb":
        return open_store(folder)
    settings = f"{engine}.yaml"
    shutil.copyfile(ENVIRONMENTS / f"{environment}-{engine}.yaml", folder / settings)
    return open_store(folder, settings)


def open_store(folder: Path, settings: str = SETTINGS) -> FeatureStore:
    """The store of a features folder, wherever the folder lies now.

    Raises FileNotFoundError where there is none, ValueError where it names environment variables that are not set.
    """
    folder = folder.resolve()
    path = folder / settings
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {settings}: is it the output of the features step?")
    missing = sorted(set(re.findall(r"\$\{([A-Z]\w*)\}", path.read_text())) - set(os.environ))
    if missing:
        raise ValueError(f"{path} needs the environment variables {missing}: set them")
    return FeatureStore(repo_path=str(folder), fs_yaml_file=path)


@contextlib.contextmanager
def offline(store: FeatureStore) -> Iterator[None]:
    """Work in the store's folder: Feast's DuckDB store reads a source's relative path from the working directory.

    The working directory belongs to the process: not for use beside other threads. Online reads do not need it.
    """
    with contextlib.chdir(store.repo_path), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # ibis calls DuckDB by an old name, each batch
        try:
            yield
        finally:
            ibis.options.default_backend = None  # Feast's DuckDB, which would outlive its use and complain at exit


def materialise(store: FeatureStore, end: int) -> None:
    """Copy the snapshots of `end` (seconds since 1970), the last of every user and item, to the online store."""
    moment = datetime.fromtimestamp(end, UTC)
    with offline(store), contextlib.redirect_stdout(io.StringIO()):  # Feast prints its own progress, in colours
        store.materialize(start_date=moment, end_date=moment + timedelta(seconds=1))
