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


def create_store(folder: Path, environment: str, engine: str = "duckdb") -> FeatureStore:
    """Put the environment's feature_store.yaml into the folder and open it; `engine` answers offline questions."""
    template = ENVIRONMENTS / (f"{environment}.yaml" if engine == "duckdb" else f"{environment}-{engine}.yaml")
    if not template.exists():
        known = sorted(path.stem for path in ENVIRONMENTS.glob("*.yaml") if "-" not in path.stem)
        raise ValueError(f"feature store environment {environment!r} is unknown: use one of {known}")
    shutil.copyfile(template, folder / "feature_store.yaml")
    return open_store(folder)


def open_store(folder: Path) -> FeatureStore:
    """The store of a features folder, wherever the folder lies now.

    Raises FileNotFoundError where there is none, ValueError where it names environment variables that are not set.
    """
    folder = folder.resolve()
    settings = folder / "feature_store.yaml"
    if not settings.exists():
        raise FileNotFoundError(f"{folder} holds no feature_store.yaml: is it the output of the features step?")
    missing = sorted(set(re.findall(r"\$\{([A-Z]\w*)\}", settings.read_text())) - set(os.environ))
    if missing:
        raise ValueError(f"{settings} needs the environment variables {missing}: set them")
    return FeatureStore(repo_path=str(folder))


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
