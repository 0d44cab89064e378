"""`foremesh lab`: runs, reports, explanations, and everything that a user may get wrong."""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.local.settings import REPO
from lab.measures import FIGURES
from tests.unit.foremesh.conftest import Done

Foremesh = Callable[..., Done]

KEYS = {"trace", "policy", "setting", "default", "start_delay_s", "seed", *FIGURES}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two hours of one-minute bins that swing by half within 40 minutes; the last half hour is judged."""
    path = tmp_path / "swing.csv"
    rows = [(at * 60, round(600 + 300 * math.sin(at / 6.4))) for at in range(120)]
    return written(path, rows)


def written(path: Path, rows: list[tuple[Any, Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("timestamp", "requests"), *rows])
    return path


def ran(foremesh: Foremesh, trace: Path, out: Path, *words: str) -> list[dict[str, Any]]:
    done = foremesh("lab", "run", "--trace", str(trace), "--out", str(out), "--jobs", "1", *words)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((out / "results.json").read_text())
    return rows


def test_run_report_and_explain(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "hpa,hpa-tuned,kpa,keda,persistence,trend,predictive,oracle,informed"
    rows = ran(foremesh, trace, out, "--policies", names, "--start-delay", "15,60", "--seeds", "2")
    assert all(set(row) == KEYS for row in rows)
    assert len(rows) == 9 * 2 * 2
    assert {(row["trace"], row["default"]) for row in rows} == {("swing", True)}
    assert {row["policy"] for row in rows} == set(names.split(","))
    oracle = [row for row in rows if row["policy"] == "oracle"]
    assert max(row["tau_u"] for row in oracle) == 0
    assert max(row["waste"] for row in oracle) < min(
        row["waste"] for row in rows if row["policy"] in {"hpa", "kpa"}
    )

    done = foremesh("lab", "report", str(out))
    assert done.returncode == 0, done.stderr
    page = (out / "report.html").read_text()
    assert "plotly.js" in page[:100_000]
    assert (out / "fronts.svg").read_text().count("<polyline") == 9 * 2
    assert "| swing | 15 |" in (out / "digest.md").read_text()
    assert 'src="http' not in page and "src='http" not in page  # nothing is fetched
    for name in names.split(","):
        assert name in page

    done = foremesh("lab", "explain", str(out), "--at", "01:40", "--policy", "hpa", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["decision"]["policy"] == "hpa"
    assert said["decision"]["reasons"][0]["text"]
    assert (
        said["taken"]["answered"] + said["taken"]["shed"] == said["held"]["answered"] + said["held"]["shed"]
    )
    text = foremesh("lab", "explain", str(out), "--at", "01:40").stdout
    assert "why" in text
    assert "held" in text


def test_a_sweep_runs_each_policy_over_its_own_knob(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    rows = ran(foremesh, trace, tmp_path / "out", "--policies", "hpa,predictive,oracle", "--sweep")
    settings = {
        policy: [row["setting"] for row in rows if row["policy"] == policy]
        for policy in ("hpa", "predictive")
    }
    assert settings["hpa"] == [f"target={value:g}" for value in (0.7, 0.4, 0.5, 0.6, 0.8, 0.9)]
    assert settings["predictive"][0] == "price=auto"
    assert len(settings["predictive"]) == 8
    assert [row["setting"] for row in rows if row["policy"] == "oracle"] == [""]
    assert sum(row["default"] for row in rows) == 3
    # More room costs more and misses less.
    hpa = {row["setting"]: row for row in rows if row["policy"] == "hpa"}
    assert hpa["target=0.4"]["waste"] > hpa["target=0.9"]["waste"]
    assert hpa["target=0.4"]["tau_u"] < hpa["target=0.9"]["tau_u"]


def test_the_same_run_is_the_same_whatever_the_number_of_processes(
    foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    one = ran(foremesh, trace, tmp_path / "one", "--policies", "kpa,predictive")
    two = ran(foremesh, trace, tmp_path / "two", "--policies", "kpa,predictive", "--jobs", "2")
    assert one == two


OWN = """
from dataclasses import dataclass
from services.autoscaler.decision import Decision, Reason

