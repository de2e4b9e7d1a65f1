"""The verdict on a claim, from figures and their intervals."""

from __future__ import annotations

from typing import NamedTuple

from gainbook.lab.tables import Value


class Judgement(NamedTuple):
    """A claim's verdict and the figures it rests on."""

    verdict: str
    """"confirmed", "refined" or "refuted"."""
    figures: dict[str, Value]
