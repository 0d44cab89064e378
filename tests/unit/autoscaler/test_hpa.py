"""HPA against sequences worked out by hand from upstream's algorithm; a line says the arithmetic."""

from __future__ import annotations

import pytest

from services.autoscaler.decision import Decision
from services.autoscaler.policies import Hpa
from tests.unit.autoscaler.conftest import seen


def decided(
    utilisation: tuple[float, ...],
    *,
    wanted: int,
    ready: int | None = None,
    starting: int = 0,
    target: float = 0.7,
) -> Decision:
    """The first sync of a new controller."""
    ready = wanted - starting if ready is None else ready
    return Hpa(target=target).decide(
        seen(0, [], wanted=wanted, ready=ready, starting=starting, max_replicas=100, utilisation=utilisation)
    )


@pytest.mark.parametrize(
    ("utilisation", "wanted", "code"),
    [
        ((0.75, 0.77), 2, "tolerance"),  # 76 / 70 = 1.086: within 0.1
        ((0.77, 0.77), 3, "utilisation"),  # 77 / 70 = 1.1 + 9e-17: beyond it, ceil(1.1 x 2) = 3
        ((0.76, 0.77), 2, "tolerance"),  # 76.5 is 76 %: upstream divides integers
        ((0.63, 0.63), 2, "tolerance"),  # 0.9
        ((1.0, 1.0), 3, "utilisation"),  # 100 / 70 x 2 = 2.86
        ((0.7, 0.7, 0.9, 0.9), 5, "utilisation"),  # 80 / 70 x 4 = 4.57
    ],
)
def test_ratio_and_tolerance(utilisation: tuple[float, ...], wanted: int, code: str) -> None:
    decision = decided(utilisation, wanted=len(utilisation))
    assert (decision.wanted, decision.reasons[0].code) == (wanted, code)


def settled(policy: Hpa, wanted: int, **fields: object) -> Decision:
    """What it says at a sync 300 s after its start, when no older recommendation stabilises any more."""
    policy.decide(seen(0, [], wanted=wanted, ready=0, max_replicas=100))
    return policy.decide(seen(300, [], wanted=wanted, max_replicas=100, **fields))


@pytest.mark.parametrize(
    ("wanted", "fields", "expected"),
    [
        # Down, one of four missing counts as 100 %: (3 x 35 + 100) / 4 = 51, 51 / 70 x 4 = 2.91
        (4, {"ready": 4, "utilisation": (0.35, 0.35, 0.35)}, 3),
        # Down, but two of three missing would turn it round: (65 + 200) / 3 = 88 > 70
        (3, {"ready": 3, "utilisation": (0.65,)}, 3),
        # Up, one of four missing counts as 0: 300 / 4 = 75, 75 / 70 = 1.07 is within tolerance
        (4, {"ready": 4, "utilisation": (1.0, 1.0, 1.0)}, 4),
        # Up, one of six missing: 500 / 6 = 83, 83 / 70 x 6 = 7.11
        (6, {"ready": 6, "utilisation": (1.0,) * 5}, 8),
        # Up with two unready: 200 / 4 = 50 is below the target now, no change
        (4, {"ready": 2, "starting": 2, "utilisation": (1.0, 1.0)}, 4),
        # Up with one unready: 500 / 6 = 83, 83 / 70 x 6 = 7.11
        (6, {"ready": 5, "starting": 1, "utilisation": (1.0,) * 5}, 8),
        # Down: the unready one is ignored, 20 / 70 x 4 = 1.14
        (5, {"ready": 4, "starting": 1, "utilisation": (0.2,) * 4}, 2),
        # Up with one missing and one unready: 800 / 10 = 80, 80 / 70 x 10 = 11.4
        (10, {"ready": 9, "starting": 1, "utilisation": (1.0,) * 8}, 12),
        # Nobody measured: no metric, no change
        (3, {"ready": 3, "utilisation": ()}, 3),
        (3, {"ready": 0, "starting": 3, "utilisation": ()}, 3),
    ],
)
def test_missing_and_unready_pods(wanted: int, fields: dict[str, object], expected: int) -> None:
    decision = settled(Hpa(), wanted, **fields)
    assert decision.wanted == expected, decision.reasons


def test_syncs_every_15_s_and_holds_in_between() -> None:
    policy, syncs = Hpa(), []
    for at in range(0, 62, 2):
        decision = policy.decide(seen(at, [], utilisation=(0.7,)))
        assert decision.wanted == 1
        if decision.reasons[0].code != "between-syncs":
            syncs.append(at)
    # Every 15 s on a grid, at the first 2 s tick of each: lateness does not add up.
    assert syncs == [0, 16, 30, 46, 60]


def test_scale_up_is_limited_to_4_more_or_twice_as_many_in_15_s() -> None:
    policy, wanted, counts = Hpa(), 1, []
    for at in range(0, 62, 2):
        decision = policy.decide(
            seen(at, [], wanted=wanted, ready=wanted, max_replicas=1000, utilisation=(30.0,) * wanted)
        )
        if decision.changes:
            assert decision.reasons[0].code == "rate-limit"
            counts.append(decision.wanted)
        wanted = decision.wanted
    assert counts == [5, 10, 20, 40, 80]  # 1 + 4, then x 2


def test_scale_up_stops_at_the_most() -> None:
    decision = Hpa().decide(seen(0, [], wanted=3, ready=3, max_replicas=4, utilisation=(3.0,) * 3))
    assert (decision.wanted, decision.reasons[0].code) == (4, "bounds")


def test_scale_down_waits_for_the_highest_of_300_s() -> None:
    policy, wanted, changes = Hpa(), 4, []
    for at in range(0, 480, 15):
        # 70 % holds 4 at first; then 10 % for ceil(0.57) = 1, but once, at 150 s, 50 % for ceil(2.86) = 3.
        used = 0.7 if at == 0 else 0.5 if at == 150 else 0.1
        decision = policy.decide(seen(at, [], wanted=wanted, ready=wanted, utilisation=(used,) * wanted))
        if decision.changes:
            changes.append((at, decision.wanted))
        elif 0 < at < 300:
            assert "stabilisation" in [reason.code for reason in decision.reasons]
        wanted = decision.wanted
    # A recommendation of exactly 300 s ago does not count any more; all at once is allowed.
    assert changes == [(300, 3), (450, 1)]


def test_a_new_controller_does_not_undo_what_it_finds() -> None:
    decision = Hpa().decide(seen(0, [], wanted=5, ready=5, utilisation=(0.01,) * 5))
    assert decision.wanted == 5


def test_it_never_goes_to_none_by_itself_and_holds_what_somebody_set_to_none() -> None:
    decision = settled(Hpa(), 2, ready=2, utilisation=(0.0, 0.0), min_replicas=0)
    assert decision.wanted == 1
    assert Hpa().decide(seen(0, [], wanted=0, ready=0, min_replicas=0)).wanted == 0


def test_a_clock_set_back_does_not_stop_the_syncs() -> None:
    policy = Hpa()
    policy.decide(seen(10_000, [], utilisation=(0.7,)))
    assert policy.decide(seen(0, [], utilisation=(1.4,))).wanted == 2


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1 %"):
        Hpa(target=0.001)
