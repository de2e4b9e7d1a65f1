"""The time that labels take: seconds a label, and minutes for a number of defective parts."""

from __future__ import annotations

from typing import NamedTuple

from gainbook.chapters.ch02_contrast.crossing import NORMALS, RATE, inspected


class LabelTime(NamedTuple):
    """Seconds that one label takes, and where the figure is from."""

    seconds: float
    source: str
    """For readers, with its citation."""


LABEL_TIMES = {
    "image label": LabelTime(5.0, "an assumption of this book, to be replaced by your own"),
    "box": LabelTime(
        35.0, "a box of ImageNet; 7 s by extreme clicking {cite:p}`papadopoulos2017extreme`"
    ),
    "mask": LabelTime(80.0, "a mask of COCO {cite:p}`papadopoulos2021scaling`"),
}
"""Everyday photographs; parts of a factory may take less or more."""


def labelling_minutes(
    defective: float,
    drawn: str | None = None,
    rate: float = RATE,
    normals: int = NORMALS,
    seconds: float = LABEL_TIMES["image label"].seconds,
) -> float:
    """Minutes until `defective` parts are found by labelling parts as they come, and marked.

    Args:
        drawn: "box" or "mask": one is drawn on each defective part; None: image labels only.
        rate: share of defective parts in the production.
        normals: normal parts that are needed in any case.
        seconds: of an image label.
    """
    found = inspected(defective, rate, normals) * seconds
    return (found + (LABEL_TIMES[drawn].seconds * defective if drawn else 0)) / 60
