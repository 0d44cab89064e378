"""Train tiers of a model on sentences of one's own: `python -m models.train --help`, or `foremesh models train`.

The larger tiers teach the smaller ones. Validation parts decide, each test part is looked at once, at the end. Every
epoch is kept below --cache, and the same command goes on from the last one.

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.command import CACHE, OWN, answer, card_options, common_options
from models.corpus import Task, read_sentences, read_task
from models.entries import Entry, find
from models.intents.utterances import read_utterances

if TYPE_CHECKING:
    from models.tiers import Now

CATALOG = Path(__file__).parent / "catalog"
TIERS = ("base", "base-4bit", "mini", "tiny")
"""What models.tiers makes, which needs the packages for training."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description="Train tiers on every --data DIR (train.tsv, test.tsv and, where there is one, valid.tsv; "
        "text<TAB>intent) and write an entry of the catalog for each: OUT/TIER. The first set's output is `logits`.",
        epilog="Example: python -m models.train --data DIR --tier mini,tiny --out models/catalog/own. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, action="append", metavar="DIR", help="a set; may be repeated"
    )
    parser.add_argument(
        "--tier", type=tiers, default=["tiny"], metavar="TIER,...", help=f"of {', '.join(TIERS)} (tiny)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the model, .../MODEL"
    )
    parser.add_argument(
        "--base", type=Path, default=CATALOG / "intent" / "base", metavar="DIR",
        help="entry to start from and, where it knows the same intents, to be taught by (default: the catalog's base)",
    )  # fmt: skip
    parser.add_argument(
        "--from-public", action="store_true",
        help="train base from the public MiniLM weights (`setup.py --train --weights`) and not from --base",
    )  # fmt: skip
    parser.add_argument(
        "--unlabelled", type=Path, action="append", default=[], metavar="FILE",
        help="sentences such as users say, one a line, that nobody has labelled: tiny is taught on them too; may be "
        "repeated",
    )  # fmt: skip
    card_options(parser)
    common_options(parser)
    return parser.parse_args()


def tiers(text: str) -> list[str]:
    """Names of tiers, separated by commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if strange := [name for name in names if name not in TIERS] or (not names and [text]):
        raise argparse.ArgumentTypeError(f"{strange[0]!r} is no tier; there are {', '.join(TIERS)}")
    return names


def train(
    data: Sequence[Path],
    wanted: Sequence[str],
    model: Path,
    *,
    base: Path,
    from_public: bool = False,
    cache: Path = CACHE,
    source: str = "not stated",
    licence: str = "not stated",
    version: str = "1",
    seed: int = 1,
    epochs: int = 0,
    targets: Mapping[str, Mapping[str, Any]] | None = None,
    unlabelled: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Read, train and write; draws progress meanwhile. Returns the cards by tier. targets: what they promise, by tier;
    unlabelled: further sentences, which tiny is taught on.

    Raises OSError or ValueError naming file and line, ModuleNotFoundError where a package for training is missing.
    """
    sets = [read_task(folder) for folder in data]
    own = [item for item in read_utterances(OWN) if item.intent in sets[0].labels]
    teacher = None if from_public else teacher_at(base)
    from models import tiers as making  # noqa: PLC0415 (JAX is slow to import, and may be missing)
    from models.minilm import start  # noqa: PLC0415
    from models.minilm.recipe import Recipe as EncoderRecipe  # noqa: PLC0415

    begin = start.public(EncoderRecipe.longest) if from_public else start.of_entry(base)
    plan = making.Plan(
        sets,
        own,
        begin,
        teacher,
        cache,
        seed,
        epochs,
        version,
        about(sets, begin.name, source, licence, len(unlabelled)),
        targets or {},
        unlabelled,
    )
    with bars() as progress:
        return making.make(plan, wanted, model, drawn(progress))


def bars() -> Progress:
    """Where `drawn` draws, on stderr."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))


def drawn(progress: Progress) -> Callable[[Now], None]:
    """One bar for each tier and step; where nobody watches a terminal, a line whenever a bar would begin or tell
    something new."""
    there: dict[tuple[str, str], Any] = {}
    told: tuple[str, str] | None = None

    def show(now: Now) -> None:
        nonlocal told
        what = (now.tier, now.doing.split(" ")[0])
        if what not in there:
            there[what] = progress.add_task("", said="")
        progress.update(
            there[what],
            completed=now.done,
            total=now.total,
            description=f"{now.tier}: {now.doing}",
            said=now.said,
        )
        # Without the running loss, which is another one at every step.
        news = (now.doing, now.said.partition("  ")[2])
        if not progress.console.is_terminal and news != told:
            told = news
            progress.console.print(
                f"{now.tier}: {now.doing}, {now.done} of {now.total}  {now.said}", soft_wrap=True
            )

    return show


def teacher_at(folder: Path) -> Entry:
    """The entry in a folder .../MODEL/TIER. Raises ValueError when there is none."""
    return find(folder.parent.parent, folder.parent.name, folder.name)


def about(
    sets: Sequence[Task], source: str, origin: str, licence: str, unlabelled: int = 0
) -> dict[str, Any]:
    """What the cards say of where the weights and the data are from."""
    return {
        "source": f"Started from {source}",
        "data": {
            "name": ", ".join(task.name for task in sets),
            "source": origin,
            "licence": licence,
            **{part: sum(len(getattr(task, part)) for task in sets) for part in ("train", "valid", "test")},
            **({"unlabelled": unlabelled} if unlabelled else {}),
        },
        "licence": f"Apache-2.0 (weights); data {licence}",
    }


def main() -> int:
    args = arguments()

    def work() -> None:
        cards = train(
            args.data, args.tier, args.out, base=args.base, from_public=args.from_public, cache=args.cache,
            source=args.data_source, licence=args.data_licence, version=args.version, seed=args.seed,
            epochs=args.epochs, unlabelled=[text for file in args.unlabelled for text in read_sentences(file)],
        )  # fmt: skip
        for tier, card in cards.items():
            heads = ", ".join(f"{name} {head['test']:.2%}" for name, head in card["heads"].items())
            print(f"{args.out / tier}: {card['variant']}, test: {heads}; {card['size_mb']} MB")

    return answer("train", "--train" + (" --weights" if args.from_public else ""), work)


if __name__ == "__main__":
    sys.exit(main())
