"""`foremesh models ...`: what is in the catalog, how an entry does on sentences of one's own, the study as a page."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.local.settings import REPO
from foremesh.mesh import Failed
from foremesh.models_serve import serve
from foremesh.models_train import train
from foremesh.options import USAGE, Json, exits, writable
from models import entries, evaluate
from models.intents.utterances import read_utterances
from models.report.cards import speed
from models.report.scores import number

CATALOG = REPO / "models/catalog"
STUDY = REPO / "models/study.json"
Catalog = Annotated[
    Path,
    typer.Option(
        help="Folder of the catalog.", envvar="FOREMESH_CATALOG", metavar="DIR", show_default="models/catalog"
    ),
]
Model = Annotated[str, typer.Option(help="Name of the model.")]

app = typer.Typer(
    help="Look at the models of the catalog, serve them, measure one on sentences of your own, train your own.",
    no_args_is_help=True,
)
app.command()(train)
app.command()(serve)


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Input that is wrong ends with one line and exit code 2."""
    try:
        yield
    except (OSError, ValueError) as e:
        said = f"{e.filename}: {e.strerror}" if isinstance(e, OSError) else e
        print(f"foremesh: {said}", file=sys.stderr)
        raise typer.Exit(USAGE) from None


@contextlib.contextmanager
def entry_errors() -> Iterator[None]:
    """A catalog entry that is broken ends with one line and exit code 1."""
    try:
        yield
    except entries.EntryError as e:
        raise Failed(str(e)) from None


@app.command("list")
@exits
def list_(catalog: Catalog = CATALOG, json: Json = False) -> None:
    """List every entry of the catalog with what its card says; `-` is what a card does not say.

    Accuracy is that on the test part of its data; MB that of its files; memory in MB that of a process which serves it
    alone; p50 the time of one sentence on one thread where the card was written; speed the FP32 model's p50 divided by
    that, measured side by side, so that 2x is twice as fast. `foremesh models eval` measures on this machine.

    Exit codes: 0 listed, 1 a card cannot be read, 2 there is no such catalog.
    """
    with usage(), entry_errors():
        rows = [facts(entry) for entry in entries.entries(catalog)]
    if json:
        print(jsonlib.dumps(rows, indent=2))
        return
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    formats = {
        "model": "{}", "tier": "{}", "accuracy": "{:.2%}", "size_mb": "{:.2f}", "rss_mb": "{:.0f}", "p50_ms": "{:.3f}",
        "speed": "{:.2f}x", "licence": "{}", "data": "{}",
    }  # fmt: skip
    names = {"size_mb": "MB", "rss_mb": "memory", "p50_ms": "p50 ms"}
    for name, form in formats.items():
        table.add_column(
            names.get(name, name), justify="left" if form == "{}" else "right", overflow="fold",
            no_wrap=name != "data",
        )  # fmt: skip
    for row in rows:
        if row["licence"] is not None:  # in a table that of the weights; the card has that of the data, too
            row["licence"] = str(row["licence"]).split(" (")[0]
        table.add_row(
            *("-" if row[name] is None else form.format(row[name]) for name, form in formats.items())
        )
    Console(highlight=False).print(table if rows else f"{catalog}: the catalog is empty", markup=False)


def facts(entry: entries.Entry) -> dict[str, Any]:
    """What a list says of an entry, None for what its card lacks: model, tier, accuracy (0..1), size_mb, rss_mb,
    p50_ms, speed (FP32's p50 divided by its own), licence, data.
    """
    card = entry.card
    data = card.get("data")
    return {
        "model": entry.model,
        "tier": entry.tier,
        "accuracy": number(card, "accuracy", "test"),
        "size_mb": number(card, "size_mb"),
        "rss_mb": number(card, "rss_mb"),
        "p50_ms": number(card, "p50_ms"),
        "speed": speed(card),
        "licence": card.get("licence"),
        "data": data.get("name") if isinstance(data, dict) else data,
    }


@app.command()
@exits
def show(
    tier: Annotated[str, typer.Argument(help="Tier of the model, such as tiny.", metavar="TIER")],
    model: Model = "intent",
    catalog: Catalog = CATALOG,
    json: Json = False,
) -> None:
    """Show the card of an entry: what it does, where its data comes from, how it was measured, its limits.

    --json prints card.json, the same for programs.

    Exit codes: 0 shown, 1 the card cannot be read, 2 there is no such entry.
    """
    with usage(), entry_errors():
        entry = entries.find(catalog, model, tier)
    if json:
        print(jsonlib.dumps(entry.card, indent=1, ensure_ascii=False))
        return
    from rich.markdown import Markdown  # noqa: PLC0415 (slow to import, and no other verb needs it)

    page = entry.folder / "README.md"
    try:
        text = page.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise Failed(f"{page} cannot be read: {e}; --json shows card.json") from None
    Console().print(Markdown(text))


