"""What a policy answers: how many replicas, why, and what would happen otherwise.

Sentences are put together when they are read: the lab asks for 40,000 decisions a day and reads a few of them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from services.autoscaler.counterfactual import Counterfactual
from services.autoscaler.observation import Observation

RATE_WINDOW_S = 6
"""Seconds over which the event states the observed rate: KPA's panic window, short enough to show a burst."""


class Reason(msgspec.Struct, frozen=True):
    """Why: a stable `code` for programs, a `text` with the numbers for people.

    template, values: the text before and what is filled into it, as `str.format` does; without values the template
    is the text as it stands.
    """

    code: str
    template: str
    values: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """The sentence."""
        return self.template.format(*self.values) if self.values else self.template


class Decision(msgspec.Struct, frozen=True):
    """The answer of one policy at one tick.

    t: epoch seconds. policy: its name. wanted, previous: replicas from now on, and asked for so far.
    reasons: the one that decided first; never empty (ValueError). otherwise: what would happen without this step,
    None where nothing is known to say it with. forecast_rps: the forecast rate that was read, None without one.
    """

    t: float
    policy: str
    wanted: int
    previous: int
    reasons: tuple[Reason, ...]
    otherwise: Counterfactual | None = None
    forecast_rps: float | None = None

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError(f"policy {self.policy!r} gave no reason for {self.wanted} replicas")

    @property
    def counterfactual(self) -> str | None:
        """`otherwise` as a sentence."""
        return None if self.otherwise is None else self.otherwise.text

    @property
    def changes(self) -> bool:
        """Whether the number of replicas becomes another."""
        return self.wanted != self.previous

    def overruled(self, wanted: int, reason: Reason) -> Decision:
        """The same decision with another count, the overruling reason first.

        The counterfactual goes: it spoke of a step that is not taken.
        """
        return replace(self, wanted=wanted, reasons=(reason, *self.reasons), otherwise=None)

    def to_event(self, app: str, observation: Observation, *, applied: bool) -> dict[str, Any]:
        """The message of topic `decisions`; `applied` says whether the actuator holds this count now."""
        return {
            "t": round(self.t, 3),
            "app": app,
            "policy": self.policy,
            "wanted": self.wanted,
            "ready": observation.ready,
            "starting": observation.starting,
            "previous": self.previous,
            "applied": applied,
            "reasons": [{"code": reason.code, "text": reason.text} for reason in self.reasons],
            "observation": {
                "rate_rps": _rounded(observation.rate(RATE_WINDOW_S)),
                "capacity_rps": _rounded(observation.capacity_rps),
                "start_delay_s": _rounded(observation.start_delay_s),
                "queue": _rounded(observation.queue),
                "utilisation": _rounded(observation.mean_utilisation),
                "forecast_rps": _rounded(self.forecast_rps),
            },
            "counterfactual": self.counterfactual,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
