"""Errors as RFC 9457 problem documents, with a stable `type` that programs can compare."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

PROBLEM_TYPE = "https://foremesh.dev/problems/"
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error that a caller may see.

    `status` is the HTTP status, `slug` the stable end of the `type` identifier, `title` a short name of the
    kind, `detail` what happened this time and the way out, `retry_after_s` seconds after which to try again,
    `ext` further members of the document such as `field`.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        retry_after_s: float | None = None,
        **ext: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.ext = ext

    def document(self) -> dict[str, Any]:
        """Return the problem document as a JSON object."""
        document: dict[str, Any] = {
            "type": PROBLEM_TYPE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        document.update(self.ext)
        return document

    def body(self) -> bytes:
        """Return the problem document as JSON bytes."""
        return msgspec.json.encode(self.document())

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it: the media type, and `Retry-After` in whole seconds where it is
        known.
        """
        headers = {"content-type": MEDIA_TYPE}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers


def bad_json(detail: str) -> Problem:
    """Return the 400 for a body that is not JSON."""
    return Problem(400, "bad-json", "Body is not JSON", detail)


def wrong_type(field: str, detail: str) -> Problem:
    """Return the 400 for a field of the wrong type; `field` is its path, such as `items[0].text`."""
    return Problem(400, "wrong-type", "Wrong type", detail, field=field)


def unauthorized() -> Problem:
    """Return the 401 for a caller without this app's token."""
    return Problem(
        401,
        "unauthorized",
        "Unauthorized",
        "the header dapr-api-token does not hold this app's token; call the app through its sidecar",
    )


def not_found(what: str) -> Problem:
    """Return the 404 that names what is not there."""
    return Problem(404, "not-found", "Not found", what)


def method_not_allowed(path: str, method: str) -> Problem:
    """Return the 405 for a path that takes other methods."""
    return Problem(405, "method-not-allowed", "Method not allowed", f"{path} does not take {method}")


def unknown_model(name: str, known: Iterable[str]) -> Problem:
    """Return the 404 for a model, or tier of one, that the catalog has not; `known` are those that it has."""
    there = sorted(known)
    return Problem(
        404,
        "unknown-model",
        "Unknown model",
        f"model {name[:128]!r} is not in the catalog ({', '.join(there) or 'it is empty'})",
        known=there,
    )


def too_large(limit_bytes: int) -> Problem:
    """Return the 413 for a body above `limit_bytes`."""
    return Problem(413, "body-too-large", "Body too large", f"the body is larger than {limit_bytes} bytes")


def overloaded(detail: str, retry_after_s: float = 1.0) -> Problem:
    """Return the 503 for work that a bounded queue shed."""
    return Problem(503, "overloaded", "Overloaded", detail, retry_after_s)


def unavailable(detail: str, retry_after_s: float = 1.0) -> Problem:
    """Return the 503 for a part of the mesh that cannot be reached."""
    return Problem(503, "unavailable", "Unavailable", detail, retry_after_s)


def deadline_exceeded(detail: str) -> Problem:
    """Return the 504 for work whose latency budget ran out."""
    return Problem(504, "deadline-exceeded", "Deadline exceeded", detail)


def internal() -> Problem:
    """Return the 500; what happened is in the log, never in the answer."""
    return Problem(500, "internal", "Internal error", "the service failed on this request; its log says why")
