"""The online store as the transformer uses it: one user's history in about a millisecond, and new events into it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from feature_repo.definitions import PUSH_SOURCE
from feature_repo.merge import Event, History, merge
from feature_repo.service import service_name
from feature_repo.store import open_store


class OnlineStoreDown(RuntimeError):
    """The online store does not answer. Whoever serves falls back to what needs no history."""


class ServiceMismatch(ValueError):
    """The store's feature service is not the one that the release was made with."""


class OnlineFeatures:
    """Reads and writes the online store of a features folder. May be shared by threads: calls take turns.

    Let one process push a user's events: reading, merging and writing back is no transaction between processes.
    """

    def __init__(self, repo_path: Path, *, version: str, expected_hash: str | None = None) -> None:
        """Open the store for the release `version`; `expected_hash` is the service hash that the release records.

        Raises FileNotFoundError where the folder holds no store, OnlineStoreDown where its registry does not answer,
        and ServiceMismatch where the release's service is not in it or hashes differently.
        """
        self._store = open_store(repo_path)
        self._lock = threading.Lock()
        with _answers("registry"):
            self._services = {service.name: service for service in self._store.list_feature_services()}
        self._recommender, self._users, self._items = (
            self._service(name) for name in (service_name(version), f"users_{version}", f"items_{version}")
        )
        self.service_hash: str = self._recommender.tags["hash"]
        self.events = int(self._recommender.tags["events"])
        if expected_hash is not None and expected_hash != self.service_hash:
            raise ServiceMismatch(
                f"feature service {self._recommender.name!r} has hash {self.service_hash[:12]}, the release expects "
                f"{expected_hash[:12]}: point it at the features it was trained on, or train again"
            )

    def history(self, user_id: str) -> History | None:
        """The user's last events, oldest first, as lists by HISTORY_FIELDS' names; None for a user never seen."""
        with self._lock:
            return self._read(self._recommender, user_id=user_id)

    def user_profile(self, user_id: str) -> dict[str, Any] | None:
        """Attributes and counts of a user at the last materialisation; None for a user not known then."""
        with self._lock:
            return self._read(self._users, user_id=user_id)

    def item_profile(self, item_id: str) -> dict[str, Any] | None:
        """Attributes and counts of an item at the last materialisation; None for an item not known then."""
        with self._lock:
            return self._read(self._items, item_id=item_id)

    def push(self, events: Iterable[Event]) -> None:
        """Put events into the histories of their users (see `merge`); `history` shows them on return."""
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user_id, []).append(event)
        if not by_user:
            return
        with self._lock:
            rows = [
                {
                    "user_id": user_id,
                    "event_timestamp": datetime.now(UTC),
                    **merge(self._read(self._recommender, user_id=user_id), new, last=self.events),
                }
                for user_id, new in by_user.items()
            ]
            with _answers("online store"):
                self._store.push(PUSH_SOURCE, pd.DataFrame(rows))
            # Feast forgets its resolved services with each push; whoever reads next should not pay for that.
            self._read(self._recommender, user_id=rows[0]["user_id"])

    def _service(self, name: str) -> Any:
        if name not in self._services:
            raise ServiceMismatch(
                f"feature service {name!r} is not in the store, which has {sorted(self._services)}: "
                "was the features step run with the release's version?"
            )
        return self._services[name]

    def _read(self, service: Any, **key: str) -> dict[str, Any] | None:
        with _answers("online store"):
            found = self._store.get_online_features(features=service, entity_rows=[key]).to_dict()
        row = {name: values[0] for name, values in found.items() if name not in key}
        return None if all(value is None for value in row.values()) else row


@contextmanager
def _answers(part: str) -> Iterator[None]:
    """Turn whatever a store's client raises (each has errors of its own) into OnlineStoreDown."""
    try:
        yield
    except Exception as error:
        raise OnlineStoreDown(f"the feature store's {part} does not answer: {error}") from error
