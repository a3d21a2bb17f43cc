"""A bound on what a client may send, before anything parses it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _TooLarge(Exception):
    pass


class BoundedBody:
    """ASGI middleware: 413 for bodies over `most` bytes, also where they come in chunks of no stated length."""

    def __init__(self, app: Any, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = self._most

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        stated = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if int(stated) > self._most:
                raise _TooLarge
            await self._app(scope, bounded, send)
        except _TooLarge:
            error = {"error": f"the body is larger than the {self._most} bytes that are taken"}
            await JSONResponse(error, 413)(scope, receive, send)
