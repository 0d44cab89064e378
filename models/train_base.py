"""Fine-tune the base encoder and write its catalog entries: `python -m models.train_base --help`.

All sets are learnt at once by one encoder with a head for each. A training of hours: every epoch is kept below
--cache, and the same command goes on from the last one.

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.command import OWN, answer, positive
from models.corpus import read_task
from models.intents.utterances import read_utterances
from models.minilm.recipe import Recipe

if TYPE_CHECKING:
    from models.minilm import fit

TIERS = {"base": "int8", "base-4bit": "int4"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.train_base",
        description="Fine-tune MiniLM-L6 on every --data DIR (train.tsv, test.tsv and, where there is one, valid.tsv) "
        "and write the entries OUT/base (INT8) and OUT/base-4bit.",
        epilog="Example: python -m models.train_base --data hwu64 --data clinc150 --out models/catalog/intent. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="a set; the first one's is `logits`",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the model, .../MODEL"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache/foremesh/training",
        metavar="DIR",
        help="where epochs are kept (default %(default)s)",
    )
    for what in ("source", "licence"):
        parser.add_argument(
            f"--data-{what}", default="not stated", metavar="TEXT", help=f"{what} of the data, for the card"
        )
    parser.add_argument(
        "--tier",
        choices=TIERS,
        action="append",
        help="write this entry only; may be given twice (default: all)",
    )
    parser.add_argument("--version", default="1", help="version on the cards (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=Recipe.seed, help="decides every random choice (default %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=positive, default=Recipe.epochs, help="passes over the data (default %(default)s)"
    )
    parser.add_argument(
        "--stop",
        type=positive,
        default=0,
        metavar="N",
        help="end after so many of them, where the validation parts have stopped to gain (default: after all)",
    )
    return parser.parse_args()


def train(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Read, train and write; draws progress meanwhile. Returns the cards by tier; raises OSError or ValueError."""
    tasks = [read_task(folder) for folder in args.data]
    own = [item for item in read_utterances(OWN) if item.intent in tasks[0].labels]
    from models.minilm import entry, fit, network, source  # noqa: PLC0415 (JAX is slow to import, and may be missing)

    recipe = Recipe(seed=args.seed, epochs=args.epochs, stop=args.stop)
    arrays, tokenizer = source.read()
    encoder = network.from_file(arrays, longest=recipe.longest)
    columns = (
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task("")
        valid = ""

        def report(now: fit.Progress) -> None:
            nonlocal valid
            if now.valid:
                valid = "  ".join(f"{name} {share:.2%}" for name, share in now.valid.items())
                progress.console.print(f"epoch {now.epoch}: validation {valid}")
            progress.update(
                bar,
                completed=now.step,
                total=now.steps,
                description=f"epoch {now.epoch}  loss {now.loss:.3f}  {valid}",
            )

        trained = fit.fit(tasks, encoder, tokenizer, recipe, args.cache, report)
    about = {
        "source": "sentence-transformers/all-MiniLM-L6-v2",
        "data": {
            "name": ", ".join(task.name for task in tasks),
            "source": args.data_source,
            "licence": args.data_licence,
            **{part: sum(len(getattr(task, part)) for task in tasks) for part in ("train", "valid", "test")},
        },
        "licence": f"Apache-2.0 (weights); data {args.data_licence}",
    }
    return entry.build_entries(
        tasks, own, trained.network, tokenizer, recipe, args.out,
        {tier: variant for tier, variant in TIERS.items() if tier in (args.tier or TIERS)},
        version=args.version, about=about, seconds=trained.seconds,
    )  # fmt: skip


def main() -> int:
    args = arguments()

    def work() -> None:
        for tier, card in train(args).items():
            heads = ", ".join(f"{name} {head['test']:.2%}" for name, head in card["heads"].items())
            print(f"{args.out / tier}: {card['variant']}, test: {heads}; {card['size_mb']} MB")

    return answer("train_base", "--train --weights", work)


if __name__ == "__main__":
    sys.exit(main())
