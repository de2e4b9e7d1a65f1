"""Result rows of the live part's detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gainbook.lab.results_file import row
from gainmtl import metrics
from gainmtl.anomaly.base import Detector
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import paired_interval
from gainmtl.evaluation.tidy import tidy_rows


class LiveDetector(NamedTuple):
    """A detector of the live part, whose rows have its label as their only condition."""

    label: str
    name: str
    """The `system` of its result rows."""

    @property
    def tag(self) -> str:
        """Its label."""
        return self.label

    @property
    def condition(self) -> dict[str, Any]:
        """The condition of its result rows."""
        return {"detector": self.label}

    @property
    def as_other(self) -> dict[str, Any]:
        """Condition entries of a paired difference from which it is subtracted."""
        return {"against": self.label}


def live_rows(
    detectors: Mapping[str, Detector],
    scores: Mapping[str, Scores],
    pairs: Sequence[tuple[str, str]],
    resamples: int = 200,
) -> list[dict[str, Any]]:
    """Rows of every detector by label, and differences of image AUROC, first minus second."""
    live = {label: LiveDetector(label, model.name) for label, model in detectors.items()}
    rows: list[dict[str, Any]] = []
    for label, one in live.items():
        table = tidy_rows(
            scores[label], "synthetic", "test", one.name, one.condition, resamples=resamples
        )
        rows += table[table["metric"] != "ece"].to_dict("records")
    for a, b in pairs:
        images = scores[a].images
        x, y = (scores[label].images["defect_probability"].to_numpy() for label in (a, b))
        labels, groups = images["is_defective"].to_numpy(bool), images["group"].to_numpy()
        gap = paired_interval(metrics.auroc, groups, x, y, [labels], resamples=resamples)
        condition = {**live[a].condition, **live[b].as_other}
        rows.append(
            row("synthetic", live[a].name, "auroc_difference", gap.value, condition=condition,
                **gap.ends)
        )  # fmt: skip
    return rows
