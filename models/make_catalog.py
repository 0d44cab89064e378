"""Make the whole catalog of intents from the public sets: `python -m models.make_catalog --help`, or `make models`.

base learns the three sets at once from the public MiniLM weights, mini is cut from it and taught by it, and each set
has a tiny of its own, taught by base as well: one for all three sets, of the same size, did about a point worse on the
validation part of HWU64 in the comparison that was made (with less dropout, so not of that alone).

Exit codes: 0 written, 1 a package that training needs is not installed, 2 a file or option was wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models import make_study, train_command
from models.command import CACHE, answer
from models.corpus import read_task
from models.entries import find
from models.train import CATALOG, train

Maker = Callable[[int, Path], dict[str, dict[str, Any]]]
"""(seed, folder of the model) -> cards by tier, whose entries are there."""


class Source(NamedTuple):
    """A public set: who made it, under which licence, the model of the catalog that its tiny belongs to, and whether
    that is taught on the sentences of the other sets as well, by what validation says: CLINC150 94.3 instead of 94.0 %,
    HWU64 91.5 instead of 91.9 %."""

    source: str
    licence: str
    model: str
    unlabelled: bool = False


SOURCES = {
    "hwu64": Source("Liu et al. 2019 (HWU64, DialoGLUE cut)", "CC BY 4.0 (HWU64)", "intent"),
    "clinc150": Source("Larson et al. 2019 (CLINC150)", "CC BY 3.0 (CLINC150)", "assistant", unlabelled=True),
    "banking77": Source("Casanueva et al. 2020 (BANKING77)", "CC BY 4.0 (BANKING77)", "banking"),
}
STEPS = ("base", "mini", "tiny", "command", "study")
SEEDED = ("mini", "tiny")
"""Steps that are short enough to be repeated with other seeds."""

SLOTS = "hwu64_kfold1_slots"
"""The set of the command parser."""

ACCURACY = {
    "tiny": {"hwu64": 0.90, "clinc150": 0.945, "banking77": 0.89},
    "mini": {"hwu64": 0.915, "clinc150": 0.958, "banking77": 0.92},
    "base": {"hwu64": 0.925, "clinc150": 0.967, "banking77": 0.93},
}
"""What a tier is to reach on each test part."""

COSTS = {
    "tiny": {"size_mb": 0.6, "rss_mb": 60, "p50_ms": 0.06},
    "mini": {"size_mb": 8, "rss_mb": 75, "p50_ms": 1.0},
    "base": {"size_mb": 23, "rss_mb": 90, "p50_ms": 2.5},
    "base-4bit": {"size_mb": 15, "rss_mb": 90, "p50_ms": 2.5},
}
LOSS, OUTSIDE = 0.005, 0.6
"""What smaller weights may lose against FP32, and the share of sentences out of scope to be recognised."""


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
    parser.add_argument(
        "--study", type=Path, default=make_study.OUT, metavar="FILE", help="the study (default: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where epochs are kept")
    parser.add_argument(
        "--step", choices=STEPS, action="append", help="only this; may be repeated (default: all, in order)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="decides every random choice (default %(default)s)"
    )
    parser.add_argument(
        "--also", type=int, action="append", default=[], metavar="N",
        help="train mini and tiny with this seed too, and tell on the cards of the entries that are there what it "
        "reached; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--keep-base", action="store_true",
        help="do not train base again: measure the one that is there, and make its 4-bit entry of it",
    )  # fmt: skip
    parser.add_argument("--version", default="3", help="version on the cards (default %(default)s)")
    args = parser.parse_args()
    if args.also and (other := [step for step in args.step or [] if step not in SEEDED]):
        parser.error(f"--also trains {' and '.join(SEEDED)}; leave --step {other[0]} out")
    return args


def make(args: argparse.Namespace, steps: Sequence[str]) -> None:
    """Train what the steps name, one after the other; the larger ones first."""
    folders = [args.data / name for name in SOURCES]
    base = args.out / "intent/base"
    everything: dict[str, Any] = {
        "source": "; ".join(source.source for source in SOURCES.values()),
        "licence": ", ".join(source.licence for source in SOURCES.values()),
    }
    common: dict[str, Any] = {"base": base, "cache": args.cache, "version": args.version}
    if "base" in steps:
        # One seed: an hour each.
        train(
            folders, ["base", "base-4bit"], base.parent, from_public=not args.keep_base, seed=args.seed, **common,
            **everything, targets={tier: targets(tier, SOURCES) for tier in ("base", "base-4bit")},
        )  # fmt: skip
        heads(base.parent, "base", "base-4bit")
    if "mini" in steps:
        with_seeds(
            args.seed, args.also, base.parent / "mini",
            lambda seed, out: train(
                folders, ["mini"], out, seed=seed, **common, **everything, targets={"mini": targets("mini", SOURCES)}
            ),
        )  # fmt: skip
        heads(base.parent, "mini")
    if "tiny" in steps:
        for name, source in SOURCES.items():
            entry = args.out / source.model / "tiny"
            with_seeds(args.seed, args.also, entry, tiny(args.data, name, common, everything))
    if "command" in steps:
        commands(args)
    if "study" in steps:
        make_study.make(
            args.data / "hwu64", args.study, long=args.data / "banking77", base=base, cache=args.cache,
            seed=args.seed,
        )  # fmt: skip


def heads(model: Path, *tiers: str) -> None:
    """The further sets of tiers as models of their own, by a card each."""
    from models.heads import write_heads  # noqa: PLC0415 (ONNX may be missing)

    models = {name: source.model for name, source in SOURCES.items()}
    data = {name: {"source": source.source, "licence": source.licence} for name, source in SOURCES.items()}
    for tier in tiers:
        write_heads(model / tier, models, data)


def commands(args: argparse.Namespace) -> None:
    """The command parsers: mini and tiny are kept, the base that teaches them is not. All start from the public
    weights: the catalog's encoders learnt sentences that this set tests with."""
    there, model = args.data / SLOTS, args.out / "command"
    lecturer = args.cache / "command" / "entries" / "command"
    common: dict[str, Any] = {
        "cache": args.cache, "version": args.version, "seed": args.seed, "source": SOURCES["hwu64"].source,
        "licence": "CC BY 4.0 (HWU64)",
    }  # fmt: skip
    train_command.train(there, "base", lecturer, **common)
    train_command.train(there, "mini", model, teacher=lecturer / "base", **common)
    train_command.train(there, "tiny", model, teacher=model / "mini", **common)


