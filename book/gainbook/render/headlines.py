"""The figures that a reference run is about, out of the hundreds it holds: one table per file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters.ch13_distillation.detector_systems import REFERENCE_TEACHER, SYSTEMS, on
from gainbook.chapters.ch13_distillation.swap_study import reference_pair, study_systems
from gainbook.lab.results_file import RESULT_KEYS, ResultsFile, read_results
from gainbook.lab.tables import Value, find, markdown
from gainmtl.explanation.methods import METHODS
from gainmtl.files import read_json

Measure = tuple[str, str | None, Mapping[str, Any]]
"""A metric, its map, and what its rows carry beside the system's own condition."""
VERDICTS: dict[str, Measure] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
}
PLACES: dict[str, Measure] = {
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame of the defect map": ("point_game", "defect_map", {}),
    "positive energy of the evidence": ("positive_energy", "cam", {}),
}
REASONS: dict[str, Measure] = {
    "selectivity on the image": ("selectivity", None, {"level": "image"})
}
OWN = frozenset({"output_stride", "recipe", "refinement", "verdict", "exposures", "options"})
"""Condition keys that tell systems apart; keys that begin with `mask_` do, too."""


NOTHING = "*None of the headline figures is in this file.*"


class Headline(NamedTuple):
    """What of a results file goes on the page."""

    title: str
    measures: Mapping[str, Measure] = {**VERDICTS, **PLACES}
    varied: tuple[str, ...] = ()
    """Further condition keys, each value of which gets a line of its own."""
    only: Mapping[str, tuple[Any, ...]] = {}
    """Of such keys, the values that get one; all, where a key is not named."""
    systems: tuple[Any, ...] = ()
    """Systems with `label`, `name` and `condition` that get a line, by their label; for those whose
    conditions are too long to be read."""


_FINAL = {"study": "final"}

HEADLINES: dict[str, Headline] = {
    "03_right_answer_wrong_reason": Headline(
        "Right answer, wrong reason",
        {
            **VERDICTS,
            "PointGame of the evidence": ("point_game", "cam", {}),
            "wrong reason": ("wrong_reason", "cam", {}),
        },
    ),
    "03_shortcut_study": Headline(
        "A printed mark that agrees with the label",
        {
            "verdicts that hang on the mark": ("verdict_change", None, {}),
            "AUROC with an unrelated mark": ("auroc", None, {"mark": "unrelated"}),
        },
        ("agreement",),
        {"agreement": (0.5, 1.0)},
    ),
    "03_exposure_shift": Headline(
        "Another light",
        {
            "AUROC": ("auroc", None, {}),
            "recall": ("recall", None, {}),
            "PointGame of the evidence": ("point_game", "cam", {}),
        },
        ("light",),
    ),
    "04_class_activation_maps": Headline(
        "Class activation maps",
        {
            "PointGame": ("point_game", "cam", {}),
            "positive energy": ("positive_energy", "cam", {}),
            "insertion": ("insertion_auc", "cam", {}),
            "deletion": ("deletion_auc", "cam", {}),
        },
        ("method",),
    ),
    "08_counterfactual": Headline(
        "Counterfactual",
        {
            "AUROC": ("auroc", None, {}),
            "selectivity at the features": ("selectivity", None, {"level": "features"}),
            "selectivity on the image": ("selectivity", None, {"level": "image"}),
        },
    ),
    "05_attention": Headline("Attention"),
    "06_guided_attention": Headline("Guided attention"),
    "07_focal_study": Headline(
        "Focal loss and rare defects",
        {"AUROC": ("auroc", None, {})},
        ("train_defect_rate", "gamma"),
    ),
    "07_localization": Headline("Localization"),
    "09_staged_training": Headline("S1 and S5"),
    "09_staging_study": Headline(
        "Four plans for one loss",
        {
            **VERDICTS,
            **PLACES,
            "conflicting pairs": ("conflicting_share", None, {"epochs": "second half"}),
        },
    ),
    "10_ablation": Headline("The ladder", {**VERDICTS, **PLACES, **REASONS}, ("pooling",)),
    "10_leave_one_out": Headline("Left out of the whole", {**VERDICTS, **PLACES, **REASONS}),
    "10_leaking_split": Headline(
        "What a leaking split flatters",
        {
            **VERDICTS,
            "accuracy": ("accuracy", None, {}),
            "IoU of the defect map": ("iou", "defect_map", {}),
            "PointGame of the defect map": ("point_game", "defect_map", {}),
        },
        ("split",),
    ),
    "10_copy_paste": Headline(
        "Counterfactual pictures to learn from", {**VERDICTS, **PLACES, **REASONS}
    ),
    "10_synthetic": Headline(
        "Six strategies over seeds", {**VERDICTS, **PLACES, **REASONS}, ("setting",)
    ),
    "11_six_approaches": Headline("Six approaches", varied=("pooling",)),
    "12_cam_fostering": Headline(
        "CAM fostering",
        {**VERDICTS, **PLACES},
        ("pooling", "beta", "measure", "layer", "epochs", "num_classes"),
    ),
    "12_weak_feature": Headline(
        "A weak feature beside a strong one",
        {
            "AUROC, both shown": ("auroc", None, {"shown": "both"}),
            "AUROC, the weak alone": ("auroc", None, {"shown": "weak"}),
            "energy on the strong": ("positive_energy", "cam", {"on": "strong", "shown": "both"}),
            "energy on the weak": ("positive_energy", "cam", {"on": "weak", "shown": "both"}),
        },
        ("pooling", "beta", "measure", "weak_alone"),
    ),
    "13_reverse_distillation": Headline(
        "Reverse distillation",
        {
            "AUROC": ("auroc", None, {}),
            "pixel AUROC": ("pixel_auroc", "defect_map", {}),
            "AUPRO": ("aupro", "defect_map", {}),
        },
        systems=tuple(on(system, REFERENCE_TEACHER) for system in SYSTEMS),
    ),
    "13_swap_study": Headline(
        "The swapped teacher",
        {"AUROC": ("auroc", None, _FINAL), "AUPRO": ("aupro", "defect_map", _FINAL)},
        systems=tuple(study_systems(reference_pair())),
    ),
}
"""By results file. One that is not listed is shown with the default measures."""


