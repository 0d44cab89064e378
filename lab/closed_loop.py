"""Load from the Go program in `lab/loadgen`: how much a target takes, and how fast it answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from lab.utterances import Utterance

_GRACE_S = 15.0  # start of the program, the last requests' time-out, its summary


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked: ``url`` (http://host:port/path), headers beside the content type (tokens), the JSON bodies
    that are POSTed and cycled over (none: GET), and a piece of text that every right answer contains."""

    url: str
    bodies: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    expect: str = '"intent"'


class Load(msgspec.Struct, frozen=True):
    """What a closed loop measured. requests = ok + errors; rps: right answers per second; p50_ms, p99_ms:
    exact, over the right answers, None without any; seconds: measured time; first_error: empty without
    errors."""

    requests: int
    ok: int
    errors: int
    rps: float
    p50_ms: float | None
    p99_ms: float | None
    seconds: float
    first_error: str = ""


class LoadFailed(RuntimeError):
    """The load generator could not be run, or nothing was answered rightly."""


class LoadRunner(Protocol):
    """What the benches need of a load generator, so that their logic can be tested without one."""

    def __call__(self, target: Target, *, connections: int, seconds: float, warmup_s: float) -> Load:
        """Drives ``connections`` persistent connections for ``seconds`` after a warm-up that isn't
        counted."""


@dataclass(frozen=True, slots=True)
class LoadGenerator:
    """Runs the compiled `lab/loadgen` (``binary``); a LoadRunner. ``timeout_s`` is that of one request.

    rate: requests per second of all connections, evenly spread; 0: each sends its next one when the last is answered.
    """

    binary: Path
    timeout_s: float = 5.0
    rate: float = 0.0

    def __call__(self, target: Target, *, connections: int, seconds: float, warmup_s: float = 0.0) -> Load:
        """Blocks for warm-up and measurement. Raises LoadFailed when the program can't run or refuses the
        order; errors of single requests are counted, not raised."""
        order = {
            "url": target.url,
            "headers": dict(target.headers),
            "bodies": list(target.bodies),
            "expect": target.expect,
            "rate": self.rate,
            "connections": connections,
            "duration_s": seconds,
            "warmup_s": warmup_s,
            "timeout_s": self.timeout_s,
        }
        try:
            done = subprocess.run(
                [str(self.binary)],
                input=json.dumps(order).encode(),
                capture_output=True,
                timeout=seconds + warmup_s + self.timeout_s + _GRACE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LoadFailed(f"load generator {self.binary}: {error}; `make setup` builds it") from None
        if done.returncode != 0:
            raise LoadFailed(done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")
        try:
            return msgspec.json.decode(done.stdout, type=Load)
        except msgspec.DecodeError as error:
            raise LoadFailed(f"load generator {self.binary} printed no report: {error}") from None


def intents_target(gateway_url: str, utterances: Sequence[Utterance]) -> Target:
    """The public API as a target: each utterance as the body of ``POST {gateway_url}/v1/intents``."""
    bodies = [json.dumps({"text": said.text}, ensure_ascii=False) for said in utterances]
    return Target(gateway_url.rstrip("/") + "/v1/intents", bodies)
