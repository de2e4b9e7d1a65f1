"""What the model card of the reference S5 says in figures, from the stored reference run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gainbook.chapters.ch03_reason import exposure as exposure_shift
from gainbook.lab import components, reference
from gainbook.lab.chapter_results import as_text
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.tables import Value, find, markdown
from gainbook.render.headlines import own_rows
from gainmtl.strategies import get_strategy

CARD = "09_staged_training"
"""The reference run that the card is about."""

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
    """What the checkpoints of the card are worth on test tiles."""
    if CARD not in results:
        return "*The reference run has not been made yet.*"
    rows = own_rows(results[CARD])
    lines = []
    for name, (metric, of, more) in FIGURES.items():
        try:
            found: Value | None = find(rows, reference.S5, metric, of, **more)
        except LookupError:
            found = None
        told = "–" if found is None else found.text(3 if abs(found.value) < 0.1 else 2)
        count = "–" if found is None or found.n is None else str(found.n)
        lines.append([name, told, count])
    return markdown(["measure", "value and 95 % interval", "images"], lines)


def training(results: Mapping[str, ResultsFile]) -> str:
    """How the checkpoints of the card were trained."""
    weights = get_strategy("S5").weights.asdict()
    told = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in weights.items() if v)
    lines = [["loss weights", told]]
    if CARD in results:
        stored = results[CARD]
        given, origin = stored.parameters, stored.provenance
        recipe = origin["recipe"][reference.S5.tag]
        lines += [
            ["backbone", f"`{given['backbone']}`, weights `{origin['weights']['name']}`"],
            ["image size", f"{given['image_size']} px"],
            ["recipe", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in recipe.items())],
            ["folds, seeds", f"{given['folds']}, {as_text(given['seeds'])}"],
            ["data fingerprint", f"`{origin['data_fingerprint'][:16]}`"],
            ["trained at commit", as_text(origin["trained_at_commits"])],
            ["versions", ", ".join(f"{k} {v}" for k, v in origin["versions"].items())],
        ]
    return markdown(["", "value"], lines, is_text=True)


def light(results: Mapping[str, ResultsFile]) -> str:
    """What another light did to S5, as an item of a list."""
    untried = "Another camera or another product has not been tried."
    if exposure_shift.NAME not in results:
        return f"- {untried} Neither has another exposure: that run has not been made yet."
    stored = results[exposure_shift.NAME]
    rows, system = own_rows(stored), components.S5_DARK
    told = []
    for words, metric in (("the AUROC", "auroc"), ("the false alarms", "false_alarm_rate")):
        own, other = (find(rows, system, metric, light=name) for name in exposure_shift.LIGHTS)
        change = find(rows, system, f"{metric}_shift")
        told.append(
            f"{words} went from {own.text(3)} to {other.text(3)}, a change of "
            f"{change.text(3, True)}"
        )
    return (
        f"- {untried} Another exposure has: an S5 at {stored.parameters['image_size']} px that saw "
        f"only the {len(components.DARK)} darker ones until its threshold was set was asked about "
        f"the {len(components.BRIGHT)} brighter ones too, on the same tiles; {'; '.join(told)} "
        "([](../notebooks/03_right_answer_wrong_reason.ipynb))."
    )
