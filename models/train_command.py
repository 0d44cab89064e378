"""Train a command parser, intent and slots in one model: `python -m models.train_command --help`.

The validation part decides, the test part is looked at once, at the end. Every epoch is kept below --cache, and the
same command goes on from the last one.

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from models.command import CACHE, answer, card_options, common_options
from models.slots.corpus import read_set
from models.slots.recipe import TIERS
from models.train import about, bars, drawn, teacher_at


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.train_command",
        description="Train a parser on DIR (train.tsv, test.tsv and, where there is one, valid.tsv; "
        "text<TAB>intent<TAB>annotated, slots marked as [type : value]) and write it to OUT/TIER.",
        epilog="Example: python -m models.train_command --data DIR --tier mini --out models/catalog/command, then "
        "--tier tiny --teacher models/catalog/command/mini. Exit codes: 0 written, 1 a package is missing, 2 a file or "
        "option was wrong.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the set")
    parser.add_argument("--tier", choices=TIERS, default="tiny", help="size class (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the model, .../MODEL"
    )
    parser.add_argument(
        "--base", type=Path, metavar="DIR",
        help="encoder of the catalog to start from, one that saw none of these sentences (default: the public MiniLM "
        "weights, `setup.py --train --weights`)",
    )  # fmt: skip
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="DIR",
        help="larger parser for the same intents and slots, to be taught by",
    )
    card_options(parser)
    common_options(parser)
    return parser.parse_args()


def train(
    data: Path,
    tier: str,
    model: Path,
    *,
    base: Path | None = None,
    teacher: Path | None = None,
    cache: Path = CACHE,
    source: str = "not stated",
    licence: str = "not stated",
    version: str = "1",
    seed: int = 1,
    epochs: int = 0,
) -> dict[str, Any]:
    """Read, train and write MODEL/TIER; draws progress meanwhile. Returns the card.

    Raises OSError or ValueError naming file and line, EntryError for a teacher that is not what its card says,
    ModuleNotFoundError where a package for training or the weights are missing.
    """
    commands = read_set(data)
    lecturer = teacher_at(teacher) if teacher else None
    from models.minilm import start  # noqa: PLC0415 (JAX is slow to import, and may be missing)
    from models.slots import student  # noqa: PLC0415
    from models.slots.entry import build_entry  # noqa: PLC0415
    from models.slots.teacher import Teacher  # noqa: PLC0415
    from models.tiers import said  # noqa: PLC0415

    recipe = TIERS[tier]
    body = dataclasses.replace(recipe.body, seed=seed, epochs=epochs or recipe.body.epochs)
    recipe = dataclasses.replace(recipe, body=body)
    heard = Teacher(lecturer, commands.names.labels, commands.names.tags) if lecturer else None
    begin = start.of_entry(base) if base else start.public(student.longest(body))
    with bars() as progress:
        made = student.make(commands, begin, heard, recipe, cache / "command", said(tier, drawn(progress)))
    told = about([commands.task], begin.name, source, licence)
    return build_entry(commands, made, model / tier, version=version, about=told)


def main() -> int:
    args = arguments()

    def work() -> None:
        card = train(
            args.data, args.tier, args.out, base=args.base, teacher=args.teacher, cache=args.cache,
            source=args.data_source, licence=args.data_licence, version=args.version, seed=args.seed,
            epochs=args.epochs,
        )  # fmt: skip
        accuracy = card["accuracy"]
        print(
            f"{args.out / args.tier}: {card['variant']}, test: intent {accuracy['test']:.2%}, slots "
            f"{accuracy['entity_f1']:.2%}; {card['size_mb']} MB"
        )

    return answer("train_command", "--train" + ("" if args.base else " --weights"), work)


if __name__ == "__main__":
    sys.exit(main())
