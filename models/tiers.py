"""The tiers of a model, and how each is made of what is there: the larger ones first, for they teach the smaller
ones."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from models import fit, teacher, transfer
from models.build import Made, Smaller, build_entries
from models.corpus import Task
from models.entries import Entry, read_entry
from models.intents import student as bilstm
from models.intents.recipe import Recipe as LstmRecipe
from models.intents.utterances import Utterance
from models.lessons import Told
from models.methods.quantise import (
    int4,
    int8,
    int8_attention_int4,
    int8_dynamic_lstm,
    int8_table_int4,
    weights_int8,
)
from models.minilm import start, student
from models.minilm.recipe import Recipe as EncoderRecipe

INT8, INT4, WEIGHTS = Smaller(int8, max_batch=1), Smaller(int4, max_batch=8), Smaller(weights_int8)
TABLE, ATTENTION = Smaller(int8_table_int4, max_batch=1), Smaller(int8_attention_int4, max_batch=1)
MINI = EncoderRecipe(
    epochs=5,
    batch=64,
    rate=3e-4,
    head_rate=1e-3,
    alpha=0.9,
    variants=1,
    layers=(0, 1, 3, 5),
    heads=8,
    units=640,
    vocabulary=30_000,
    served=16_000,
)
TINY = LstmRecipe(
    epochs=24, batch=64, averaging=0.999, vocabulary=5500, alpha=0.9, variants=4, weight_decay=0.02,
    embedding_dropout=0.2,
)  # fmt: skip
PIECES_A_CLASS, CLASSES = 5, 64
"""Pieces of words that take the room in the file of a class of the head, and the classes that TINY's vocabulary leaves
room for."""

WORDS = 10_000
"""Words whose neighbours a rebuilt sentence may use."""


R = TypeVar("R", EncoderRecipe, LstmRecipe)


class Now(NamedTuple):
    """How far the making of a tier is: what is done, so much of so much, and what there is to say of it."""

    tier: str
    doing: str
    done: int
    total: int
    said: str


Report = Callable[[Now], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the tiers are made of.

    begin: the encoder that base starts from, or that the smaller ones are cut from where base is not made; teacher: an
    entry that knows the sets, or None; epochs: instead of the recipes'; 0: theirs; targets: of the cards, by tier;
    unlabelled: sentences that tiny hears the teacher on besides.
    """

    tasks: Sequence[Task]
    own: Sequence[Utterance]
    begin: start.Start
    teacher: Entry | None
    cache: Path
    seed: int
    epochs: int
    version: str
    about: Mapping[str, Any]
    targets: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    unlabelled: Sequence[str] = ()


def make(plan: Plan, tiers: Iterable[str], model: Path, report: Report) -> dict[str, dict[str, Any]]:
    """Write an entry below the folder `model` for each of `tiers` and return their cards. Raises ValueError or
    OSError."""
    wanted = set(tiers)
    cards: dict[str, dict[str, Any]] = {}
    if wanted & {"base", "base-4bit"}:
        kinds_of = (("base", "int8"), ("base-4bit", "int8-attention-int4"))
        base = {tier: kind for tier, kind in kinds_of if tier in wanted}
        there = plan.begin.folder if plan.begin.heads else None
        kinds = {
            "int8": INT8 if there is None else Smaller(partial(_copied, there), INT8.max_batch),
            "int4": INT4,
            "int8-attention-int4": ATTENTION,
        }
        cards |= _built(_as_from(plan, there), _base(plan, report), kinds, base, model)
        if "base" in cards:
            plan = dataclasses.replace(
                plan, teacher=read_entry(model / "base"), begin=start.of_entry(model / "base")
            )
    if "mini" in wanted:
        variants = {"int8-table-int4": TABLE, "int8": INT8, "int4": INT4}
        cards |= _built(plan, _mini(plan, report), variants, {"mini": "int8-table-int4"}, model)
        if plan.teacher is None:
            plan = dataclasses.replace(plan, teacher=read_entry(model / "mini"))
    if "tiny" in wanted:
        # Products in INT8 are a third faster and need no copy of the weights in floats. Sentences must then run one by
        # one, which takes less time than the way to the model does.
        variants = {"int8-dynamic": Smaller(int8_dynamic_lstm, max_batch=1), "weights-int8": WEIGHTS}
        cards |= _built(plan, _tiny(plan, report), variants, {"tiny": "int8-dynamic"}, model)
    return cards


