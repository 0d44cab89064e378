"""What stands before the page: who it may be asked as, and what a browser may do with it.

The page shows the inside of a mesh and listens on loopback, so any web site the operator visits could try to
read it. A site that points its own name at 127.0.0.1 (DNS rebinding) is stopped by the Host header, one that
embeds or calls the page by `frame-ancestors`, the absence of CORS, and Sec-Fetch-Site.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.common.asgi import Message, Receive, Route, Scope, Send, header, send_problem
from services.common.problems import Problem

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class Guard:
    """Plain ASGI in front of the page: refuses foreign names, foreign sites and writes; adds the headers."""

    def __init__(self, app: Route, *, names: Iterable[str], port: int) -> None:
        self.app = app
        self.hosts = frozenset(f"{name}:{port}".lower().encode() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with a problem document."""
        if scope["type"] != "http":
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        try:
            self._admit(scope)
            await self.app(scope, receive, secured)
        except Problem as problem:
            await send_problem(secured, problem)

    def _admit(self, scope: Scope) -> None:
        host = (header(scope, b"host") or b"").lower()
        if host not in self.hosts:
            raise Problem(
                421,
                "wrong-host",
                "Not this host",
                f"the page is served to {b' and '.join(sorted(self.hosts)).decode()} only",
            )
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(405, "method-not-allowed", "Method not allowed", "the page only takes GET")
        if header(scope, b"sec-fetch-site") in (b"cross-site", b"same-site") and scope["path"] != "/":
            raise Problem(
                403, "cross-site", "Cross-site request", "another site may link to the page, not use it"
            )
