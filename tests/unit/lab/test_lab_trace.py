"""Reading traces: what is understood, what is repaired, what is refused and how."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from lab.bad_input import BadInput
from lab.demo_trace import DEMO_TRACE, csv_text
from lab.trace import read_trace


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_iso_times_with_offset_and_further_columns(tmp_path: Path) -> None:
    trace = read_trace(
        written(
            tmp_path,
            "host,Timestamp , requests\na,1995-07-01T00:00:00-04:00,42\nb,1995-07-01T00:01:00-04:00,61.5\n\n",
        )
    )
    assert trace.bin_s == 60
    assert trace.timestamps_s.tolist() == [804571200.0, 804571260.0]
    assert trace.requests.tolist() == [42.0, 61.5]
    assert trace.notes == ()
    assert trace.name == "trace"


def test_times_without_offset_are_utc(tmp_path: Path) -> None:
    trace = read_trace(
        written(tmp_path, "timestamp,requests\n1970-01-01 00:00:10,1\n1970-01-01 00:00:20,2\n")
    )
    assert trace.timestamps_s.tolist() == [10.0, 20.0]


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, b"\xef\xbb\xbftimestamp,requests\r\n0,1\r\n0.5,2\r\n1,3\r\n"))
    assert trace.bin_s == 0.5
    assert trace.requests.tolist() == [1, 2, 3]


def test_missing_bins_hold_the_mean_of_their_neighbours_and_are_reported(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "timestamp,requests\n0,1\n60,3\n240,9\n300,5\n"))
    assert trace.requests.tolist() == [1, 3, 6, 6, 9, 5]
    assert trace.timestamps_s.tolist() == [0, 60, 120, 180, 240, 300]
    assert trace.notes == (
        "2 of 6 bins were missing (the first after line 3) and hold the mean of their neighbours",
    )


def test_jitter_of_a_collector_is_put_on_the_grid(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "timestamp,requests\n0.01,1\n10.02,2\n19.98,3\n40.03,4\n50,5\n"))
    assert trace.bin_s == pytest.approx(10, abs=0.05)
    assert trace.requests.tolist() == [1, 2, 3, 3.5, 4, 5]


BAD = {
    "empty file": ("", None, "the file is empty"),
    "blank file": (" \n\n", None, "the file is empty"),
    "not UTF-8": (b"timestamp,requests\n0,\xff\n", None, "not UTF-8"),
    "no header": ("0,1\n60,2\n", 1, "no column 'timestamp'"),
    "no requests column": ("timestamp,count\n0,1\n60,2\n", 1, "no column 'requests'"),
    "header only": ("timestamp,requests\n", None, "0 row(s)"),
    "one row": ("timestamp,requests\n0,1\n", None, "at least 2 rows"),
    "negative": ("timestamp,requests\n0,1\n60,-2\n", 3, "requests is negative: '-2'"),
    "NaN": ("timestamp,requests\n0,1\n60,nan\n", 3, "requests is not finite: 'nan'"),
    "infinite": ("timestamp,requests\n0,1\n60,inf\n", 3, "requests is not finite: 'inf'"),
    "not a number": ("timestamp,requests\n0,1\n60,many\n", 3, "requests is not a number: 'many'"),
    "no count": ("timestamp,requests\n0,1\n60,\n", 3, "requests is not a number: ''"),
    "absurd": ("timestamp,requests\n0,1\n60,1e300\n", 3, "beyond 1e12"),
    "too few columns": ("timestamp,requests\n0,1\n60\n", 3, "too few columns: '60'"),
    "unsorted": ("timestamp,requests\n0,1\n120,2\n60,3\n", 4, "earlier than that of line 3"),
    "duplicate": ("timestamp,requests\n0,1\n60,2\n60,3\n", 4, "the same timestamp as line 3"),
    "no time": ("timestamp,requests\nyesterday,1\ntoday,2\n", 2, "timestamp can't be read: 'yesterday'"),
    "mixed times": ("timestamp,requests\n0,1\n2026-01-01T00:00:00Z,2\n", 3, "as seconds"),
    "infinite time": ("timestamp,requests\n0,1\ninf,2\n", 3, "timestamp can't be read: 'inf'"),
    "off the grid": ("timestamp,requests\n0,1\n60,2\n120,3\n150,3\n", 5, "30 s after line 4"),
    "mostly gap": ("timestamp,requests\n0,1\n60,2\n120,3\n1200,4\n", None, "gap: after line 4"),
    "endless gap": ("timestamp,requests\n0,1\n60,2\n120,3\n1e300,4\n", None, "gap: after line 4"),
    "a quote that never ends": ('timestamp,requests\n0,1\n"60,2\n120,3\n', 4, "too few columns"),
    "a field beyond reason": ("timestamp,requests\n0,1\n60," + "9" * 200_000 + "\n", None, "not CSV"),
}


@pytest.mark.parametrize(("text", "line", "says"), BAD.values(), ids=BAD.keys())
def test_refused_with_file_line_value_and_remedy(
    tmp_path: Path, text: str | bytes, line: int | None, says: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        read_trace(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert says in message
    if line is not None:
        assert f" line {line}: " in message
    assert refused.value.remedy
    assert message.endswith(refused.value.remedy)
    assert len(message) < len(str(path)) + 300


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_trace(tmp_path / "nothing.csv")
    with pytest.raises(BadInput, match="can't be read"):
        read_trace(tmp_path)


def test_a_million_rows_take_seconds(tmp_path: Path) -> None:
    path = written(
        tmp_path, "timestamp,requests\n" + "".join(f"{60 * i},{i % 7}\n" for i in range(1_000_000))
    )
    began = time.monotonic()
    trace = read_trace(path)
    assert len(trace.requests) == 1_000_000
    assert time.monotonic() - began < 30


def test_the_shipped_trace_is_what_its_script_writes() -> None:
    assert DEMO_TRACE.read_text(encoding="utf-8") == csv_text()
    trace = read_trace(DEMO_TRACE)
    assert (len(trace.requests), trace.bin_s) == (240, 60)
    assert np.max(trace.requests) > 2.5 * np.median(trace.requests)


def test_real_traces_are_read(shared_traces: Path) -> None:
    found = {trace.name: trace for trace in map(read_trace, sorted(shared_traces.glob("*.csv")))}
    assert len(found) >= 9
    assert found["nasa_http_jul95_1min"].bin_s == 60
    assert len(found["worldcup98_1min"].requests) == 125_310
    elb = found["nab_elb_request_count_5min"]
    assert (len(elb.requests), elb.bin_s) == (4040, 300)
    assert elb.notes[0].startswith("8 of 4040 bins were missing")
