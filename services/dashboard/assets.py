"""The files of the page, held in memory with their ETags, and plotly.js out of the installed `plotly`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from services.common.asgi import Receive, Scope, Send, header
from services.common.problems import Problem, not_found

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PLOTLY = "/plotly.min.js"
# plotly.js bundles a map library that adds its style sheet to the page unless an element with its id is there
# already. The page draws no maps, and without this its policy would have to allow inline styles.
_STYLE_ID = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; `packed` is gzip."""

    content_type: str
    etag: bytes
    cache: bytes
    plain: bytes | Path
    packed: bytes


def plotly_file() -> Path:
    """plotly.min.js of the installed package, found without importing it; raises FileNotFoundError."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the Python package plotly, which carries plotly.js, is not installed")
    found = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    if not found.is_file():
        raise FileNotFoundError(f"{found}: this version of the Python package plotly carries no plotly.js")
    return found


class Assets:
    """Everything static. plotly.js (4.8 MB) is read and packed when the first page asks, not at start."""

    def __init__(self) -> None:
        self._plotly_file = plotly_file()
        self._files = {
            f"/{path.name}": _asset(path.read_bytes(), TYPES[path.suffix], b"no-cache")
            for path in PAGE.iterdir()
            if path.suffix in TYPES and path.name != "index.html"
        }
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file by its exact name. Raises the 404 `Problem`."""
        path = "/index.html" if scope["path"] == "/" else scope["path"]
        if path in ("/index.html", PLOTLY) and path not in self._files:
            await self._load()
        asset = self._files.get(path)
        if asset is None:
            raise not_found(f"there is nothing at {scope['path'][:200]}")
        await _send_asset(asset, scope, send)

    async def _load(self) -> None:
        async with self._loading:
            if PLOTLY not in self._files:
                self._files |= await asyncio.to_thread(self._read)

    def _read(self) -> dict[str, Asset]:
        script = self._plotly_file.read_bytes()
        version = hashlib.sha256(script).hexdigest()[:16]
        guards = "".join(f'<meta id="{name}">' for name in sorted(set(_style_ids(script))))
        index = (PAGE / "index.html").read_text("utf-8")
        index = index.replace("plotly.min.js?v=0", f"plotly.min.js?v={version}").replace(
            "<!-- style guards -->", guards
        )
        return {
            "/index.html": _asset(index.encode(), TYPES[".html"], b"no-cache"),
            PLOTLY: Asset(
                TYPES[".js"],
                f'"{version}"'.encode(),
                b"public, max-age=31536000, immutable",  # its address carries the hash
                self._plotly_file,
                gzip.compress(script, 6, mtime=0),
            ),
        }


def _style_ids(script: bytes) -> list[str]:
    return [found.decode() for found in _STYLE_ID.findall(script)]


def _asset(content: bytes, content_type: str, cache: bytes) -> Asset:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'.encode()
    return Asset(content_type, etag, cache, content, gzip.compress(content, 6, mtime=0))


async def _send_asset(asset: Asset, scope: Scope, send: Send) -> None:
    headers = [(b"etag", asset.etag), (b"cache-control", asset.cache), (b"vary", b"accept-encoding")]
    status, body = 200, b""
    if header(scope, b"if-none-match") == asset.etag:
        status = 304
    else:
        if b"gzip" in (header(scope, b"accept-encoding") or b""):
            body = asset.packed
            headers.append((b"content-encoding", b"gzip"))
        else:
            body = await _plain(asset)
        headers += [
            (b"content-type", asset.content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _plain(asset: Asset) -> bytes:
    if isinstance(asset.plain, bytes):
        return asset.plain
    try:
        return await asyncio.to_thread(asset.plain.read_bytes)
    except OSError as why:
        raise Problem(503, "unavailable", "Unavailable", "plotly.js is not there any more; restart") from why