@app.command("eval")
@exits
def eval_(
    tier: Annotated[str, typer.Option(help="Tier of the model, such as tiny.")],
    data: Annotated[
        Path, typer.Option(help="Sentences: TSV whose header names text and intent.", metavar="FILE.tsv")
    ],
    model: Model = "intent",
    catalog: Catalog = CATALOG,
    json: Annotated[
        Path | None, typer.Option(help="Write the result as JSON, whole or not at all.", metavar="OUT")
    ] = None,
    allow_unknown: Annotated[
        bool,
        typer.Option("--allow-unknown", help="Count sentences with labels unknown to the model as wrong."),
    ] = False,
) -> None:
    """Measure an entry on sentences of your own, on this machine: accuracy, macro F1, time, memory, size.

    The model's files are compared with the hashes on its card first. Then it runs in a process of its own, on one
    thread, each sentence alone: p50 and p99 are of the model's run, without tokenisation; memory is that process's.
    Where the entry keeps its FP32 model, that runs in the same minutes beside it, and its figures stand there too.

    Example: foremesh models eval --tier tiny --data models/data/utterances.tsv

    Exit codes: 0 measured, 1 a file is not what its card says or does not run, 2 a file or option was wrong.
    """
    with usage(), entry_errors():
        entry = entries.find(catalog, model, tier)
        items = read_utterances(data)
        if json:
            json = writable("--json", json)
        unknown = evaluate.unknown_labels(entry, items)
        if unknown and not allow_unknown:
            raise ValueError(
                f"{data}: {unknown.total()} of {len(items)} sentences carry labels that {model}/{tier} "
                f"does not know: {evaluate.named(unknown)}; rename them (its labels: `foremesh models show {tier} "
                f"--model {model} --json`), or count them as wrong with --allow-unknown"
            )
    from rich.progress import Progress  # noqa: PLC0415 (no other verb here needs it)

    errors = Console(stderr=True, highlight=False)
    with entry_errors(), Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(f"{model}/{tier}", total=None)
        result = evaluate.evaluate(
            entry, items, lambda done, total: progress.update(task, completed=done, total=total)
        )
    if json:
        try:
            evaluate.write_json(result, json)
        except OSError as e:
            raise Failed(f"{json} cannot be written: {e.strerror}") from None
    show_result(result, entry)


def show_result(result: evaluate.Measured, entry: entries.Entry) -> None:
    """Print a result as a table on stdout, and what to know about it on stderr."""
    fp32 = result.fp32_accuracy is not None and result.fp32_p50_ms is not None
    table = Table(box=None, header_style="bold")
    table.add_column(f"{result.model}/{result.tier}")
    table.add_column("this model", justify="right")
    if fp32:
        table.add_column("FP32", justify="right")
    table.add_row("accuracy", f"{result.accuracy:.2%}", f"{result.fp32_accuracy:.2%}" if fp32 else None)
    table.add_row("macro F1", f"{result.macro_f1:.4f}")
    table.add_row("p50 ms", f"{result.p50_ms:.4f}", f"{result.fp32_p50_ms:.4f}" if fp32 else None)
    table.add_row("p99 ms", f"{result.p99_ms:.4f}")
    table.add_row("memory MB", f"{result.rss_mb:.1f}")
    table.add_row("size MB", f"{result.size_mb:.3f}")
    table.add_row("sentences", str(result.sentences))
    Console(highlight=False).print(table)
    of = f"of {result.sentences} sentences"
    if result.cut:
        print(
            f"note: {result.cut} {of} are longer than {entry.card['max_tokens']} tokens and were cut there, as the "
            "service does",
            file=sys.stderr,
        )
    if result.unknown:
        print(f"note: {result.unknown} {of} carry a label unknown to the model: wrong", file=sys.stderr)


@app.command()
@exits
def report(
    out: Annotated[
        Path | None, typer.Option(help="Write the page here, whole or not at all.", metavar="FILE.html")
    ] = None,
    catalog: Catalog = CATALOG,
    study: Annotated[
        Path,
        typer.Option(
            help="Rows of the study: a JSON list, one object for each method and setting.",
            metavar="FILE.json",
            show_default="models/study.json",
        ),
    ] = STUDY,
    json: Annotated[bool, typer.Option("--json", help="Print what the page shows as JSON.")] = False,
) -> None:
    """Write the whole study as one HTML file: plots of size, accuracy and speed, then tables. It needs no network.

    Shown are the catalog's entries by set (with their targets, where their cards state some, and what was missed), the
    Pareto fronts, what each compression method gained and lost alone and stacked, a published article's claims beside
    our rows, which intents are taken for which, and how each figure was measured. Nothing is measured here: what no
    card and no row tells is "-" or "not measured". A study that is not there is said on the page.

    Example: foremesh models report --out report.html

    Exit codes: 0 written, 1 a card cannot be read or the page not be written, 2 a file or option was wrong.
    """
    from models.report.contents import gather  # noqa: PLC0415 (no other verb needs it)

    with usage(), entry_errors():
        if out is None and not json:
            raise ValueError("--out FILE.html says where the page goes; --json prints what it shows")
        target = writable("--out", out) if out else None
        contents = gather(
            catalog, study, str(study.relative_to(REPO) if study.is_relative_to(REPO) else study)
        )
    if contents.steps is None:
        print(f"note: {contents.study} is not there: the page says that no study was made", file=sys.stderr)
    if target:
        from models.report.page import render, write  # noqa: PLC0415

        try:
            write(render(contents), target)
        except OSError as e:
            raise Failed(f"{e.filename}: {e.strerror}" if e.strerror else str(e)) from None
    if json:
        print(jsonlib.dumps(contents.to_json(), indent=2, ensure_ascii=False))
    else:
        print(f"{out}: {len(contents.entries)} entries, {len(contents.steps or ())} rows of the study")
