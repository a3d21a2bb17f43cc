"""Catalogues that come and go under a real server while it is asked without a pause."""

import shutil
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

from nextpage.catalogue_folder import write_catalogue
from nextpage.release import read_manifest
from nextpage.renew_catalogue import renew_catalogue
from tests.releases import ITEMS, items, semantic_ids, write_release
from tests.serving.conftest import Server, end, free_port, start
from tests.serving.standin import MODEL

CLIENTS, PAUSE_S, SWAPS = 3, 0.05, 3
HISTORY = {"items": ["i003", "i020", "i007"]}


def start_watching(release: Path, catalogue: Path) -> Server:
    http_port = free_port()
    arguments = ["-m", "serving", f"--release={release}", f"--model_name={MODEL}", f"--catalogue={catalogue}"]
    arguments += [f"--http_port={http_port}", "--enable_grpc=false"]
    return start(arguments, http_port=http_port, grpc_port=0, events=release / "no events")


def eventually(server: Server, line: str) -> None:
    """Wait until the metrics hold a line."""
    for _ in range(400):
        if line in httpx.get(f"{server.url}/metrics").text.splitlines():
            return
        time.sleep(0.05)
    raise AssertionError(f"the metrics never held {line}")


class Client(threading.Thread):
    """Asks for every item there is, again and again."""

    def __init__(self, server: Server, acknowledged: list[str]) -> None:
        super().__init__()
        self.server, self.acknowledged = server, acknowledged
        self.answers: list[tuple[int, int, str, set[str]]] = []  # swaps acknowledged before, status, hash, items
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            before = len(self.acknowledged)
            answer = self.server.predict({"history": HISTORY, "k": 200, "filters": {"category": ["c0", "c1", "new"]}})
            slate = answer.json()["predictions"][0] if answer.status_code == 200 else {"items": []}
            shown = {item["item_id"] for item in slate["items"]}
            self.answers.append((before, answer.status_code, slate.get("catalogue", {}).get("hash", ""), shown))
            time.sleep(PAUSE_S)


def test_swaps_under_load_fail_no_request_and_every_answer_is_of_one_catalogue_that_was_not_yet_replaced(
    tmp_path: Path,
) -> None:
    release, folder = tmp_path / "release", tmp_path / "catalogue"
    write_release(release)
    server = start_watching(release, folder)
    hashes, there, acknowledged = [""], [{f"i{row:03d}" for row in range(ITEMS)}], []
    clients = [Client(server, acknowledged) for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.start()
        for swap in range(SWAPS):
            come, go = {f"new{swap}a", f"new{swap}b"}, {f"i{10 * swap + place:03d}" for place in range(5)}
            arriving = pa.table({"item_id": sorted(come), "text": sorted(come), "category": ["new"] * 2})
            there.append(there[-1] - go | come)
            hashes.append(renew_catalogue(release, folder, arriving=arriving, leaving=sorted(go)).hash)
            eventually(server, f'nextpage_catalogue_info{{hash="{hashes[-1]}"}} 1.0')
            acknowledged.append(hashes[-1])
        time.sleep(0.5)
    finally:
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join()
        end(server)
    answers = [answer for client in clients for answer in client.answers]
    assert {status for _, status, _, _ in answers} == {200}
    assert {found for _, _, found, _ in answers} == set(hashes)
    for before, _, found, shown in answers:
        number = hashes.index(found)
        assert number >= before
        assert shown == there[number]


def test_what_is_no_catalogue_of_the_release_is_refused_and_the_one_before_is_served_on(tmp_path: Path) -> None:
    release, folder = tmp_path / "release", tmp_path / "catalogue"
    write_release(release)
    arriving = pa.table({"item_id": ["new"], "text": ["new"]})
    first = renew_catalogue(release, folder, arriving=arriving)
    server = start_watching(release, folder)
    try:
        assert server.slate(history=HISTORY)["catalogue"] == {"hash": first.hash}
        put_catalogue(tmp_path / "one", folder, release_hash="another")
        eventually(server, 'nextpage_catalogues_total{fate="refused"} 1.0')
        assert server.slate(history=HISTORY)["catalogue"] == {"hash": first.hash}
        put_catalogue(tmp_path / "two", folder, release_hash=read_manifest(release).hash, damaged=True)
        eventually(server, 'nextpage_catalogues_total{fate="refused"} 2.0')
        slate = server.slate(history=HISTORY, k=200)
        assert slate["catalogue"] == {"hash": first.hash}
        assert len(slate["items"]) == ITEMS + 1
    finally:
        end(server)


def put_catalogue(made_in: Path, folder: Path, *, release_hash: str, damaged: bool = False) -> None:
    """Copy a catalogue of the first ten items into a folder that is watched, its manifest last."""
    few, nobody = semantic_ids().only(np.arange(10)), semantic_ids().only(np.arange(0))
    manifest = write_catalogue(
        made_in, release_hash=release_hash, semantic_ids=few, items=items().slice(0, 10), departed=nobody
    )
    if damaged:
        path = manifest.paths(made_in)["items"]
        path.write_bytes(b"0" + path.read_bytes()[1:])
    for path in sorted(made_in.iterdir(), key=lambda path: path.suffix == ".json"):
        shutil.copy(path, folder / path.name)
