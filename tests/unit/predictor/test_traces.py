import time
from pathlib import Path

import numpy as np
import pytest

from services.predictor import corpus
from services.predictor.corpus import SYNTHETIC_STEPS, Corpus, vary
from services.predictor.features import CONTEXT, LAGS
from services.predictor.forecast import HORIZONS
from services.predictor.seasons import Outlook
from services.predictor.synthetic import KINDS, series
from services.predictor.traces import BadTrace, Trace, read, resample


@pytest.fixture(autouse=True)
def few_synthetic_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Periods are looked for in each of them, which takes its time."""
    monkeypatch.setattr(corpus, "SYNTHETIC_SERIES", 8)


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_iso_and_seconds_are_read_and_missing_bins_are_gaps(tmp_path: Path) -> None:
    iso = "timestamp,requests\n2024-01-01T00:00:00Z,1\n2024-01-01T00:01:00Z,2\n2024-01-01T00:03:00Z,4\n"
    trace = read(write(tmp_path, iso))
    assert trace.step_s == 60
    np.testing.assert_array_equal(trace.counts, [1, 2, np.nan, 4])
    plain = read(write(tmp_path, "timestamp,requests\n0,1\n3,2\n6,3.5\n"))
    assert (plain.name, plain.step_s, plain.counts.tolist()) == ("trace", 3, [1, 2, 3.5])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time,count\n1,2\n", "trace.csv:1"),
        ("", "trace.csv:1"),
        ("timestamp,requests\n0,1\n", "two at least"),
        ("timestamp,requests\n0,1\n1,-2\n", "trace.csv:3"),
        ("timestamp,requests\n0,1\n1,many\n", "'many'"),
        ("timestamp,requests\n0,1\n1\n", "trace.csv:3"),
        ("timestamp,requests\n0,1\n1,nan\n", "not a count"),
        ("timestamp,requests\n0,1\n0,2\n", "sort"),
        ("timestamp,requests\n5,1\n0,2\n", "sort"),
        ("timestamp,requests\nsoon,1\n", "'soon'"),
        ("timestamp,requests\n0,1\n1,1\n9999999,1\n", "bins must be equal"),
        ("timestamp,requests\n0,1\n60,1\n85,1\n120,1\n180,1\n", "trace.csv:4"),
        ("timestamp,requests\n0,1\nnan,1\n", "trace.csv:3"),
        ("timestamp,requests\n0,1\ninf,1\n", "'inf'"),
        ("timestamp,requests\n0,1\n1,1e300\n", "0 to 1e+12"),
        ("timestamp;requests\n0;1\n1;1\n", "comma between"),
        (f"timestamp,requests\n0,1\n1,{'9' * 200_000}\n", "trace.csv:3"),
    ],
)
def test_a_bad_trace_names_file_and_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=r"trace\.csv") as error:
        read(write(tmp_path, text))
    assert says in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert read(write(tmp_path, "\ufefftimestamp,requests\n0,1\n60,2\n")).step_s == 60


def test_times_without_a_zone_have_no_hour_that_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"2024-11-03T{hour:02}:00:00,{hour}\n" for hour in range(6))
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert read(write(tmp_path, f"timestamp,requests\n{rows}")).counts.tolist() == [0, 1, 2, 3, 4, 5]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=r"absent\.csv"):
        read(tmp_path / "absent.csv")


def test_resampling_adds_up_and_keeps_gaps() -> None:
    coarse = resample(np.array([1, 2, 3, np.nan, 5, 6, 7]), 2)
    np.testing.assert_array_equal(coarse, [3, np.nan, 11])


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_intensities_are_finite_and_not_negative(kind: object) -> None:
    for seed in range(30):
        made = kind(np.random.default_rng(seed), 600)  # type: ignore[operator]
        assert made.shape == (600,)
        assert np.isfinite(made).all()
        assert (made >= 0).all()


def test_batches_are_finite_and_reproducible() -> None:
    trace = Trace("t", series(np.random.default_rng(0), 1200), 60.0)
    one, two = Corpus([trace], 5).batch(256), Corpus([trace], 5).batch(256)
    np.testing.assert_array_equal(one.encoded.window, two.encoded.window)
    np.testing.assert_array_equal(one.residuals, two.residuals)
    assert np.isfinite(one.encoded.window).all()
    assert np.isfinite(one.residuals).all()
    assert set(np.unique(one.weights)) <= {0.0, 1.0}
    assert one.weights.mean() > 0.9


def test_the_last_quarter_of_a_trace_is_never_drawn() -> None:
    counts = np.full(2000, 10.0)
    counts[1500:] = 1e9
    drawer = Corpus([Trace("t", counts, 1.0)], 1)
    drawn = [made for made in drawer._series if len(made) != SYNTHETIC_STEPS]
    assert drawn
    assert max(float(made.max()) for made in drawn) <= 100.0


def test_unknown_futures_are_not_learned_from() -> None:
    spans = np.full((4, LAGS + max(HORIZONS)), 20.0)
    spans[0, LAGS:] = np.nan
    spans[1, :LAGS] = 0.0
    batch = vary(spans, [None] * 4, np.random.default_rng(0))
    assert (batch.weights[:2] == 0).all()
    assert (batch.weights[2:] == 1).all()


def test_thinning_leaves_what_the_periods_say_in_step_with_the_counts() -> None:
    outlook = Outlook(np.full(5, 0.5), np.log(2.0), 50.0, 0.9, (1800.0,), (0.0, 1.0, 0.0, 0.0))
    spans = np.random.default_rng(1).poisson(50, (400, LAGS + max(HORIZONS))).astype(float)
    context = vary(spans, [outlook] * 400, np.random.default_rng(0)).encoded.context
    strength, above = (context[:, CONTEXT.index(name)] for name in ("season_strength", "season_above"))
    assert 0.6 < (strength > 0).mean() < 0.9  # the others have to do without
    assert (
        np.abs(np.median(above[strength > 0])) < 1.0
    )  # the last step is, thinned or not, where they expect it
    assert (above[strength == 0] == 0).all()