def _built(
    plan: Plan, made: Made, variants: Mapping[str, Smaller], tiers: Mapping[str, str], model: Path
) -> dict[str, dict[str, Any]]:
    return build_entries(
        plan.tasks, plan.own, made, variants, tiers, model, version=plan.version, about=plan.about,
        targets=plan.targets,
    )  # fmt: skip


def _copied(folder: Path, fp32: Path, out: Path) -> Path:
    """The file of an entry that stays what it is, in place of one made of floats that are only what it stands for."""
    return Path(shutil.copyfile(folder / "model.onnx", out))


def _as_from(plan: Plan, folder: Path | None) -> Plan:
    """The plan, with what an entry that stays what it is says of its source."""
    source = read_entry(folder).card.get("source") if folder else None
    return dataclasses.replace(plan, about={**plan.about, "source": source}) if source else plan


def _base(plan: Plan, report: Report) -> Made:
    recipe = _recipe(EncoderRecipe(), plan)
    if plan.begin.heads:
        return student.as_it_is(plan.begin, plan.tasks, recipe)
    return student.make(plan.tasks, plan.begin, None, recipe, plan.cache, said("base", report))


def _mini(plan: Plan, report: Report) -> Made:
    recipe = _recipe(MINI, plan)
    told = heard(plan, "mini", recipe.variants, report)
    begin = student.smaller(plan.begin, plan.tasks, recipe)
    return student.make(plan.tasks, begin, told, recipe, plan.cache, said("mini", report), larger=plan.begin)


def _tiny(plan: Plan, report: Report) -> Made:
    recipe = _recipe(TINY, plan)
    more = sum(len(task.labels) for task in plan.tasks) - CLASSES
    recipe = dataclasses.replace(recipe, vocabulary=recipe.vocabulary - PIECES_A_CLASS * max(0, more))
    told = heard(plan, "tiny", recipe.variants * 2, report, plan.unlabelled)
    if plan.unlabelled:
        recipe = dataclasses.replace(recipe, variants=recipe.variants + 1)
    return bilstm.make(plan.tasks, plan.begin, told, recipe, plan.cache, said("tiny", report))


def _recipe(recipe: R, plan: Plan) -> R:
    return dataclasses.replace(recipe, seed=plan.seed, epochs=plan.epochs or recipe.epochs)


def heard(
    plan: Plan, tier: str, variants: int, report: Report, unlabelled: Sequence[str] = ()
) -> Told | None:
    """What the plan's teacher says, None where there is none that knows the sets."""
    outputs = teacher.knows(plan.teacher, plan.tasks) if plan.teacher else None
    if plan.teacher is None or outputs is None:
        return None
    table = plan.begin.tokenizer.get_vocab()
    words = transfer.common(table, WORDS)
    near = transfer.neighbours(words, np.asarray(plan.begin.encoder.tokens)[[table[word] for word in words]])
    asked = teacher.Teacher(plan.teacher, outputs, plan.cache / "teacher")
    return teacher.tell(
        asked,
        plan.tasks,
        near,
        variants,
        lambda done, total: report(Now(tier, "asking the teacher", done, total, "")),
        unlabelled,
    )


def said(tier: str, report: Report) -> Callable[[fit.Progress], None]:
    """Progress of a training as that of a tier, with what the last epoch reached."""
    valid = ""

    def say(now: fit.Progress) -> None:
        nonlocal valid
        if now.valid:
            valid = "  ".join(f"{name} {share:.2%}" for name, share in now.valid.items())
        report(Now(tier, f"epoch {now.epoch}", now.step, now.steps, f"loss {now.loss:.3f}  {valid}"))

    return say
