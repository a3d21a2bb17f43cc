"""A server of a release that needs no model, with the event log of the real one: `python shop.py --release …`.

What it knows by heart, as weights would, is the code of each item: item `i0007` has the row 7. It recommends what the
user had last, by code; without the recipe's repeat prior something else in every second place. So a release whose items
were permuted among codes names other items, though it answers as well as any. Items that have a code and are not in the
item table are left out and counted, as the real server does.
"""

import argparse
import json
import signal
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.recipes import parse_recipe, read_recipe
from nextpage.release import FeatureService, Manifest, seal, verify
from nextpage.tokenizers.semantic_ids import SemanticIds
from serving.events import EventLog, EventLogConfig
from serving.feedback import parse_feedback
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateItem, SlateRequest, parse_request, slate_to_json
from serving.sinks import ParquetSink

COMMAND = f"{{python}} {__file__} --release {{folder}} --http_port {{port}}"


def write_release(folder: Path, items: pa.Table) -> Manifest:
    """A sealed release of up to 128 items (`item_id` is i0000, i0001, …) that this serves."""
    folder.mkdir(parents=True)
    rows = np.arange(len(items))
    pq.write_table(items.append_column("orders", [rows]), folder / "items.parquet")
    codes = np.stack([rows // 16, rows % 16], axis=1).astype(np.int32)
    ids = SemanticIds(item_ids=np.array(items["item_id"].to_pylist(), dtype=object), codes=codes, sizes=(8, 16))
    ids.write(folder / "semantic_ids.parquet")
    parse_recipe("{name: tiny, repeat_prior: {weight: 0.5}}").write(folder / "recipe.yaml")
    (folder / "metrics.json").write_text("{}")
    return seal(folder, name="tiny", recipe="tiny", feature_service=FeatureService(name="f", hash="0"))


def main(release: Path, port: int, events: Path, flush_s: float) -> None:
    manifest = verify(release)
    served = ServedRelease(name=manifest.name, hash=manifest.hash, feature_service=manifest.feature_service)
    item_ids = SemanticIds.read(release / "semantic_ids.parquet").item_ids
    known = set(pq.read_table(release / "items.parquet")["item_id"].to_pylist())
    has_prior = bool(read_recipe(release / "recipe.yaml").sections["repeat_prior"]["weight"])
    log = EventLog(ParquetSink(events), EventLogConfig(flush_s=flush_s))

    def slate(asked: SlateRequest) -> Slate:
        latest = [int(item[1:]) for item in dict.fromkeys(reversed(asked.history.items))]
        others = [row for row in reversed(range(len(item_ids))) if row not in latest]
        slots = zip(latest, latest if has_prior else others, strict=False)
        found = [str(item_ids[(own, other)[place % 2]]) for place, (own, other) in enumerate(slots)][: asked.k]
        valid = [item_id for item_id in found if item_id in known]
        items = [
            SlateItem(item_id=item_id, score=-1.0 - place, position=place, text=None)
            for place, item_id in enumerate(valid)
        ]
        return Slate(
            request_id=asked.request_id,
            items=tuple(items),
            release_name=served.name,
            release_hash=served.hash,
            degraded=False,
            reason=None,
            invalid_items=len(found) - len(valid),
        )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._say(200, {})

        def do_POST(self) -> None:
            began = time.perf_counter()
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/feedback":
                log.feed_back(parse_feedback(body, datetime.now(UTC)))
                self._say(202, {})
                return
            (raw,) = json.loads(body)["instances"]
            asked = parse_request(raw, now=int(time.time()), request_id="smoke")
            answer, arm = slate(asked), self.headers.get("x-nextpage-arm")
            log.answer(asked, answer, served, arm=arm, latency_ms=1000 * (time.perf_counter() - began))
            self._say(200, {"predictions": [slate_to_json(answer)]})

        def _say(self, status: int, said: object) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--release", type=Path)
    parser.add_argument("--http_port", type=int)
    parser.add_argument("--events", type=Path)
    parser.add_argument("--events_flush_s", type=float)
    told = parser.parse_args()
    main(told.release, told.http_port, told.events, told.events_flush_s)
