"""`foremesh models train`: tiers of a model from sentences of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.local.settings import REPO
from foremesh.mesh import Failed
from foremesh.options import exits

SETUP = "`python3 deploy/local/setup.py --train`"


@exits
def train(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder with train.tsv, test.tsv and, where there is one, valid.tsv: text<TAB>intent. "
            "May be repeated: one model then has a head for each.",
            metavar="DIR",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the model, CATALOG/MODEL; an entry for each tier goes below it.")
    ],
    tier: Annotated[
        str, typer.Option(help="Tiers, separated by commas: base, base-4bit, mini, tiny.", metavar="TIER,...")
    ] = "tiny",
    base: Annotated[
        Path,
        typer.Option(
            help="Entry to start from and, where it knows the same intents, to be taught by.",
            metavar="DIR",
            show_default="models/catalog/intent/base",
        ),
    ] = REPO / "models/catalog/intent/base",
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sentences such as your users say, one a line, that nobody has labelled: tiny is taught on them too. "
            "May be repeated.",
            metavar="FILE",
        ),
    ] = None,
    source: Annotated[str, typer.Option(help="Where the sentences are from, for the card.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Their licence, for the card.")] = "not stated",
    version: Annotated[str, typer.Option(help="Version on the cards.")] = "1",
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the sentences; 0: the tier's own.", min=0)] = 0,
) -> None:
    """Train tiers on sentences of your own; entries come out that inference can serve.

    The larger tiers are made first and teach the smaller ones. Every epoch is kept, so the same command goes on where
    it was stopped. The validation part decides, the test part is looked at once, at the end. An entry appears whole or
    not at all. Minutes for tiny, about half an hour for mini with 10,000 sentences on two cores.

    Example: foremesh models train --data my-intents --tier mini,tiny --out models/catalog/mine

    Exit codes: 0 written, 1 the packages for training are not installed, 2 a file or option was wrong.
    """
    from foremesh.models import entry_errors, usage  # noqa: PLC0415 (it imports this file)
    from models import train as training  # noqa: PLC0415 (slow to import, and no other verb needs it)
    from models.corpus import read_sentences  # noqa: PLC0415

    with usage(), entry_errors():
        try:
            cards = training.train(
                data, names(tier), out, base=base, source=source, licence=licence, version=version, seed=seed,
                epochs=epochs, unlabelled=[text for file in unlabelled or [] for text in read_sentences(file)],
            )  # fmt: skip
        except ModuleNotFoundError as missing:
            raise Failed(f"{missing.name} is not installed; {SETUP} brings it") from None
    for name, card in cards.items():
        heads = ", ".join(f"{head} {told['test']:.2%}" for head, told in card["heads"].items())
        print(
            f"{out / name}: {card['variant']}, test: {heads}; {card['size_mb']} MB, p50 {card['p50_ms']} ms"
        )


def names(text: str) -> list[str]:
    """Tiers of an option; raises ValueError for one that there is not."""
    import argparse  # noqa: PLC0415 (for the error that is turned into ours)

    from models.train import tiers  # noqa: PLC0415

    try:
        return tiers(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--tier {error}") from None