@dataclass
class Mine:
    name: str = "mine"
    ticks: int = 0

    def decide(self, observation):
        self.ticks += 1
        {extra}
        return Decision(observation.now, self.name, 25, observation.wanted, (Reason("mine", "25 will do"),))
"""


def test_a_run_that_is_ended_keeps_the_rows_that_are_done(trace: Path, tmp_path: Path) -> None:
    out, slow, begins = tmp_path / "out", tmp_path / "slow.py", tmp_path / "begins"
    slow.write_text(OWN.format(extra=f"import time; open({str(begins)!r}, 'w').close(); time.sleep(600)"))
    words = ("--trace", str(trace), "--policies", f"hpa,kpa,{slow}:Mine", "--jobs", "1", "--out", str(out))
    begun = subprocess.Popen([sys.executable, "-m", "foremesh.cli", "lab", "run", *words], cwd=REPO)
    deadline = time.monotonic() + 120
    # It is the last of what its one process has to do.
    while not begins.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    begun.send_signal(signal.SIGTERM)
    assert begun.wait(60) == 130
    assert json.loads((out / "results.json").read_text())[0]["policy"] == "hpa"


def test_a_policy_of_the_users_own(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN.format(extra=""))
    rows = ran(foremesh, trace, tmp_path / "out", "--policies", f"hpa,{own}:Mine")
    assert [row["policy"] for row in rows] == ["hpa", f"{own}:Mine"]
    assert rows[1]["pod_hours"] == pytest.approx(12.5, rel=0.01)  # 25 replicas for half an hour


BROKEN = {
    "KeyError: 'what I forgot'": OWN.format(extra="raise KeyError('what I forgot')"),
    "AttributeError: 'int' object": OWN.format(extra="return 7"),
    "SystemExit: 3": OWN.format(extra="raise SystemExit(3)"),
    "TypeError": "class Mine:\n    def __init__(self, needed): pass\n",
    "has no class Mine": "class Other: pass\n",
    "SyntaxError": "def broken(:\n",
    "ModuleNotFoundError": "import nothing_of_that_name\n",
}


def test_a_broken_policy_fails_its_own_row_and_not_the_run(
    foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = [tmp_path / f"mine{at}.py" for at in range(len(BROKEN))]
    for file, source in zip(files, BROKEN.values(), strict=True):
        file.write_text(source)
    *broken, good = ran(
        foremesh, trace, out, "--policies", ",".join([*(f"{file}:Mine" for file in files), "hpa"])
    )
    for row, complaint in zip(broken, BROKEN, strict=True):
        assert complaint in row["error"]
        assert "Traceback" in row["error"]
        assert all(row[name] is None for name in FIGURES)
    assert set(good) == KEYS
    assert good["waste"] is not None
    assert foremesh("lab", "report", str(out)).returncode == 0
    page = (out / "report.html").read_text()
    assert "Policies that broke" in page
    assert "what I forgot" in page


def test_the_policy_of_the_readme_runs(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    (source,) = re.findall(
        r"^```python\n(.*?)^```", (REPO / "lab/README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    own = tmp_path / "mine.py"
    own.write_text(source)
    rows = ran(foremesh, trace, tmp_path / "out", "--policies", f"{own}:MyPolicy", "--sweep")
    assert len(rows) == 5
    assert all(row["waste"] is not None for row in rows)


def test_a_policy_of_the_users_own_has_a_front_when_it_has_a_knob(
    foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    own, out = tmp_path / "mine.py", tmp_path / "out"
    own.write_text(
        "from services.autoscaler.policies import Persistence\n\n\n"
        "class Mine(Persistence):\n    knob = ('headroom', 0.3, (0.1, 0.3, 0.6))\n"
    )
    rows = ran(foremesh, trace, out, "--policies", f"persistence,hpa,{own}:Mine", "--sweep")
    mine = {row["setting"]: row for row in rows if row["policy"].endswith("Mine")}
    assert list(mine) == ["headroom=0.3", "headroom=0.1", "headroom=0.6"]
    assert mine["headroom=0.1"]["waste"] < mine["headroom=0.3"]["waste"] < mine["headroom=0.6"]["waste"]
    theirs = next(row for row in rows if (row["policy"], row["setting"]) == ("persistence", "headroom=0.3"))
    assert {name: mine["headroom=0.3"][name] for name in FIGURES} == {name: theirs[name] for name in FIGURES}
    said = json.loads(foremesh("lab", "report", str(out), "--json").stdout)
    assert {one["policy"] for one in said["at_equal_miss"]} == {f"{own}:Mine"}
    # On the very front of one of its rivals it is no better than that one.
    assert all(one["worst"] >= 0.99 for one in said["at_equal_miss"])
    own.write_text("class Mine:\n    knob = ('headroom', 'much')\n")
    done = foremesh("lab", "run", "--trace", str(trace), "--out", str(out), "--policies", f"{own}:Mine")
    assert done.returncode == 2
    assert str(own) in done.stderr
    assert 'knob = ("target"' in done.stderr


def test_only_broken_policies_are_a_failure(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("class Mine:\n    pass\n")
    done = foremesh(
        "lab",
        "run",
        "--trace",
        str(trace),
        "--out",
        str(tmp_path / "out"),
        "--policies",
        f"{own}:Mine",
        "--jobs",
        "1",
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def minutes(count: int, **changed: Any) -> list[tuple[Any, Any]]:
    rows: list[tuple[Any, Any]] = [(at * 60, 300) for at in range(count)]
    for line, row in changed.items():
        rows[int(line.removeprefix("line")) - 2] = row
    return rows


@pytest.mark.parametrize(
    ("rows", "line", "remedy"),
    [
        (minutes(9, line5=(180, -4)), "line 5", "write a count, 0 or more"),
        (minutes(9, line5=(180, "many")), "line 5", "write a count, 0 or more"),
        (minutes(9, line5=(180, "nan")), "line 5", "leave the row out"),
        (minutes(9, line5=("noon", 3)), "line 5", "write it as seconds"),
        (minutes(9, line5=(120, 3)), "line 5", "keep one row per bin"),
        (minutes(9, line5=(30, 3)), "line 5", "sort the rows by time"),
        (minutes(9, line5=(200, 3)), "line 5", "write one row per bin of one width"),
        (minutes(1), "1 row", "at least 2 rows"),
        ([*minutes(5), (90_000, 3)], "line 6", "write bins without requests as rows with 0"),
        ([(at * 60, 0) for at in range(40)], "no requests", "judge a larger part"),
        ([(at * 0.5, 9) for at in range(40)], "0.5 s", "whole seconds"),
        ([], "0 row", "at least 2 rows"),
    ],
)
def test_a_trace_that_cannot_be_used_names_file_line_and_remedy(
    foremesh: Foremesh, tmp_path: Path, rows: list[tuple[Any, Any]], line: str, remedy: str
) -> None:
    path = written(tmp_path / "bad.csv", rows)
    done = foremesh("lab", "run", "--trace", str(path), "--out", str(tmp_path / "out"), "--policies", "hpa")
    assert done.returncode == 2
    for part in (str(path), line, remedy):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gap_is_filled_and_said(foremesh: Foremesh, tmp_path: Path) -> None:
    path = written(tmp_path / "gap.csv", [row for row in minutes(120) if row[0] != 600])
    done = foremesh(
        "lab", "run", "--trace", str(path), "--out", str(tmp_path / "out"), "--policies", "hpa", "--jobs", "1"
    )
    assert done.returncode == 0
    assert "1 of 120 bins were missing (the first after line 11)" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        (("--policies", "hpa,magic"), ("magic", "predictive", "./mine.py:MyPolicy")),
        (("--policies", "hpa,hpa"), ("hpa", "twice")),
        (("--policies", ","), ("--policies", "name one")),
        (("--policies", "./none.py:Mine"), ("none.py", "no such file", "./mine.py:MyPolicy")),
        (("--start-delay", "0"), ("--start-delay", "above 0")),
        (("--start-delay", "-3"), ("--start-delay", "above 0")),
        (("--start-delay", "15,soon"), ("--start-delay", "soon", "seconds such as 15,30,60")),
        (("--start-delay", "15,15"), ("--start-delay", "twice")),
        (("--start-delay", "nan"), ("--start-delay", "above 0")),
        (("--scale", "0"), ("--scale 0", "above zero")),
        (("--scale", "1e12"), ("requests would be simulated", "lower --scale")),
        (("--min", "5", "--max", "4"), ("min 5", "max 4", "min <= max")),
        (("--policies", "hpa-tuned", "--last", "1"), ("hpa-tuned", "--last 0.25")),
    ],
)
def test_bad_options_name_themselves_and_the_way_out(
    foremesh: Foremesh, trace: Path, tmp_path: Path, words: tuple[str, ...], complaints: tuple[str, ...]
) -> None:
    done = foremesh("lab", "run", "--trace", str(trace), "--out", str(tmp_path / "out"), *words)
    assert done.returncode == 2
    for complaint in complaints:
        assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_trace_two_of_one_name_and_an_out_that_is_a_file(
    foremesh: Foremesh, trace: Path, tmp_path: Path
) -> None:
    done = foremesh("lab", "run", "--trace", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out"))
    assert (done.returncode, "no such file" in done.stderr) == (2, True)
    twice = ("--trace", str(trace), "--trace", str(trace))
    done = foremesh("lab", "run", *twice, "--out", str(tmp_path / "out"))
    assert (done.returncode, "given twice" in done.stderr) == (2, True)
    done = foremesh("lab", "run", "--trace", str(trace), "--out", str(trace))
    assert (done.returncode, "name a folder" in done.stderr) == (2, True)


def test_a_folder_without_a_run(foremesh: Foremesh, tmp_path: Path) -> None:
    for words in (("report", str(tmp_path)), ("explain", str(tmp_path), "--at", "12:00")):
        done = foremesh("lab", *words)
        assert done.returncode == 2
        assert "no such file" in done.stderr
        assert "foremesh lab run" in done.stderr
    (tmp_path / "results.json").write_text('[{"trace": "x"}]')
    done = foremesh("lab", "report", str(tmp_path))
    assert (done.returncode, "not the rows of a run" in done.stderr) == (2, True)


def test_a_live_run_is_shown_in_the_report(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    out, live = tmp_path / "out", tmp_path / "live.json"
    ran(foremesh, trace, out, "--policies", "hpa")
    live.write_text(
        json.dumps({
            "policy": "kpa", "duration_s": 30.0, "seed": 1, "peak_rps": 50.0, "capacity_rps": 20.0, "step_s": 1.0,
            "min_replicas": 1, "max_replicas": 4, "replicas": [[0.0, 1, 1]], "sent": 900, "shed": 9, "p95_ms": 31.5,
        })
    )  # fmt: skip
    done = foremesh("lab", "validate", str(live), "--trace", str(trace), "--out", str(out), "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert "p95_ms" in done.stdout
    assert "31.5" in done.stdout
    assert foremesh("lab", "report", str(out)).returncode == 0
    assert "Beside a live mesh" in (out / "report.html").read_text()
    live.write_text("{}")
    done = foremesh("lab", "validate", str(live), "--trace", str(trace), "--out", str(out))
    assert (done.returncode, "it lacks policy" in done.stderr) == (2, True)


def test_explain_says_what_there_is(foremesh: Foremesh, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran(foremesh, trace, out, "--policies", "hpa")
    for words, complaint in (
        (("--at", "25:99", "--policy", "hpa"), "write 12:34"),
        (("--at", "05:00", "--policy", "hpa"), "outside of what was judged"),
        (("--at", "01:40", "--policy", "kpa"), "policies hpa"),
        (("--at", "01:40", "--policy", "hpa", "--trace", "other"), "swing"),
        (("--at", "01:40", "--policy", "hpa", "--seed", "7"), "seeds 0..0"),
    ):
        done = foremesh("lab", "explain", str(out), *words)
        assert done.returncode == 2, words
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
