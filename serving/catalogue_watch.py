"""Another catalogue without another server: a folder is watched, and what is put there is served from then on.

What it may hold, and how it is replaced while it is read: nextpage/catalogue_folder.py. A catalogue that is refused is
counted and logged, and the one before is served on; it is tried again, as it may have been copied in part.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nextpage.catalogue_folder import load_catalogue, read_catalogue_manifest
from nextpage.decoding.served_catalogue import ServedCatalogue
from serving.metrics import CATALOGUE, CATALOGUE_ITEMS, CATALOGUE_SINCE, CATALOGUES

log = logging.getLogger("nextpage.serving")


class CatalogueWatch:
    """Looks once when it is made, so that a server starts with what is there, and then in a thread of its own.

    `swap` is called in that thread. When the metrics name a catalogue, what is asked from then on is answered from it.
    """

    def __init__(
        self, folder: Path, release_hash: str, swap: Callable[[ServedCatalogue], None], every_s: float = 2.0
    ) -> None:
        self._folder = folder
        self._release_hash = release_hash
        self._swap = swap
        self._every_s = every_s
        self._served = self._said = ""
        self._ended = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._watch, name="catalogue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        try:
            manifest = read_catalogue_manifest(self._folder)
            if manifest is not None and manifest.hash != self._served:
                self._swap(load_catalogue(self._folder, manifest, release_hash=self._release_hash))
                self._served, self._said = manifest.hash, ""
                CATALOGUE.clear()
                CATALOGUE.labels(manifest.hash).set(1)
                CATALOGUE_ITEMS.set(manifest.items)
                CATALOGUE_SINCE.set(time.time())
                CATALOGUES.labels("served").inc()
        except Exception as refusal:  # whatever is put there, who asks must be answered
            if str(refusal) != self._said:
                self._said = str(refusal)
                log.warning("catalogue refused: %s", refusal)
                CATALOGUES.labels("refused").inc()
