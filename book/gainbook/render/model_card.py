"""The measured parts of the model card of S5, from the stored reference run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gainbook.chapters.ch03_reason.exposure import LIGHTS
from gainbook.chapters.ch03_reason.study import EXPOSURE
from gainbook.lab import catalogue
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.study import as_text, own_rows
from gainbook.lab.tables import Value, find, markdown
from gainmtl.strategies import get_strategy

CARD = "09_staged_training"
"""The reference run whose checkpoints the card describes."""

FIGURES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "AUROC": ("auroc", None, {}),
    "average precision": ("average_precision", None, {}),
    "recall at 5 % false alarms (threshold from the test scores)": ("recall_at_fpr05", None, {}),
    "recall at the stored threshold": ("recall", None, {}),
    "precision at the stored threshold": ("precision", None, {}),
    "accuracy at the stored threshold": ("accuracy", None, {}),
    "expected calibration error": ("ece", None, {}),
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame of the defect map": ("point_game", "defect_map", {}),
    "pixel AP of the defect map": ("pixel_ap", "defect_map", {}),
    "positive energy of the evidence": ("positive_energy", "cam", {}),
    "found defects whose map peaks beside them": ("wrong_reason", "defect_map", {}),
    "share of a normal tile lit by the defect map": ("false_activation", "defect_map", {}),
    "verdicts that fall when the defect is removed": (
        "flip_rate", None, {"intervention": "removed"},
    ),
    "verdicts that fall when as much is removed elsewhere": (
        "flip_rate", None, {"intervention": "moved"},
    ),
}  # fmt: skip


def figures(results: Mapping[str, ResultsFile]) -> str:
    """Table of the measures of the card's checkpoints on test tiles."""
    if CARD not in results:
        return "*The reference run has not been made yet.*"
    rows = own_rows(results[CARD])
    lines = []
    for name, (metric, map_name, condition) in FIGURES.items():
        try:
            value: Value | None = find(rows, catalogue.S5, metric, map_name, **condition)
        except LookupError:
            value = None
        text = "–" if value is None else value.text(3 if abs(value.value) < 0.1 else 2)
        images = "–" if value is None or value.n is None else str(value.n)
        lines.append([name, text, images])
    return markdown(["measure", "value and 95 % interval", "images"], lines)


def training(results: Mapping[str, ResultsFile]) -> str:
    """Table of how the card's checkpoints were trained."""
    weights = get_strategy("S5").weights.asdict()
    active = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in weights.items() if v)
    lines = [["loss weights", active]]
    if CARD in results:
        stored = results[CARD]
        parameters, origin = stored.parameters, stored.provenance
        recipe = origin["recipe"][catalogue.S5.tag]
        lines += [
            ["backbone", f"`{parameters['backbone']}`, weights `{origin['weights']['name']}`"],
            ["image size", f"{parameters['image_size']} px"],
            ["recipe", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in recipe.items())],
            ["folds, seeds", f"{parameters['folds']}, {as_text(parameters['seeds'])}"],
            ["data fingerprint", f"`{origin['data_fingerprint'][:16]}`"],
            ["trained at commit", as_text(origin["trained_at_commits"])],
            ["versions", ", ".join(f"{k} {v}" for k, v in origin["versions"].items())],
        ]
    return markdown(["", "value"], lines, is_text=True)


def light(results: Mapping[str, ResultsFile]) -> str:
    """How S5 measured on brighter exposures than it was trained on, as a list item."""
    untested = "Another camera or another product has not been tested."
    if EXPOSURE.name not in results:
        return f"- {untested} The run on other exposures has not been made yet."
    stored = results[EXPOSURE.name]
    rows, system = own_rows(stored), catalogue.S5_DARK
    changes = []
    for words, metric in (("the AUROC", "auroc"), ("the false alarms", "false_alarm_rate")):
        dark, bright = (find(rows, system, metric, light=name) for name in LIGHTS)
        change = find(rows, system, f"{metric}_shift")
        changes.append(
            f"{words} went from {dark.text(3)} to {bright.text(3)}, a change of "
            f"{change.text(3, True)}"
        )
    return (
        f"- {untested} Other exposures have been: an S5 at {stored.parameters['image_size']} px, "
        f"trained and its threshold chosen on the {len(catalogue.DARK)} darker exposures, was "
        f"tested on these and on the {len(catalogue.BRIGHT)} brighter ones of the same tiles; "
        f"{'; '.join(changes)} "
        "([](../notebooks/03_right_answer_wrong_reason.ipynb))."
    )
