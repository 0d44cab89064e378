"""Measure what each method gains and costs, alone and stacked: `python -m models.make_study --help`, or `make models`.

Every row is of a file that was written and run by ONNX Runtime, accuracy on validation parts, and the files of a group
take turns when they are timed. `foremesh models report` draws what comes out.

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.command import CACHE, answer, common_options
from models.corpus import read_task
from models.entries import Entry
from models.methods.row import Row
from models.train import CATALOG, bars, drawn, teacher_at

if TYPE_CHECKING:
    from models import fit

OUT = Path(__file__).parent / "study.json"
PARTS = ("encoder", "sparse", "student")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.make_study",
        description="Prune, share, quantise, distil, fuse and thin out the attention of an entry, each alone and "
        "stacked, and write a row of figures for each. About an hour on two cores; every epoch is kept, and the same "
        "command goes on from there.",
        epilog="Example: python -m models.make_study --data ../shared/data/intents/hwu64 --long "
        "../shared/data/intents/banking77. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="the set, which the entry's first head must know",
    )
    parser.add_argument(
        "--long",
        type=Path,
        metavar="DIR",
        help="a set with long sentences that another head knows, for sparse attention",
    )
    parser.add_argument(
        "--base", type=Path, default=CATALOG / "intent/base", metavar="DIR",
        help="the entry that all of it is made of, and taught by (default: the catalog's base)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FILE", help="the study (default: %(default)s)"
    )
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; may be repeated (default: all, in order)"
    )
    common_options(parser)
    return parser.parse_args()


def make(
    data: Path,
    out: Path,
    *,
    long: Path | None = None,
    base: Path = CATALOG / "intent/base",
    parts: tuple[str, ...] = PARTS,
    cache: Path = CACHE,
    seed: int = 1,
    epochs: int = 0,
) -> list[dict[str, Any]]:
    """Make the rows of `parts`, write them to `out` and return them; draws progress meanwhile.

    Raises OSError or ValueError naming file and remedy, ModuleNotFoundError where a package for training is missing.
    """
    task, entry = read_task(data), teacher_at(base)
    from models import teacher, tiers  # noqa: PLC0415 (JAX is slow to import, and may be missing)
    from models.minilm import start  # noqa: PLC0415
    from models.study import encoder, student  # noqa: PLC0415
    from models.study.rows import Study  # noqa: PLC0415

    if teacher.knows(entry, [task]) != ["logits"]:
        raise ValueError(
            f"{base} does not answer with the intents of {data} under `logits`; name the set that it learnt first, or "
            "an entry trained on this one"
        )
    rows: list[Row] = []
    with bars() as progress, tempfile.TemporaryDirectory() as name:
        show, folder = drawn(progress), Path(name)

        def report(what: str, now: fit.Progress) -> None:
            tiers.said(what, show)(now)

        begin = start.of_entry(base)
        study = Study(task, begin, "logits", cache, seed, epochs, report)
        plan = tiers.Plan([task], [], begin, entry, cache, seed, epochs, "", {})
        if "encoder" in parts:
            told = tiers.heard(plan, "light", encoder.LIGHT.variants, show)
            rows += encoder.rows(study, told, _new(folder / "encoder"))
        if "sparse" in parts and long is not None:
            far = read_task(long)
            rows += encoder.sparse_rows(
                study, begin.heads[_output(entry, far.name, long)], far, _new(folder / "sparse")
            )
        if "student" in parts:
            told = tiers.heard(plan, "tiny", tiers.TINY.variants * 2, show)
            rows += student.rows(study, tiers.TINY, entry, told, _new(folder / "student"))
    found = [row.to_json() for row in rows]
    unfinished = out.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    unfinished.replace(out)
    return found


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _output(entry: Entry, name: str, folder: Path) -> str:
    """The output of the entry that knows the set. Raises ValueError where none does."""
    head = entry.card.get("heads", {}).get(name)
    if head is None:
        raise ValueError(
            f"{entry.folder} has no head for {folder}; it has {', '.join(entry.card.get('heads', {}))}"
        )
    return str(head["output"])


def main() -> int:
    args = arguments()

    def work() -> None:
        found = make(
            args.data, args.out, long=args.long, base=args.base, parts=tuple(args.part or PARTS), cache=args.cache,
            seed=args.seed, epochs=args.epochs,
        )  # fmt: skip
        print(f"{args.out}: {len(found)} rows")

    return answer("make_study", "--train", work)


if __name__ == "__main__":
    sys.exit(main())
