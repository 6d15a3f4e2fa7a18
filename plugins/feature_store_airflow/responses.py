"""How the pages of this plugin answer: as pages that can do nothing but be read, or with a sentence."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

# Reports and logs quote what is in the data: whatever it is, nothing in it runs, loads or sends anything.
POLICY = "Content-Security-Policy"
HEADERS = {
    POLICY: "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def html(text: str, *, form: bool = False) -> Response:
    """Answer with a page; `form` lets a form in it ask for a page of ours."""
    policy = HEADERS[POLICY].replace("form-action 'none'", "form-action 'self'") if form else HEADERS[POLICY]
    return HTMLResponse(text, headers={**HEADERS, POLICY: policy})


def sentence(status: int) -> Callable[[Request, Exception], Response]:
    """Make what answers to an exception: its message, under a status."""

    def answer(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", status_code=status, headers=HEADERS)

    return answer
