"""The bench of inference with servers that are tables of figures, and the bare model as the process that it is."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.bare_onnx import BareOnnx
from lab.bench_inference import BARS, Contest, Launch, NotStarted, TierFigures, bench_tier, best_rival, report
from lab.closed_loop import Load, LoadFailed, Target
from lab.rivals.model import Model, together
from lab.rivals.specs import OURS, RIVALS
from lab.utterances import Utterance, read_utterances

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "models/catalog/intent/tiny"


class Machine:
    """Answers 1000 requests in a time that its table names, and slows down by ``drift`` with each measurement."""

    def __init__(self, ms: dict[str, float], *, drift: float = 0.0, broken: str = "") -> None:
        self.ms, self.drift, self.broken = ms, drift, broken
        self.calls: list[tuple[str, int]] = []
        self.up: list[str] = []

    def measure(self, name: str, connections: int) -> Load:
        ms = self.ms[name] * (1 + self.drift * len(self.calls))
        self.calls.append((name, connections))
        if name == self.broken:
            return Load(1000, 900, 100, 900.0, ms, ms, 1.0, "status 500")
        return Load(1000, 1000, 0, 1000 * connections / ms, ms, 2 * ms, 1.0)

    def run(self, target: Target, *, connections: int, seconds: float, warmup_s: float) -> Load:
        return self.measure(target.url, connections)

    def bare(self, name: str) -> Any:
        return lambda *, connections, seconds, warmup_s: self.measure(name, connections)

    def launch(self, name: str, *, starts: bool = True) -> Launch:
        @contextlib.contextmanager
        def server() -> Iterator[Any]:
            if not starts:
                raise NotStarted(f"{name} ended before it answered")
            self.up.append(name)
            yield Server(name)
            self.up.remove(name)

        return server


class Server:
    """A server that is up."""

    ready_s = 0.5
    accuracy = 0.97619

    def __init__(self, url: str) -> None:
        self.target = Target(url, ["{}"])

    def rss_mb(self) -> float:
        return 61.23


def bench(machine: Machine, rivals: dict[str, Launch] | None = None, **options: Any) -> TierFigures:
    any_batch = machine.bare("any") if "any" in machine.ms else None
    contest = Contest(machine.bare("bare"), any_batch, machine.launch("ours"), rivals or {})
    return bench_tier(contest, machine.run, **options)


def test_ratios_are_of_a_round_and_drift_cancels() -> None:
    machine = Machine({"bare": 1.0, "ours": 2.0, "litserve": 10.0, "ray": 6.0}, drift=0.01)
    rivals = {name: machine.launch(name) for name in ("litserve", "ray")}
    figures = bench(machine, rivals, rounds=4)
    # 4 rounds: the second of two is slower by up to 1 %, in half of the rounds ours.
    assert figures["c64_vs_bare"] == pytest.approx(0.5, abs=0.005)
    assert figures["rivals"]["litserve"]["ours_times_64"] == pytest.approx(5.0, abs=0.05)
    assert figures["rivals"]["ray"]["ours_times_64"] == pytest.approx(3.0, abs=0.03)
    assert len(figures["rivals"]["ray"]["ours_times_64_rounds"]) == len(figures["c64_vs_bare_rounds"]) == 4
    assert best_rival(figures) == "ray"
    assert figures["c1_p50_added_ms"] == pytest.approx(1.0, abs=0.1)


def test_rounds_go_forwards_and_backwards_and_one_rival_is_up_at_a_time() -> None:
    machine = Machine({"bare": 1.0, "any": 1.0, "ours": 2.0, "litserve": 10.0, "ray": 6.0})
    seen: list[list[str]] = []
    figures = bench(
        machine,
        {name: machine.launch(name) for name in ("litserve", "ray")},
        rounds=2,
        say=lambda line: seen.append(list(machine.up)),
    )
    assert [name for name, _ in machine.calls[:6]] == ["ours", "bare", "any", "any", "bare", "ours"]
    assert [name for name, _ in machine.calls[18:22]] == ["ours", "litserve", "litserve", "ours"]
    assert [n for _, n in machine.calls[18:30]] == [1] * 4 + [8] * 4 + [64] * 4
    assert all(up in (["ours"], ["ours", "litserve"], ["ours", "ray"]) for up in seen)
    assert machine.up == []
    assert figures["bare_any_batch"] is not None
    assert figures["ours"] == {
        "at": {
            "1": {"rps": 500.0, "p50_ms": 2.0, "p99_ms": 4.0},
            "8": {"rps": 4000.0, "p50_ms": 2.0, "p99_ms": 4.0},
            "64": {"rps": 32000.0, "p50_ms": 2.0, "p99_ms": 4.0},
        },
        "rss_mb": 61.2, "ready_s": 0.5, "accuracy": 0.9762,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("starts", "why"),
    [(False, "ray ended before it answered"), (True, "ray at 1 connections: 100 of 1000 requests failed")],
)
def test_a_rival_that_fails_is_named_and_the_others_are_measured(starts: bool, why: str) -> None:
    machine = Machine({"bare": 1.0, "ours": 2.0, "litserve": 10.0, "ray": 6.0}, broken="ray")
    rivals = {"ray": machine.launch("ray", starts=starts), "litserve": machine.launch("litserve")}
    said: list[str] = []
    figures = bench(machine, rivals, rounds=1, say=said.append)
    assert list(figures["rivals"]) == ["litserve"]
    assert why in figures["failed"]["ray"]
    assert any(line.startswith("ray is left out: ") and why in line for line in said)
    told = report({"tiny": figures})
    assert told["failed"]["ray"].startswith("tiny: ")
    assert told["tiny_best_rival"] == "litserve"


def test_a_failure_of_ours_or_of_bare_is_no_figure() -> None:
    for broken in ("ours", "bare"):
        machine = Machine({"bare": 1.0, "ours": 2.0}, broken=broken)
        with pytest.raises(LoadFailed, match=f"{broken} at 1 connections: 100 of 1000 requests failed"):
            bench(machine, rounds=1)
    machine = Machine({"bare": 1.0, "ours": 2.0, "ray": 6.0})

    class Failing(Machine):
        def measure(self, name: str, connections: int) -> Load:
            self.broken = "ours" if "ray" in self.up else ""
            return super().measure(name, connections)

    failing = Failing(machine.ms)
    with pytest.raises(LoadFailed, match="ours at 1 connections"):
        bench(failing, {"ray": failing.launch("ray")}, rounds=1)
    contest = Contest(machine.bare("bare"), None, machine.launch("ours", starts=False), {})
    with pytest.raises(NotStarted, match="ours ended"):
        bench_tier(contest, machine.run, rounds=1)
    with pytest.raises(ValueError, match="0 rounds"):
        bench(machine, rounds=0)


def test_the_report_has_what_has_a_bar_with_the_bar_beside_it() -> None:
    def tier(ours: float, rivals: dict[str, float]) -> TierFigures:
        machine = Machine({"bare": 1.0, "ours": ours, **rivals})
        return bench(machine, {name: machine.launch(name) for name in rivals}, rounds=1)

    told = report({"tiny": tier(2.0, {"ray": 6.0, "litserve": 20.0}), "base": tier(1.25, {})})
    assert told["tiny_c64_vs_bare"] == 0.5
    assert told["tiny_c64_vs_best_rival"] == 3.0
    assert told["base_c64_vs_bare"] == 0.8
    assert "base_c64_vs_best_rival" not in told
    assert set(told["bare"]) == set(told["ours"]) == {"tiny", "base"}
    assert set(told["rivals"]) == {"ray", "litserve"}
    assert set(told["rivals"]["ray"]) == {"tiny"}
    met = {bar["figure"]: bar["met"] for bar in told["bars"]}
    assert set(met) == {bar.figure for bar in BARS}
    assert met["tiny_c64_vs_bare"] and met["base_c64_vs_bare"] and met["tiny_rss_mb"] and met["base_ready_s"]
    assert not met["tiny_c64_vs_best_rival"] and not met["tiny_c1_p50_added_ms"]
    assert met["base_c1_p50_added_ms"]
    assert {"at_least": 0.35, "value": 0.5}.items() <= told["bars"][0].items()
    alone = report({"base": tier(2.0, {})})
    assert {bar["figure"] for bar in alone["bars"]} == {
        "base_c64_vs_bare",
        "base_c1_p50_added_ms",
        "base_ready_s",
    }


def test_the_bare_model_is_measured_in_a_process_of_its_own() -> None:
    with BareOnnx(TINY, 0) as bare:
        one, many = (bare(connections=n, seconds=0.2, warmup_s=0.05) for n in (1, 64))
    assert one.ok == one.requests > 0
    assert many.ok % 32 == 0, "never more than 32 run together"
    for load in (one, many):
        assert load.p50_ms is not None and load.p99_ms is not None
        assert 0 < load.p50_ms <= load.p99_ms
        assert load.rps == pytest.approx(load.ok / load.seconds)
    with BareOnnx(ROOT / "models/catalog/no/such", 0) as absent, pytest.raises(LoadFailed, match="no/such"):
        absent(connections=1, seconds=0.1, warmup_s=0.0)


def test_a_card_bounds_what_runs_together() -> None:
    assert [together(n) for n in (0, 1, 8, 64)] == [32, 1, 8, 32]


def test_rivals_have_the_model_that_ours_has() -> None:
    said = read_utterances()
    labels = Model(TINY).labels([one.text for one in said])
    assert sum(label == one.intent for label, one in zip(labels, said, strict=True)) > 0.9 * len(said)


@pytest.mark.parametrize("name", [*RIVALS, "ours"])
def test_a_server_that_is_not_there_answers_no_label(name: str) -> None:
    spec = RIVALS.get(name, OURS)
    assert spec.ask(1, "turn it on") is None
    target = spec.target(1234, [Utterance('say "it"', "x")])
    assert target.url.startswith("http://127.0.0.1:1234/")
    assert len(target.bodies) == 1 and '\\"it\\"' in target.bodies[0]


def test_rivals_run_on_the_same_onnx_runtime_and_each_has_a_lock_with_hashes() -> None:
    def pinned(lock: Path, package: str) -> list[str]:
        return re.findall(rf"^{package}==(\S+)", lock.read_text(), re.MULTILINE)

    ours = ROOT / "requirements/runtime.lock"
    for name in RIVALS:
        lock = ROOT / f"requirements/rivals/{name}.lock"
        assert lock.with_suffix(".in").exists()
        assert (ROOT / f"lab/rivals/{name}_server.py").exists()
        assert "--hash=sha256:" in lock.read_text()
        for package in ("onnxruntime", "tokenizers"):
            assert pinned(lock, package) == pinned(ours, package), (
                f"{name}: {package}; compile its lock again"
            )


def test_rivals_need_nothing_of_this_project_but_the_lab() -> None:
    """Their environments have no msgspec: what their servers import must not either."""
    script = "import sys, lab.rivals.model; sys.exit('msgspec' in sys.modules or 'foremesh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False).returncode == 0
