"""How the pages of this plugin answer: as what can do nothing but be read, or with a sentence."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

# Reports and logs quote what is in the data: whatever it is, nothing in it runs, loads or sends anything.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def sentence(status: int) -> Callable[[Request, Exception], Response]:
    """Make what answers to an exception: its message, under a status."""

    def answer(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", status_code=status, headers=HEADERS)

    return answer
