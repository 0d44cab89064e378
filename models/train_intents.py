"""Train an intent model and write its catalog entry: `python -m models.train_intents --help`.

What is made: a vocabulary learnt from the training part, a BiLSTM chosen by the validation part, the smallest
ONNX variant that loses nothing (see `models.intents.quantise`), and a card with everything measured. The test
part is looked at once, at the end.

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.command import OWN, answer, positive
from models.intents.recipe import Recipe
from models.intents.utterances import read_utterances

if TYPE_CHECKING:
    from models.intents.fit import Epoch


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.train_intents",
        description="Train an intent model on DIR/{train,valid,test}.tsv (text<TAB>intent) and write a "
        "catalog entry.",
        epilog="Example: python -m models.train_intents --data DIR --out models/catalog/intent/tiny. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder with train.tsv, valid.tsv, test.tsv"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="catalog entry to write, .../MODEL/TIER"
    )
    for what in ("name", "source", "licence"):
        parser.add_argument(
            f"--data-{what}",
            default="not stated",
            metavar="TEXT",
            help=f"{what} of the data, for the card (default: not stated)",
        )
    parser.add_argument("--version", default="1", help="version on the card (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="decides every random choice (default %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=positive, default=Recipe.epochs, help="passes over the data (default %(default)s)"
    )
    return parser.parse_args()


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Read, train and write; draws progress meanwhile. Returns the card; raises OSError or ValueError."""
    parts = {name: read_utterances(args.data / f"{name}.tsv") for name in ("train", "valid", "test")}
    own = read_utterances(OWN)
    from models.intents.entry import build_entry  # noqa: PLC0415 (JAX is slow to import, and may be missing)

    recipe = Recipe(seed=args.seed, epochs=args.epochs)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=recipe.epochs)
        best = 0.0

        def report(epoch: Epoch) -> None:
            nonlocal best
            best = max(best, epoch.valid)
            said = f"loss {epoch.loss:.3f}  valid {epoch.valid:.2%}  best {best:.2%}"
            progress.update(task, advance=1, description=said)

        about = {what: getattr(args, f"data_{what}") for what in ("name", "source", "licence")}
        return build_entry(parts, own, recipe, args.out, version=args.version, about=about, report=report)


def main() -> int:
    args = arguments()

    def work() -> None:
        card = train(args)
        accuracy = card["accuracy"]
        print(
            f"{args.out}: {card['variant']}, test {accuracy['test']:.2%}, "
            f"own utterances {accuracy['own_utterances']:.2%}, {card['size_mb']} MB"
        )

    return answer("train_intents", "--train", work)


if __name__ == "__main__":
    sys.exit(main())
