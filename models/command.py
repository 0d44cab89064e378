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
