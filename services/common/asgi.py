"""The few lines that a plain ASGI route needs: read a bounded body, send JSON, send a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.common.problems import Problem, too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Route = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON_HEADER = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The caller hung up before its request was read."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Return the whole body; raises the 413 `Problem` above `limit_bytes`, `ClientGone` when the caller hung
    up.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise too_large(limit_bytes)
    if not message.get("more_body", False):
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def bounded(receive: Receive, limit_bytes: int) -> Receive:
    """Return a `receive` that raises the 413 `Problem` as soon as more than `limit_bytes` of body came
    through it.
    """
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise too_large(limit_bytes)
        return message

    return counted


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of the header `name` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def header_text(scope: Scope, name: bytes) -> str | None:
    """Return the first value of the header `name` (lower case) as text, or None."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


async def send_json(send: Send, body: bytes, status: int = 200) -> None:
    """Send `body`, which is JSON already."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [JSON_HEADER, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Send `problem` as application/problem+json with its status and, where it has one, Retry-After."""
    body = problem.body()
    headers = [(key.encode(), value.encode()) for key, value in problem.headers().items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
