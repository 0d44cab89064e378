"""What the training commands share: the numbers that they take, and how they fail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.entries import EntryError

OWN = Path(__file__).parent / "data" / "utterances.tsv"
"""Sentences of our own, in none of the public sets."""


CACHE = Path.home() / ".cache/foremesh/training"
"""Where epochs and what teachers said are kept."""


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add --cache, --seed and --epochs, which every training takes."""
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="DIR", help="where epochs are kept (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="decides every random choice (default %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=positive, default=0, help="passes over the data (default: what the recipe says)"
    )


def card_options(parser: argparse.ArgumentParser) -> None:
    """Add --data-source, --data-licence and --version, which a card tells."""
    for what in ("source", "licence"):
        parser.add_argument(
            f"--data-{what}", default="not stated", metavar="TEXT", help=f"{what} of the data, for the card"
        )
    parser.add_argument("--version", default="1", help="version on the cards (default %(default)s)")


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def answer(name: str, setup: str, work: Callable[[], Any]) -> int:
    """Do the work of the command `name` and return its exit code: 0 done, 1 a package is not installed, 2 a file or
    option was wrong. setup: the options of setup.py that bring what it needs."""
    try:
        work()
    except ModuleNotFoundError as missing:
        said = (
            f"{missing.name} is not installed; run `python3 deploy/local/setup.py {setup}`"
            if missing.name
            else missing
        )
        print(f"{name}: {said}", file=sys.stderr)
        return 1
    except (OSError, ValueError, EntryError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
