"""What the feature service of a release promises, in plain values: known without importing Feast.

A model learnt on histories of one form must not be served with another. The release records the service's name and the
hash of its definition; `feature_repo.online.OnlineFeatures` refuses a store whose service hashes differently.
"""

import hashlib
import json

from nextpage.interactions.log import BEHAVIOURS

HISTORY_FIELDS = {
    "history_item": "Array(String)",
    "history_behaviour": "Array(Int64)",
    "history_page": "Array(Int64)",
    "history_time": "Array(Int64)",
}
"""Lists of one length, oldest event first: item id, place in BEHAVIOURS, page, seconds since 1970."""


def service_name(version: str) -> str:
    """The service that a release's model reads."""
    return f"recommender_{version}"


def service_hash(*, events: int) -> str:
    """SHA-256 of the definition of a history: its key, fields, types, behaviours' codes and length."""
    definition = {
        "entity": "user_id",
        "fields": HISTORY_FIELDS,
        "behaviours": BEHAVIOURS,
        "events": events,
    }
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
