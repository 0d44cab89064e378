"""What routing tells about the mesh: the models that are served, and how the request path is doing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from services.common import VERSION
from services.common.dapr import Dapr, DaprUnavailable
from services.routing.intents import Intents
from services.routing.tiers import Tiers

STORE = "registry"
FRESH_S = 2.0
TIMEOUT_S = 1.0
FAILED_LATELY_S = 10.0


class About:
    """Reads the registry, at most once in two seconds; the local catalog stands in for it."""

    def __init__(self, dapr: Dapr, tiers: Tiers, intents: Intents, replica: str) -> None:
        self._dapr = dapr
        self._tiers = tiers
        self._intents = intents
        self._replica = replica
        self._models: list[dict[str, Any]] = []
        self._read_at = float("-inf")

    async def models(self) -> list[dict[str, Any]]:
        """Return the card summary of every model in the catalog; `served` tells whether a replica registered
        it.

        While the registry cannot be read `served` is null.
        """
        if time.monotonic() - self._read_at < FRESH_S:
            return self._models
        cards = self._tiers.cards
        try:
            rows = await self._dapr.get_states(STORE, list(cards), timeout_s=TIMEOUT_S) if cards else {}
        except DaprUnavailable:
            self._models = [{**card.summary(), "served": None} for card in cards.values()]
        else:
            self._models = [
                {**card.summary(), **_entry(rows.get(key)), "served": key in rows}
                for key, card in cards.items()
            ]
        self._read_at = time.monotonic()
        return self._models

    async def follow(self, tiers: Tiers, every_s: float) -> None:
        """Tell `tiers` every `every_s` seconds, for ever, what the replicas hold; while the registry cannot be read it
        stays with what it knew."""
        while True:
            await asyncio.sleep(every_s)
            models = await self.models()
            if all(model["served"] is not None for model in models):
                tiers.hold(f"{model['model']}.{model['tier']}" for model in models if model["served"])

    async def status(self) -> dict[str, Any]:
        """Return `status` (ok, or degraded when a hop failed lately), version, models and the state of each
        hop.
        """
        now = time.time()
        queued = self._intents.queued
        hops = {}
        for app, reach in self._intents.reach.items():
            failed = (
                reach.failed_at is not None
                and now - reach.failed_at < FAILED_LATELY_S
                and (reach.answered_at or 0.0) < reach.failed_at
            )
            hops[app] = {
                "reachable": None if reach.answered_at is None and reach.failed_at is None else not failed,
                "answered_at": reach.answered_at,
                "failed_at": reach.failed_at,
                "queued": queued[app],
            }
        models = await self.models()
        degraded = not models or any(hop["reachable"] is False for hop in hops.values())
        return {
            "status": "degraded" if degraded else "ok",
            "version": VERSION,
            "replica": self._replica,
            "models": [f"{model['model']}.{model['tier']}" for model in models],
            "hops": hops,
        }


def _entry(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except ValueError:
        return {}
