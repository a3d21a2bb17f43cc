"""A server of one release that answers in no time: `python stub_server.py PORT RELEASE [HASH]`.

What the release's name ends with makes trouble on purpose: `-empty` answers no items, `-dies` ends at once.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def main(port: int, release: str, release_hash: str) -> None:
    if release.endswith("-dies"):
        sys.exit(f"{release} has no weights")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            items = [] if release.endswith("-empty") else [{"item_id": "milk"}]
            slate = {"items": items, "release": {"name": release, "hash": release_hash}, "degraded": False}
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.dumps({"predictions": [slate]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else f"hash-{sys.argv[2]}")
