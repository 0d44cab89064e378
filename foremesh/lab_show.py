"""`foremesh lab report` and `foremesh lab explain`: what a run found, for people."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foremesh.options import USAGE, Json, exits

if TYPE_CHECKING:
    from lab.explain import Explanation

Folder = Annotated[Path, typer.Argument(help="Folder that `foremesh lab run --out` wrote.", metavar="DIR")]


@exits
def report(folder: Folder, json: Json = False) -> None:
    """Write DIR/report.html: fronts of waste against misses, the hardest hours second by second, tables.

    The page needs nothing but a browser: no network, no other file. For a README there are DIR/fronts.svg and
    DIR/digest.md beside it. `--json` prints its path,
    the summaries and the comparisons at equal misses and at the defaults.

    Example: foremesh lab report results

    Exit codes: 0 written, 2 DIR holds no run.
    """
    from lab.bad_input import BadInput  # noqa: PLC0415 (numpy is slow to import)
    from lab.comparison import at_default, at_equal_miss, subjects  # noqa: PLC0415
    from lab.report import write_report  # noqa: PLC0415
    from lab.summary import read_rows, summaries  # noqa: PLC0415

    try:
        path = write_report(folder)
    except BadInput as e:
        raise _usage(e) from None
    if json:
        found = summaries(read_rows(folder))
        compared = subjects(found)
        document = {
            "report": str(path),
            "summaries": [asdict(one) for one in found],
            "at_equal_miss": [asdict(one) for name in compared for one in at_equal_miss(found, name)],
            "at_default": [asdict(one) for name in compared for one in at_default(found, name)],
        }
        print(jsonlib.dumps(document))
    else:
        print(path)


@exits
def explain(
    folder: Folder,
    at: Annotated[str, typer.Option(help="12:34 (UTC) of the first judged day, or 2026-01-31T12:34.")],
    trace: Annotated[str | None, typer.Option(help="Which trace; default: the first.")] = None,
    policy: Annotated[str, typer.Option(help="Which policy, at its default setting.")] = "predictive",
    start_delay: Annotated[float | None, typer.Option(help="Which start delay; default: the first.")] = None,
    seed: Annotated[int, typer.Option(help="Which seed.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Why a policy scaled at a moment of a run, and what would have happened had it not.

    The run is made again bit for bit, once as it was and once with the replicas held for ten minutes from that moment.
    Shown is the step nearest to the time, within ten minutes.

    Example: foremesh lab explain results --at 14:05 --policy hpa

    Exit codes: 0 explained, 2 DIR holds no run, or none of that policy, trace, start delay, seed or time.
    """
    from lab.bad_input import BadInput  # noqa: PLC0415 (numpy and numba are slow to import)
    from lab.explain import explain as explained  # noqa: PLC0415

    try:
        found = explained(folder, at, trace=trace, policy=policy, start_delay_s=start_delay, seed=seed)
    except (BadInput, ValueError) as e:
        raise _usage(e) from None
    if json:
        print(jsonlib.dumps(as_document(found)))
        return
    for line in lines(found):
        print(line)


def as_document(found: Explanation) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "trace": found.trace,
        "setting": found.setting,
        "asked": found.asked,
        "decision": found.decision.to_event(found.trace, found.observation, applied=True),
        "taken": asdict(found.taken),
        "held": asdict(found.held),
    }


def lines(found: Explanation) -> list[str]:
    """The same for people."""
    from lab.explain import AFTER_S  # noqa: PLC0415

    decision, seen = found.decision, found.observation
    when = datetime.fromtimestamp(found.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    step = f"{decision.previous} -> " if decision.changes else "no step, "
    said = [f"{found.trace}, {when}: {decision.policy} {found.setting}: {step}{decision.wanted} replicas"]
    if abs(found.at - found.asked) >= 2:
        said.append(f"  (the step nearest to the time, {found.at - found.asked:+.0f} s from it)")
    said.append(f"  saw    {seen.ready} ready, {seen.starting} starting, {seen.queue:.0f} requests waiting, "
                f"{seen.rate(6) or 0:.1f} req/s over 6 s")  # fmt: skip
    said += [f"  why    {reason.text} [{reason.code}]" for reason in decision.reasons]
    if decision.counterfactual:
        said.append(f"  else   {decision.counterfactual}")
    for name, what in (("taken", found.taken), ("held", found.held)):
        mean = "-" if what.mean_ms is None else f"{what.mean_ms:.0f} ms"
        said.append(
            f"  {name:6} next {AFTER_S // 60} min: {what.answered} answered in {mean} on average, "
            f"{what.late} beyond the SLO, {what.shed} shed, {what.ready:.1f} replicas ready on average"
        )
    return said


def _usage(error: ValueError) -> typer.Exit:
    from rich.console import Console  # noqa: PLC0415

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"foremesh: {error}", markup=False)
    return typer.Exit(USAGE)
