"""The chapters of the book, one folder each: `study.py` holds a chapter's studies as data.

A chapter is found by its folder's name; nothing is registered elsewhere. Its `study.py` may have

- `STUDIES`: a tuple of `Study` and `SeedStudy`, one per results file;
- `QUICK`: the parameters of its notebook's live part;
- `SYSTEMS`: further systems that `find_system` finds by their tag.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from typing import Any

from gainbook.lab import catalogue
from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import Study
from gainbook.lab.systems import System
from gainmtl.strategies import get_strategy

CLAIM_WORDS = {
    "A1": "supervising the map improves it and keeps the accuracy",
    "A2": "mining makes the network find the discriminative regions by itself",
    "A3": "CBAM is nearly free and makes the attention after it more accurate",
    "A4": "EfficientNetV2's sizes, accuracies and training speed are as published",
    "A5": "focal loss cuts easy samples a hundredfold and helps with rare defects",
    "A6": "classifying and locating together beats either alone",
    "A7": "of the four methods only a CAM can be trained on",
    "A8": "CAM costs nothing, Grad-CAM a gradient, Score-CAM many passes",
    "A9": "a learnable temperature sharpens by itself",
    "A10": "the counterfactual term forces the right reasoning",
    "A11": "adding losses in stages keeps tasks from interfering",
    "A12": "each of the six steps contributes",
    "A13": "consistency keeps attention and localization in line",
    "A14": "only the integrated system does all four",
    "B1": "rare and new defects and the cost of labels make anomaly detection necessary",
    "B2": "the selection rule picks TinyViT-21M",
    "B3": "which anomaly detector the same rule picks",
    "B4": "fine anomalies need 512 pixels",
    "C1": "fostering shrinks the area and multiplies the dispersion",
    "C2": "fostering costs 83 % more time",
    "C3": "fostering helps weak features above all",
    "C4": "the three measures of spread see different things",
    "C5": "the best accuracy is without fostering",
    "C6": "area and dispersion are too costly as losses",
    "C7": "fostering improves an attention branch network",
    "D1": "a better classifier as the teacher detects better",
    "D2": "the swap got worse on every class, and the structure is to blame",
    "E1": "an activation score chooses labels that teach more",
    "E2": "augmenting newly labelled data cures over-confidence",
    "E3": "dropping classes of low accuracy midway helps the others",
    "E4": "six classes reach 99.99 %",
}
"""The claims of the project's sources that the book tests, in our words, judged yet or not."""


@functools.cache
def study_modules() -> tuple[Any, ...]:
    """The `study` module of every chapter, in order of the chapters."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return tuple(importlib.import_module(f"{__name__}.{name}.study") for name in names)


@functools.cache
def studies() -> dict[str, Study | SeedStudy]:
    """Every study by the name of its results file, in order of the chapters."""
    return {s.name: s for module in study_modules() for s in getattr(module, "STUDIES", ())}


@functools.cache
def systems() -> dict[str, System]:
    """Every system that a chapter or the catalogue names, by tag.

    Where a tag has several labels, the first one counts: the catalogue's, then the chapters' in
    order.
    """
    named = [value for value in vars(catalogue).values() if isinstance(value, System)]
    for module in study_modules():
        for study in getattr(module, "STUDIES", ()):
            named += getattr(study, "systems", ())
        named += getattr(module, "SYSTEMS", ())
    known: dict[str, System] = {}
    for system in named:
        if isinstance(system, System):
            known.setdefault(system.tag, system)
    return known


def find_system(tag: str) -> System:
    """A system by its tag: one of `systems()`, or `"<strategy>-stride<pixels>"` for any strategy.

    Raises:
        ValueError: none of them.
    """
    known = systems()
    if tag in known:
        return known[tag]
    name, _, stride = tag.rpartition("-stride")
    if not name or not stride.isdigit():
        near = difflib.get_close_matches(tag, known, 3) or sorted(known)
        raise ValueError(
            f"system: expected a name as S4-stride4 or one of {', '.join(near)}, got {tag!r}"
        )
    strategy = get_strategy(name)
    return System(tag, strategy.name, int(stride), f"{strategy.name}, stride {stride}")
