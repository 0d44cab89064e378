"""Summaries, fronts and the comparison at equal misses, on rows made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lab.comparison import at_default, at_equal_miss, envelope
from lab.measures import FIGURES
from lab.summary import front, interval, summaries


def row(policy: str, setting: str, miss: float, waste: float, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = dict.fromkeys(FIGURES, 1.0)
    known |= {"trace": "t", "start_delay_s": 30.0, "seed": 0, "default": False}
    return (
        known
        | {"policy": policy, "setting": setting, "tau_u": miss, "slo_violation": miss, "waste": waste}
        | more
    )


def test_the_mean_lies_in_its_interval_and_the_same_values_give_the_same_one() -> None:
    found = interval([1.0, 2.0, 4.0])
    assert found is not None
    assert found.mean == pytest.approx(7 / 3)
    assert 1 <= found.low < found.mean < found.high <= 4
    assert found == interval([1.0, 2.0, 4.0])
    one = interval([3.0])
    assert one is not None
    assert (one.low, one.mean, one.high) == (3, 3, 3)
    assert interval([]) is None


def test_seeds_are_put_together_and_broken_ones_kept_apart() -> None:
    rows = [row("hpa", "target=0.7", 0.1, 0.2), row("hpa", "target=0.7", 0.3, 0.4, seed=1)]
    rows.append(
        dict.fromkeys(FIGURES) | {"error": "Traceback"} | {k: rows[0][k] for k in rows[0] if k not in FIGURES}
    )
    (found,) = summaries(rows)
    assert (found.seeds, found.failed) == (3, ("Traceback",))
    waste = found.figures["waste"]
    assert waste is not None
    assert waste.mean == pytest.approx(0.3)


def test_hours_that_differ_widen_the_interval_of_a_share() -> None:
    def hour(under: int) -> list[int]:
        return [3600, under, 0, 3600, 0, 1]

    calm = [row("hpa", "a", 0.1, 0.2, tau_u=0.1, hours=[hour(360)] * 12)]
    wild = [row("hpa", "a", 0.1, 0.2, tau_u=0.1, hours=[hour(0)] * 9 + [hour(1440)] * 3)]
    (even,), (uneven,) = summaries(calm), summaries(wild)
    one, other = even.figures["tau_u"], uneven.figures["tau_u"]
    assert one is not None
    assert other is not None
    assert (one.low, one.mean, one.high) == pytest.approx((0.1, 0.1, 0.1))
    assert other.low < 0.05
    assert other.high > 0.15


def test_a_front_is_what_nobody_beats_in_both() -> None:
    assert front([(3, 1), (1, 5), (2, 2), (2, 4), (4, 1), (2.5, 3)]) == [(1, 5), (2, 2), (3, 1)]


def test_the_envelope_runs_straight_over_the_logarithm() -> None:
    line = [(0.001, 0.5), (0.1, 0.3)]
    assert envelope([line], 0.01) == pytest.approx(0.4)
    assert envelope([line], 1e-9) == 0.5
    assert envelope([line], 0.9) == 0.3
    assert envelope([line, [(0.01, 0.1)]], 0.01) == 0.1


def rows_of_two() -> list[dict[str, Any]]:
    return [
        row("hpa", "a", 0.001, 0.5, default=True, p95_ms=200.0, scale_out_delay_all_s=3.0),
        row("hpa", "b", 0.1, 0.3),
        row("kpa", "", 0.01, 0.35, default=True),
        row("informed", "x", 0.001, 0.3, default=True),
        row("informed", "y", 0.1, 0.1),
        row("predictive", "p", 0.01, 0.28, default=True, p95_ms=150.0, scale_out_delay_all_s=4.0),
        row("predictive", "q", 0.001, 0.45),
    ]


def test_waste_at_equal_miss_against_the_best_rival_and_the_gap_that_is_closed() -> None:
    found = at_equal_miss(summaries(rows_of_two()))
    assert [one.miss for one in found] == ["tau_u", "slo_violation"]
    one = found[0]
    # At 0.01 the best rival is kpa's 0.35; at 0.001 kpa is credited with its 0.35, too, though it misses more.
    assert one.default == pytest.approx(0.28 / 0.35)
    assert one.worst == pytest.approx(0.45 / 0.35)
    assert one.ratio == pytest.approx(((0.28 / 0.35) * (0.45 / 0.35)) ** 0.5)
    # HPA's front is at 0.4 and 0.5 there, that of informed at 0.2 and 0.3: (0.12 + 0.05) / (0.2 + 0.2).
    assert one.gap_closed == pytest.approx(0.17 / 0.4)


def test_no_rival_misses_as_little_then_it_is_no_equal_miss() -> None:
    rows = [*rows_of_two(), row("predictive", "r", 0.0001, 0.6), row("predictive", "s", 0.01, 0.4)]
    # Its own front counts, without what it beats itself, and only where a rival gets to.
    assert at_equal_miss(summaries(rows))[0].ratio == at_equal_miss(summaries(rows_of_two()))[0].ratio


def test_defaults_beside_each_other() -> None:
    (one,) = at_default(summaries(rows_of_two()))
    assert one.figures["waste"] == (0.5, 0.28)
    assert one.figures["tau_u"] == (0.001, 0.01)
    assert one.beaten == ("waste", "p95_ms")


def test_without_the_policy_or_its_rivals_nothing_is_compared() -> None:
    assert at_equal_miss(summaries([row("hpa", "a", 0.1, 0.5, default=True)])) == []
    assert at_equal_miss(summaries([row("predictive", "p", 0.1, 0.5, default=True)])) == []
    assert at_default(summaries([row("predictive", "p", 0.1, 0.5, default=True)])) == []
