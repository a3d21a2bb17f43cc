"""A word to a webhook: JSON by POST, tried a few times, and never the URL in what is said of it.

By urllib and not by httpx, which logs whole URLs. A URL of a webhook often is its password.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

ATTEMPTS, TIMEOUT_S, WAIT_S = 3, 10.0, 2.0
AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would arrive as a GET."""

    def redirect_request(self, *redirect: Any) -> None:
        return None


def post(url: str, said: Mapping[str, Any], *, wait_s: float = WAIT_S) -> str:
    """What came of it, in a sentence; nothing is raised. `wait_s` doubles from one attempt to the next."""
    try:
        host = urlsplit(url).hostname
        request = urllib.request.Request(
            url, json.dumps(said).encode(), {"Content-Type": "application/json"}, method="POST"
        )
    except ValueError:
        host = None
    if host is None or request.type not in ("http", "https"):
        return "The webhook is no URL that begins with http:// or https://: nobody was told."
    opener = urllib.request.build_opener(_NoRedirect)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                return f"{host} was told, and answered {answer.status}."
        except urllib.error.HTTPError as error:
            failure = f"answered {error.code}"
            if error.code not in AGAIN:
                break
        except (OSError, HTTPException, ValueError) as error:
            failure = f"did not answer ({type(error).__name__})"
        if attempt < ATTEMPTS:
            time.sleep(wait_s * 2 ** (attempt - 1))
    return f"{host} {failure}, {attempt} times: nobody was told."