def tiny(data: Path, name: str, common: Mapping[str, Any], everything: Mapping[str, Any]) -> Maker:
    """What makes the tiny of one set. everything: source and licence of all sets, for one that is taught on all."""
    source = SOURCES[name]
    others: list[str] = []
    told: Mapping[str, Any] = {"source": source.source, "licence": source.licence}
    if source.unlabelled:
        others = [item.text for other in SOURCES if other != name for item in read_task(data / other).train]
        told = everything
    return lambda seed, out: train(
        [data / name], ["tiny"], out, seed=seed, **common, **told, targets={"tiny": targets("tiny", [name])},
        unlabelled=others,
    )  # fmt: skip


def targets(tier: str, sets: Iterable[str]) -> dict[str, Any]:
    """What the card of a tier promises on these sets."""
    # Four bits are there for their size; what eight reach is the promise.
    all_sets = ACCURACY[tier.removesuffix("-4bit")]
    accuracy = {name: all_sets[name] for name in sets}
    told = {"out_of_scope_recall": OUTSIDE} if "clinc150" in accuracy else {}
    return {"accuracy": accuracy, "loss_to_fp32": LOSS, **told, **COSTS[tier]}


def with_seeds(seed: int, also: Sequence[int], entry: Path, make_one: Maker) -> None:
    """Make an entry, .../MODEL/TIER, with `seed`; or, where `also` names further seeds, leave the one that is there and
    tell on its card what those reach on the test parts.

    Raises ValueError where none is there, or one that was made by another recipe.
    """
    from models.build import write_card  # noqa: PLC0415 (ONNX may be missing)

    model = entry.parent
    if not also:
        make_one(seed, model)
    for further in also:
        find(model.parent, model.name, entry.name)  # before the hour that is lost without one
        with tempfile.TemporaryDirectory() as folder:
            reached = make_one(further, Path(folder) / model.name)[entry.name]
        write_card(entry, with_seed(find(model.parent, model.name, entry.name).card, reached))


def with_seed(card: Mapping[str, Any], reached: Mapping[str, Any]) -> dict[str, Any]:
    """The card of an entry, with what the same recipe reached with another seed. Raises ValueError where the recipes
    differ."""
    by_chance = ("seed", "seconds")
    recipes = [
        {
            what: value
            for what, value in json.loads(json.dumps(one["training"])).items()
            if what not in by_chance
        }
        for one in (card, reached)
    ]
    if recipes[0] != recipes[1]:
        differ = sorted(
            what for what in {*recipes[0], *recipes[1]} if recipes[0].get(what) != recipes[1].get(what)
        )
        raise ValueError(
            f"{card['model']}/{card['tier']} was made by another recipe ({', '.join(differ)} differ); make it again "
            "without --also first"
        )
    seeds = dict(card.get("seeds", {}))
    for name, head in card["heads"].items():
        tests = dict(seeds.get(name, {}).get("tests", {str(card["training"]["seed"]): head["test"]}))
        tests[str(reached["training"]["seed"])] = reached["heads"][name]["test"]
        seeds[name] = {
            "mean": round(statistics.mean(tests.values()), 4),
            "min": min(tests.values()),
            "max": max(tests.values()),
            "seeds": sorted(map(int, tests)),
            "tests": tests,
        }
    return {**card, "seeds": seeds}


def main() -> int:
    args = arguments()
    steps = [step for step in STEPS if step in (args.step or (SEEDED if args.also else STEPS))]
    return answer("make_catalog", "--train --weights", lambda: make(args, steps))


if __name__ == "__main__":
    sys.exit(main())
