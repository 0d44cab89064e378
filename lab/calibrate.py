"""How much one replica takes: the unit by which a demo scales its trace to the machine."""

from __future__ import annotations

from collections.abc import Sequence

from lab.closed_loop import LoadFailed, LoadRunner, intents_target
from lab.utterances import Utterance


def calibrate(
    gateway_url: str,
    seconds: float,
    *,
    utterances: Sequence[Utterance],
    run: LoadRunner,
    connections: int = 64,
    warmup_s: float = 1.0,
) -> float:
    """Right answers per second of the mesh behind ``gateway_url`` while it always has ``connections``
    requests to do.

    With one replica ready this is the capacity of one replica. Shed answers don't count, and a connection
    that met one waits 10 ms. It is the rate at saturation, where latency has no bound: plan with a share of
    it. Raises LoadFailed when nothing was answered.
    """
    target = intents_target(gateway_url, utterances)
    load = run(target, connections=connections, seconds=seconds, warmup_s=warmup_s)
    if load.ok == 0:
        why = load.first_error or "no request ended"
        raise LoadFailed(f"{target.url} answered nothing in {seconds:g} s: {why}")
    return load.rps
