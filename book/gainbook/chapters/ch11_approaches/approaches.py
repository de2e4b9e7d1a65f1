"""The six approaches that are compared, and the learning rate of each.

Same folds, same backbone and first weights, same epochs, same number of trials. The trials vary the
learning rate, the one setting of the recipe that all six have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gainbook.lab import catalogue
from gainbook.lab.catalogue import S1_FINE, S5
from gainbook.lab.protocol import REFERENCE
from gainbook.lab.results_file import stored_trials
from gainbook.lab.systems import System

CLASSIFIER = S1_FINE._replace(label="classifier only")
SEGMENTATION = catalogue.UNET._replace(label="segmentation (U-Net)")
DETECTION = catalogue.FCOS._replace(label="detection (FCOS)")
GUIDED = catalogue.BOTH._replace(label="GAIN")
MULTI_TASK = catalogue.TOGETHER._replace(label="multi-task")
INTEGRATED = S5._replace(label="GAIN-MTL")
SIX: tuple[System, ...] = (CLASSIFIER, DETECTION, SEGMENTATION, GUIDED, MULTI_TASK, INTEGRATED)
"""In the order of the table that is tested."""
AVERAGED = catalogue.AVERAGED._replace(label="classifier, averaged")
"""The classifier with the usual head: its logit is the mean of its evidence map."""
ALL: tuple[System, ...] = (*SIX, AVERAGED)
"""All systems that get the trials and a line in the tables."""
LIVE: tuple[System, ...] = (
    CLASSIFIER,
    DETECTION._replace(options=(("width", 32), ("convolutions", 1))),
    SEGMENTATION._replace(options=(("decoder", (64, 32, 16, 16, 8)),)),
    *SIX[3:],
)
"""The six with a smaller detector and a smaller U-Net, for the live part."""

_RATE: float = REFERENCE["learning_rate"]
RATES: dict[str, dict[str, Any]] = {
    "reference": {},
    "rate-half": {"learning_rate": _RATE / 2},
    "rate-double": {"learning_rate": _RATE * 2},
}
"""The trials of each system, on the training part of one fold; see `tools/tune.py`."""
NOTICEABLE = 0.02
"""Smallest gain in AUROC for which another rate replaces the reference rate. One inner fold holds a
few dozen defective images; smaller gains are noise."""


class Labels(NamedTuple):
    """Labels that the training of a system needs."""

    image: str
    defect: str


NEEDS: dict[str, Labels] = {
    CLASSIFIER.tag: Labels("defective or not", "nothing"),
    DETECTION.tag: Labels("follows from the boxes", "a box"),
    SEGMENTATION.tag: Labels("follows from the masks", "a mask"),
    GUIDED.tag: Labels("defective or not", "a mask, for some of them"),
    MULTI_TASK.tag: Labels("defective or not", "a mask"),
    INTEGRATED.tag: Labels("defective or not", "a mask"),
}
"""By tag of `SIX`."""


def at_rate(system: System, trial: str) -> System:
    """`system` at the learning rate of a trial; in its own folder if the rate differs."""
    if trial == "reference":
        return system
    return system._replace(
        tag=f"{system.tag}-{trial}",
        recipe=trial,
        changes=(*system.changes, *RATES[trial].items()),
    )


def choose_rate(aurocs: Mapping[str, float]) -> str:
    """The trial whose rate is used, from the AUROC of each trial.

    The best trial if its AUROC exceeds that of the reference rate by `NOTICEABLE`, otherwise
    `"reference"`.
    """
    best = max(aurocs, key=lambda name: aurocs[name], default="reference")
    base = aurocs.get("reference")
    return best if base is not None and aurocs[best] >= base + NOTICEABLE else "reference"


def tuned(system: System, trials: Iterable[Mapping[str, Any]]) -> System:
    """`system` at the rate that its trials chose.

    Args:
        trials: entries of `tools/tune.py`; those of other systems are ignored.
    """
    aurocs = {
        str(entry["trial"]): float(entry["figures"]["auroc"][0])
        for entry in trials
        if entry["system"] == system.tag and entry["trial"] in RATES
    }
    return at_rate(system, choose_rate(aurocs))


TRIALS = stored_trials("tuning_six")
"""The learning rates that were tried on training images of the first fold."""
SEVEN = tuple(tuned(system, TRIALS) for system in ALL)
"""`ALL` at the rates that the trials chose."""
TUNED: Mapping[str, System] = {base.tag: system for base, system in zip(ALL, SEVEN, strict=True)}
"""`SEVEN` by the tag at the reference rate."""
