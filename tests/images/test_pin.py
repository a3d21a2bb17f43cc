"""Digests of bases, asked of a registry on this machine that wants a token, as Docker Hub does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from images.pin import main

DIGEST = f"sha256:{'ab' * 32}"


class Registry(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer abc":
            self.send_response(401)
            realm = f"http://{self.headers['Host']}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="it",scope="repository:python:pull"')
        elif self.path == "/v2/library/python/manifests/3.11" and "image.index.v1+json" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path == "/token?service=it&scope=repository%3Apython%3Apull"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"token": "abc"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_digest_is_written_beside_its_tag_and_the_rest_of_the_file_stays(registry: str, tmp_path: Path) -> None:
    bases = tmp_path / "bases.yaml"
    line = f'python: {{image: "{registry}/library/python:3.11", digest: "%s"}}\n'
    bases.write_text("# why\n" + line % "")
    main(bases)
    assert bases.read_text() == "# why\n" + line % DIGEST
    bases.write_text(line % f"sha256:{'00' * 32}")
    main(bases)
    assert bases.read_text() == line % DIGEST


def test_a_tag_that_is_not_there_ends_with_its_name_and_changes_nothing(registry: str, tmp_path: Path) -> None:
    bases = tmp_path / "bases.yaml"
    bases.write_text(text := f'python: {{image: "{registry}/library/python:3.99", digest: ""}}\n')
    with pytest.raises(SystemExit, match=r"library/python:3\.99.*is its name in images/bases\.yaml right\?"):
        main(bases)
    assert bases.read_text() == text
