"""Export a catalog entry for phones: `python -m edge.mobile --help`.

Exit codes: 0 written, 1 a package that it needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.command import OWN, answer, positive
from models.entries import EntryError, find, resolve
from models.intents.utterances import read_utterances

TOKENS = 32
"""Tokens by default: three times an ordinary spoken request. Each further one costs time with every sentence."""

FORMATS = ("onnx", "ort", "coreml")
"""As in edge.mobile.export, which needs packages that may be missing."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m edge.mobile",
        description="Write a catalog entry for phones: ONNX of a fixed shape with ONNX Runtime's report on NNAPI and "
        "Core ML, ORT format, and Core ML packages of FP16 and INT8. Every file is compared with the entry on real "
        "sentences before OUT appears; OUT/manifest.json says what was checked. Nothing is run on a device.",
        epilog="Example: python -m edge.mobile --entry models/catalog/intent/tiny --out build/mobile/tiny. "
        "What to load on which phone: edge/mobile/README.md. "
        "Exit codes: 0 written, 1 a package is missing, 2 a file or option was wrong.",
    )
    parser.add_argument(
        "--entry", type=Path, required=True, metavar="DIR", help="entry of a catalog, .../MODEL/TIER"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder, or an export to replace"
    )
    parser.add_argument(
        "--tokens", type=positive, metavar="N",
        help=f"tokens of a sentence: shorter ones are padded, longer ones cut ({TOKENS}, or the entry's most)",
    )  # fmt: skip
    parser.add_argument(
        "--formats", type=formats, default=FORMATS, metavar="NAME,...", help=f"of {', '.join(FORMATS)} (all)"
    )
    parser.add_argument(
        "--sentences", type=Path, default=OWN, metavar="TSV",
        help="sentences to compare on, columns text and intent (default: models/data/utterances.tsv)",
    )  # fmt: skip
    return parser.parse_args()


def formats(text: str) -> tuple[str, ...]:
    """Names of formats, separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if strange := [name for name in names if name not in FORMATS] or (not names and [text]):
        raise argparse.ArgumentTypeError(f"{strange[0]!r} is no format; there are {', '.join(FORMATS)}")
    return names


def main() -> int:
    args = arguments()

    def work() -> None:
        folder = args.entry.resolve()
        try:
            entry = find(folder.parent.parent, folder.parent.name, folder.name)
            tokens = args.tokens or min(TOKENS, resolve(entry).max_tokens)
            texts = [item.text for item in read_utterances(args.sentences)]
            from edge.mobile import export  # noqa: PLC0415 (needs packages that may be missing)

            what = export.job(entry, tokens, texts, args.formats)
            told = export.export(what, args.out, lambda now: print(f"  … {now}", file=sys.stderr, flush=True))
        except EntryError as error:
            raise ValueError(error) from None
        print(export.described(told))
        print(f"{args.out}: written; {told['device']}")

    return answer("edge.mobile", "--train --mobile", work)


if __name__ == "__main__":
    sys.exit(main())
