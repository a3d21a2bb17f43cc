"""What stands in for S3: its REST calls, as pyarrow's client (the AWS SDK) makes them, on one bucket in memory."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

BUCKET = "/models"
XML = '<?xml version="1.0"?><{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{body}</{name}>'


class Bucket:
    """`objects` by key, in the order in which they came to be; from `dies_after` of them on, writes are refused."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.dies_after = 1_000


def _unchunked(stream: BinaryIO) -> bytes:
    """Of HTTP's chunks, and of the AWS SDK's own within them."""
    body = b""
    while size := int(stream.readline().partition(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():  # trailers
        pass
    return body


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            key = self._key()
            if key and key not in bucket.objects:
                self._say(404)
            else:
                self._say(200, bucket.objects.get(key, b""), told=False)

        def do_GET(self) -> None:
            if self._key():
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                body = bucket.objects[self._key()]
                first, last = (int(asked[1]), int(asked[2])) if asked else (0, len(body))
                self._say(206 if asked else 200, body[first : last + 1])
                return
            prefix = self._query().get("prefix", [""])[0]
            keys = [f"<Contents><Key>{key}</Key></Contents>" for key in bucket.objects if key.startswith(prefix)]
            self._xml("ListBucketResult", f"<KeyCount>{len(keys)}</KeyCount>{''.join(keys)}")

        def do_POST(self) -> None:
            body, key = self._body(), self._key()
            if "uploads" in self._query():
                self._xml("InitiateMultipartUploadResult", f"<UploadId>{key}</UploadId>")
            elif b"CompleteMultipartUpload" in body:
                bucket.objects[key] = bucket.parts.pop(key)
                self._xml("CompleteMultipartUploadResult", f"<Key>{key}</Key><ETag>e</ETag>")

        def do_PUT(self) -> None:
            body, key = self._body(), self._key()
            if len(bucket.objects) >= bucket.dies_after:
                self._say(403)
                return
            (bucket.parts if "partNumber" in self._query() else bucket.objects)[key] = body
            self._say(200)

        def _key(self) -> str:
            return urlsplit(self.path).path.removeprefix(BUCKET).strip("/")

        def _query(self) -> dict[str, list[str]]:
            return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = _unchunked(self.rfile)
            return _unchunked(io.BytesIO(body)) if self.headers.get("Content-Encoding") == "aws-chunked" else body

        def _xml(self, name: str, body: str) -> None:
            self._say(200, XML.format(name=name, body=body).encode())

        def _say(self, status: int, body: bytes = b"", told: bool = True) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"e"')
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
            self.end_headers()
            if told:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def s3_server() -> Iterator[tuple[str, Bucket]]:
    """Its address, and what it holds."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