def load_all(folder: str | Path) -> dict[str, ResultsFile]:
    """The results.json files of a folder by name, in order; other JSON is left out."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        content = read_json(path)
        if isinstance(content, dict) and set(content) == set(RESULT_KEYS):
            found[path.stem] = read_results(path)
    return found


def own_rows(stored: ResultsFile) -> pd.DataFrame:
    """The rows about the data set of the run; a file also holds its chapter's live part.

    A study that names no data set is about one alone.
    """
    if "dataset" not in stored.parameters:
        return stored.rows
    return stored.rows[stored.rows["dataset"] == stored.parameters["dataset"]]


def _value(line: Mapping[str, Any]) -> Value:
    value, low, high = (
        math.nan if pd.isna(line[key]) else float(line[key])
        for key in ("value", "ci_low", "ci_high")
    )
    return Value(value, low, high, None)


def _words(system: str, own: Iterable[tuple[str, Any]]) -> str:
    """A line's name: the system, and what tells it from others of that name."""
    told = []
    for key, value in own:
        if key == "output_stride":
            told.append(f"stride {value}")
        elif key == "method":
            told.append(METHODS.get(value, value))
        else:
            told.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join([system, *told])


def headline_table(stored: ResultsFile, headline: Headline) -> str:
    """One line per system, one column per measure, from the pooled rows of the run's own data.

    A figure that the run does not have is a dash; a run that has none of them, a sentence.
    """
    rows = own_rows(stored)
    if headline.systems:
        return _by_label(rows, headline)
    pooled = rows[rows["seed"].isna() & rows["fold"].isna()]
    lines: dict[tuple[str, tuple[tuple[str, Any], ...]], dict[str, Value]] = {}
    for row in pooled.to_dict("records"):
        condition = dict(row["condition"])
        own = {
            key: condition.pop(key)
            for key in list(condition)
            if key in OWN or key in headline.varied or key.startswith("mask_")
        }
        if any(own[key] not in kept for key, kept in headline.only.items() if key in own):
            continue
        of = None if pd.isna(row["map"]) else row["map"]
        for name, (metric, map_name, extra) in headline.measures.items():
            if (metric, map_name, dict(extra)) == (row["metric"], of, condition):
                key = (row["system"], tuple((k, _plain(v)) for k, v in own.items()))
                lines.setdefault(key, {})[name] = _value(row)
    if not lines:
        return NOTHING
    cells = [
        [_words(*key), *(str(found[n]) if n in found else "–" for n in headline.measures)]
        for key, found in lines.items()
    ]
    return markdown(["system", *headline.measures], cells)


def _by_label(rows: pd.DataFrame, headline: Headline) -> str:
    lines = []
    for system in headline.systems:
        found = []
        for metric, map_name, extra in headline.measures.values():
            try:
                found.append(str(find(rows, system, metric, map_name, **extra)))
            except LookupError:
                found.append("–")
        if set(found) != {"–"}:
            lines.append([system.label, *found])
    if not lines:
        return NOTHING
    return markdown(["system", *headline.measures], lines)


def _plain(value: Any) -> Any:
    """A value that can be a key."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
