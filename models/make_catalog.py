"""Make the whole catalog of intents from the public sets: `python -m models.make_catalog --help`, or `make models`.

base learns the three sets at once from the public MiniLM weights, mini is cut from it and taught by it, and each set
has a tiny of its own, taught by base as well: one for all three sets, of the same size, did about a point worse on the
validation part of HWU64 in the comparison that was made (with less dropout, so not of that alone).

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models.command import answer
from models.train import CACHE, CATALOG, train


class Source(NamedTuple):
    """A public set: who made it, under which licence, and the model of the catalog that its tiny belongs to."""

    source: str
    licence: str
    model: str


SOURCES = {
    "hwu64": Source("Liu et al. 2019 (HWU64, DialoGLUE cut)", "CC BY 4.0 (HWU64)", "intent"),
    "clinc150": Source("Larson et al. 2019 (CLINC150)", "CC BY 3.0 (CLINC150)", "clinc150"),
    "banking77": Source("Casanueva et al. 2020 (BANKING77)", "CC BY 4.0 (BANKING77)", "banking77"),
}
STEPS = ("base", "mini", "tiny")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.make_catalog",
        description="Train every entry of the catalog on the public sets. Hours on two cores: base about one hour, "
        "mini half an hour, a tiny ten minutes; every epoch is kept, and the same command goes on from there.",
        epilog="Example: python -m models.make_catalog --data ../shared/data/intents --step mini. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help=f"folder that holds {', '.join(SOURCES)}"
    )
    parser.add_argument(
        "--out", type=Path, default=CATALOG, metavar="DIR", help="the catalog (default: models/catalog)"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where epochs are kept")
    parser.add_argument(
        "--step", choices=STEPS, action="append", help="only this; may be repeated (default: all, in order)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="decides every random choice (default %(default)s)"
    )
    parser.add_argument("--version", default="2", help="version on the cards (default %(default)s)")
    return parser.parse_args()


def make(args: argparse.Namespace, steps: Sequence[str]) -> None:
    """Train what the steps name, one after the other; the larger ones first."""
    folders = [args.data / name for name in SOURCES]
    base = args.out / "intent/base"
    everything: dict[str, Any] = {
        "source": "; ".join(source.source for source in SOURCES.values()),
        "licence": ", ".join(source.licence for source in SOURCES.values()),
    }
    common: dict[str, Any] = {"base": base, "cache": args.cache, "seed": args.seed, "version": args.version}
    if "base" in steps:
        train(folders, ["base", "base-4bit"], base.parent, from_public=True, **common, **everything)
    if "mini" in steps:
        train(folders, ["mini"], base.parent, **common, **everything)
    if "tiny" in steps:
        for name, source in SOURCES.items():
            train(
                [args.data / name], ["tiny"], args.out / source.model, **common,
                source=source.source, licence=source.licence,
            )  # fmt: skip


def main() -> int:
    args = arguments()
    steps = [step for step in STEPS if step in (args.step or STEPS)]
    return answer("make_catalog", "--train --weights", lambda: make(args, steps))


if __name__ == "__main__":
    sys.exit(main())
