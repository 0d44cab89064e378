"""The door of the page: hosts, methods, other sites, security headers; files with their ETags."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Any

import httpx
import pytest

from services.dashboard.app import Dashboard
from services.dashboard.assets import PAGE, plotly_file
from services.dashboard.guard import CSP
from services.dashboard.settings import Settings

PORT = 8701


def ask(path: str, *, method: str = "GET", host: str = f"127.0.0.1:{PORT}", **headers: str) -> httpx.Response:
    """One request to the page of a dashboard that has no mesh."""

    async def scenario() -> httpx.Response:
        dashboard = Dashboard(Settings(public_port=PORT))
        transport: Any = httpx.ASGITransport(app=dashboard.public)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}") as client:
            given = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=given)

    return asyncio.run(scenario())


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}"])
def test_the_page_answers_to_its_own_names(host: str) -> None:
    assert ask("/", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "localhost:80",
        f"127.0.0.1.evil.example:{PORT}",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/", "/stream", "/api/traces"])
def test_dns_rebinding_is_refused(host: str, path: str) -> None:
    answer = ask(path, host=host)
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/wrong-host")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_page_is_read_only(method: str) -> None:
    answer = ask("/api/traces", method=method)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_other_sites_may_link_to_the_page_but_not_call_it() -> None:
    assert ask("/", sec_fetch_site="cross-site").status_code == 200
    for path in ("/stream", "/api/traces", "/main.js"):
        assert ask(path, sec_fetch_site="cross-site").status_code == 403
    assert ask("/main.js", sec_fetch_site="same-origin").status_code == 200


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in CSP and "http" not in CSP and "*" not in CSP
    for directive in (
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ):
        assert directive in CSP


@pytest.mark.parametrize("path", ["/", "/main.js", "/style.css", "/not-here", "/api/traces/xyz"])
def test_every_answer_carries_the_headers(path: str) -> None:
    headers = ask(path).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/../settings.py", "/page/../app.py", "/%2e%2e/app.py", "/index.htm", "/app.py"]
)
def test_only_the_files_of_the_page_are_served(path: str) -> None:
    answer = ask(path)
    assert answer.status_code == 404 and answer.json()["type"].endswith("/not-found")


def test_files_are_not_sent_twice() -> None:
    first = ask("/main.js")
    assert first.headers["cache-control"] == "no-cache" and first.headers["content-encoding"] == "gzip"
    again = ask("/main.js", if_none_match=first.headers["etag"])
    assert again.status_code == 304 and not again.content


def test_plotly_is_served_packed_under_an_address_of_its_own_content() -> None:
    index = ask("/").text
    address = re.search(r'src="(/plotly\.min\.js\?v=[0-9a-f]{16})"', index)
    assert address is not None
    packed = ask(address[1])
    assert "immutable" in packed.headers["cache-control"]
    assert packed.headers["content-encoding"] == "gzip" and int(packed.headers["content-length"]) < 2_000_000
    assert packed.content == plotly_file().read_bytes()
    plain = ask(address[1], accept_encoding="identity")
    assert "content-encoding" not in plain.headers and plain.content == packed.content
    assert gzip.compress(b"")  # what httpx has undone above


def test_the_page_has_no_inline_code_and_nothing_from_elsewhere() -> None:
    index = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", index)
    assert not re.search(r'(src|href)="(https?:)?//', index)
    for module in PAGE.glob("*.js"):
        text = module.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://(?!www\.w3)", text
        )
        assert len(text.splitlines()) < 300


def test_limits_of_the_trace_api() -> None:
    for limit in ("0", "51", "-1", "ten", "1" * 30):
        answer = ask(f"/api/traces?limit={limit}")
        assert answer.status_code == 400 and answer.json()["field"] == "limit"
    assert ask("/api/traces/../../metrics").status_code == 404
    assert ask("/api/traces/XYZ").status_code == 400
    assert ask("/api/traces").status_code == 503
