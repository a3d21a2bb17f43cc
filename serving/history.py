"""Where a user's history comes from: the online side of the feature store.

The serving process may read it over HTTP from Feast's feature server, or in process through a callable that its starter
brings (`feature_repo` is a sibling of this package, so neither imports the other).
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from nextpage.release import FeatureService
from serving.schema import History

COLUMNS = ("history_item", "history_behaviour", "history_page", "history_time")


class HistorySource(Protocol):
    """`history` may raise anything and may take for ever: its caller bounds it."""

    service: FeatureService

    async def history(self, user_id: str) -> History | None:
        """The last events of a user in time order; None for a user that the store does not know."""
        ...


class InProcessHistory:
    """Reads through a blocking callable, `user_id` to the columns of the history view or None."""

    def __init__(self, lookup: Callable[[str], Mapping[str, Any] | None], service: FeatureService) -> None:
        self.service = service
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="history")

    async def history(self, user_id: str) -> History | None:
        loop = asyncio.get_running_loop()
        columns = await loop.run_in_executor(self._threads, self._lookup, user_id)
        return None if columns is None else history_of(columns)


class FeastServerHistory:
    """Reads from Feast's feature server at `url`."""

    def __init__(self, url: str, service: FeatureService) -> None:
        import httpx

        self.service = service
        self._client = httpx.AsyncClient(base_url=url, timeout=5.0)

    async def history(self, user_id: str) -> History | None:
        answer = await self._client.post(
            "/get-online-features",
            json={"feature_service": self.service.name, "entities": {"user_id": [user_id]}},
        )
        answer.raise_for_status()
        said = answer.json()
        columns = {}
        for name, result in zip(said["metadata"]["feature_names"], said["results"], strict=True):
            if result["statuses"][0] == "PRESENT":
                columns[name] = result["values"][0]
        return history_of(columns) if "history_item" in columns else None


def history_of(columns: Mapping[str, Any]) -> History:
    """The history in a row of the feature store; a null list is an empty one."""
    items, behaviours, pages, times = (tuple(columns.get(name) or ()) for name in COLUMNS)
    if not len(items) == len(behaviours) == len(pages) == len(times):
        raise ValueError(
            f"the feature store's lists differ in length: {len(items)} items, {len(behaviours)} behaviours, "
            f"{len(pages)} pages, {len(times)} times"
        )
    return History(items=items, behaviours=behaviours, pages=pages, times=times)


def require_same_features(trained: FeatureService, offered: FeatureService) -> None:
    """Raise ValueError unless the store offers what the release was trained on."""
    if trained != offered:
        raise ValueError(
            f"the release was trained on feature service {trained.name!r} with hash {trained.hash}, the feature store "
            f"offers {offered.name!r} with hash {offered.hash}: serve the release with the features it was made from"
        )
