"""The six approaches that are set side by side, and the learning rate that each gets.

Same folds, same backbone and first weights, same epochs, same number of trials. One number is
tried, because it is the one that all six have: the learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gainbook.lab import components
from gainbook.lab.protocol import REFERENCE
from gainbook.lab.reference import DETECTOR, S1_FINE, S5, UNET, System

CLASSIFIER = S1_FINE._replace(label="classifier only")
SEGMENTATION = UNET._replace(label="segmentation (U-Net)")
DETECTION = DETECTOR._replace(label="detection (FCOS)")
GUIDED = components.BOTH._replace(label="GAIN")
MULTI_TASK = components.TOGETHER._replace(label="multi-task")
INTEGRATED = S5._replace(label="GAIN-MTL")
SIX: tuple[System, ...] = (CLASSIFIER, DETECTION, SEGMENTATION, GUIDED, MULTI_TASK, INTEGRATED)
"""In the order of the table that is tested: classifier, detection, segmentation, GAIN, multi-task
classification and segmentation, and the integrated system."""
AVERAGED = components.AVERAGED._replace(label="classifier, averaged")
"""The classifier once more, with the head of most networks: its verdict is the mean of its map."""
ALL: tuple[System, ...] = (*SIX, AVERAGED)
"""Everything that gets the same trials and stands in the tables of verdicts and maps."""

_RATE: float = REFERENCE["learning_rate"]
RATES: dict[str, dict[str, Any]] = {
    "reference": {},
    "rate-half": {"learning_rate": _RATE / 2},
    "rate-double": {"learning_rate": _RATE * 2},
}
"""The trials of each, on the training part of one fold; see `tools/tune.py`."""
NOTICEABLE = 0.02
"""By how much AUROC must grow for another rate than the reference's. One inner fold holds a few
dozen defective images; less than this is chance."""


class Needs(NamedTuple):
    """What people must draw before a system can be trained."""

    labels: str
    """Per image."""
    places: str
    """Per defect."""


NEEDS: dict[str, Needs] = {
    CLASSIFIER.tag: Needs("defective or not", "nothing"),
    DETECTION.tag: Needs("follows from the boxes", "a box"),
    SEGMENTATION.tag: Needs("follows from the masks", "a mask"),
    GUIDED.tag: Needs("defective or not", "a mask, for some of them"),
    MULTI_TASK.tag: Needs("defective or not", "a mask"),
    INTEGRATED.tag: Needs("defective or not", "a mask"),
}


def choose_rate(aurocs: Mapping[str, float]) -> str:
    """The trial of `RATES` to use, of what they scored; `"reference"` unless another is better.

    Another is taken if it is the best and its AUROC exceeds the reference rate's by `NOTICEABLE`.
    """
    best = max(aurocs, key=lambda name: aurocs[name], default="reference")
    base = aurocs.get("reference")
    return best if base is not None and aurocs[best] >= base + NOTICEABLE else "reference"


def tuned(system: System, trials: Iterable[Mapping[str, Any]]) -> System:
    """`system` with the rate that its trials chose, in a folder of its own if it is another one.

    `trials` are the entries of `tools/tune.py`; those of other systems are not read.
    """
    aurocs = {
        str(entry["trial"]): float(entry["figures"]["auroc"][0])
        for entry in trials
        if entry["system"] == system.tag and entry["trial"] in RATES
    }
    chosen = choose_rate(aurocs)
    if chosen == "reference":
        return system
    return system._replace(
        tag=f"{system.tag}-{chosen}",
        recipe=chosen,
        changes=(*system.changes, *RATES[chosen].items()),
    )
