"""Events from the mesh: Dapr posts each CloudEvent of a topic to `/events/<topic>`.

The subscriptions themselves are declarative files in `components/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request

from services.common.logs import logger

log = logger("foremesh.events")

Handler = Callable[[dict[str, Any]], Awaitable[None]]


class CloudEvent(msgspec.Struct):
    """The members of a CloudEvent that are used here; `data` is the message itself."""

    data: dict[str, Any]
    id: str = ""
    source: str = ""
    topic: str = ""


_decoder = msgspec.json.Decoder(CloudEvent)


def subscribe(app: FastAPI, topic: str, handler: Handler) -> None:
    """Call `handler` with the data of each event on `topic`.

    What is no CloudEvent, and what `handler` refuses with `ValueError` or `KeyError`, is dropped with a
    warning: it would fail again. After any other exception Dapr is asked to deliver the event again.
    """

    async def receive(request: Request) -> dict[str, str]:
        try:
            event = _decoder.decode(await request.body())
            await handler(event.data)
        except (ValueError, KeyError) as error:
            log.warning("event dropped", extra={"topic": topic, "why": f"{type(error).__name__}: {error}"})
            return {"status": "DROP"}
        except Exception:
            log.exception("event failed, asked for it again", extra={"topic": topic})
            return {"status": "RETRY"}
        return {"status": "SUCCESS"}

    app.post(f"/events/{topic}", include_in_schema=False)(receive)
