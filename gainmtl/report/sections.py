"""The sections of a report: figures, mistakes, unlabelled images, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gainmtl.evaluation.stats import bootstrap_interval, mean_defined
from gainmtl.report import html
from gainmtl.report.verdict_list import FALSE_ALARM, HIT, MISS, RIGHT_REJECTION

Show = Callable[[pd.DataFrame], list[str]]
"""Draws the first rows of the verdict list."""
Section = tuple[str, str, list[str]]
"""Key, title, HTML."""
FEW = 20
"""Below so many defective test images the report warns of its own figures."""
MEANINGS: tuple[tuple[str | None, str, dict[str, Any], str, str], ...] = (
    (None, "auroc", {}, "AUROC",
     "how often a defective image gets a higher probability than a normal one"),
    (None, "average_precision", {}, "Average precision", "area under precision against recall"),
    (None, "recall", {}, "Recall", "share of defective images that are flagged"),
    (None, "precision", {}, "Precision", "share of flagged images that are defective"),
    (None, "accuracy", {}, "Accuracy", "share of right verdicts"),
    (None, "recall_at_fpr05", {}, "Recall at 5 % false alarms",
     "with the threshold that suits these very images best: a bound, not a promise"),
    ("defect_map", "point_game", {}, "PointGame", "how often the map's peak is in the mask"),
    ("defect_map", "iou", {}, "IoU",
     "overlap of mask and map, the map scaled per image and cut at 0.5"),
    ("defect_map", "energy_inside", {}, "Energy inside", "share of the scaled map inside the mask"),
    ("defect_map", "pixel_ap", {}, "Pixel AP", "average precision over all pixels, nothing scaled"),
    ("defect_map", "false_activation", {}, "False activation",
     "share of a normal image where the map is above 0.5"),
    (None, "flip_rate", {"intervention": "removed"}, "Verdict falls without the defect",
     "found defects judged normal once the features under the mask are those of normal parts"),
    (None, "flip_rate", {"intervention": "moved"}, "Verdict falls without another place",
     "the same with as much area elsewhere, which should change nothing"),
)  # fmt: skip
"""The rows of the report's table of figures: map, metric, condition, name, explanation."""


def tiles(test: pd.DataFrame, measures: pd.DataFrame | None) -> str:
    """The few figures that matter most."""
    groups = test["group"].to_numpy()
    flagged = (test["verdict"] == "defective").to_numpy(float)
    parts = []
    for name, kind in (("recall", "defective"), ("false alarms", "normal")):
        asked = np.where(test["true_label"] == kind, flagged, np.nan)
        count = int((~np.isnan(asked)).sum())
        if count:
            # Over all groups, as in the table: the interval of recall is the same in both places.
            share = bootstrap_interval(mean_defined, groups, asked, resamples=1000)
            note = f"{int(np.nansum(asked))} of {count}"
            if not np.isnan(share.low):
                note += f"; {100 * share.low:.0f} to {100 * share.high:.0f} %"
            parts.append(html.tile(f"{100 * share.value:.0f} %", name, note))
    for map_name, metric, condition, name, meaning in MEANINGS:
        row = measure(measures, map_name, metric, condition)
        if row is not None and metric in ("auroc", "point_game"):
            between = html.interval(row["ci_low"], row["ci_high"])
            parts.append(html.tile(html.number(row["value"]), name, f"{meaning}; {between}"))
    return f'<div class="tiles">{"".join(parts)}</div>'


def key() -> str:
    """The colours of the overlays."""
    items = (
        ("linear-gradient(90deg, #ffd60a55, #e11d48)", "defect map, from faint to 1"),
        ("#00beff", "outline of the mask, where there is one"),
        ("#ffffff; outline: 2px solid #000", "cross: the map's highest value"),
    )
    spans = "".join(f'<span><i style="background:{c}"></i>{t}</span>' for c, t in items)
    return f'<div class="key">{spans}</div>'


def measure(
    measures: pd.DataFrame | None, map_name: str | None, metric: str, condition: Any = None
) -> pd.Series | None:
    """The pooled row of a measure, on the whole test set unless a condition is given."""
    if measures is None:
        return None
    chosen = [
        (pd.isna(row["fold"]) and row["metric"] == metric)
        and (row["map"] if isinstance(row["map"], str) else None) == map_name
        and row["condition"] == (condition or {})
        for _, row in measures.iterrows()
    ]
    found = measures[chosen]
    return found.iloc[0] if len(found) else None


def figures(test: pd.DataFrame, measures: pd.DataFrame | None) -> list[str]:
    """Confusion, measures with intervals, and by defect type."""
    outcome = test["outcome"].value_counts()
    confusion = html.table(
        "Verdicts on the test images",
        ("", "flagged", "passed"),
        [
            ("truly defective", int(outcome.get(HIT, 0)), int(outcome.get(MISS, 0))),
            (
                "truly normal",
                int(outcome.get(FALSE_ALARM, 0)),
                int(outcome.get(RIGHT_REJECTION, 0)),
            ),
        ],
    )
    rows = []
    for map_name, metric, condition, name, meaning in MEANINGS:
        row = measure(measures, map_name, metric, condition)
        if row is not None:
            between = html.interval(row["ci_low"], row["ci_high"])
            rows.append(((name, meaning), html.number(row["value"]), between, int(row["n"])))
    head = ("", "value", "95 % interval", "images")
    parts = [confusion]
    if rows:
        parts.append(html.table("Measures on the test images", head, rows))
    defects = int((test["true_label"] == "defective").sum())
    if defects < FEW:
        parts.append(
            html.paragraph(
                f"Only {defects} of the test images are defective: every figure about them moves "
                f"by {100 / max(1, defects):.0f} % with each image. An interval of no width says "
                "that the images agree, not that the next one will."
            )
        )
    kinds = _by_type(test, measures)
    return parts + ([kinds] if kinds else [])


def _by_type(test: pd.DataFrame, measures: pd.DataFrame | None) -> str | None:
    bad = test[test["true_label"] == "defective"]
    if bad["defect_type"].nunique() < 2:
        return None
    rows = []
    for kind, part in bad.groupby("defect_type"):
        point = measure(measures, "defect_map", "point_game", {"defect_type": kind})
        found = int((part["verdict"] == "defective").sum())
        value = "–" if point is None else html.number(point["value"])
        rows.append((str(kind), len(part), found, value))
    return html.table("By defect type", ("", "images", "found", "PointGame"), rows)


def strip(rows: pd.DataFrame) -> str:
    """Histograms of the probabilities of either kind, with the thresholds."""
    kinds = (
        ("normal", "normal images", "var(--good)"),
        ("defective", "defective images", "var(--bad)"),
    )
    parts = [
        (f"{int((rows['true_label'] == kind).sum())} {label}",
         rows.loc[rows["true_label"] == kind, "defect_probability"], colour)
        for kind, label, colour in kinds
    ]  # fmt: skip
    return html.strip(parts, sorted(set(rows["threshold"])))


def mistakes(test: pd.DataFrame, show: Show) -> list[Section]:
    ordered = test.sort_values("defect_probability", kind="stable")
    misses = ordered[ordered["outcome"] == MISS]
    alarms = ordered[ordered["outcome"] == FALSE_ALARM].iloc[::-1]
    hits = ordered[ordered["outcome"] == HIT]
    masked = hits[hits["peak_to_mask"].notna()]
    # Relative to the image: ten pixels are far on a small one.
    far = masked["peak_to_mask"] / np.hypot(masked["height"], masked["width"])
    elsewhere = masked.loc[far[far > 0].sort_values(ascending=False).index]
    unmasked = len(hits) - len(masked)
    asked = "Flagged, and rightly, but the map's highest value lies outside the mask; the "
    asked += "farthest first. On the next part this reason may fail."
    if unmasked:
        asked += f" {unmasked} found defects have no mask, so nobody can tell."
    seen = int(((misses["peak_to_mask"] == 0) & (misses["peak"] >= 0.5)).sum())
    missed = "Defective images judged normal, the surest first."
    if seen:
        missed += f" On {seen} of them the map peaks inside the mask, at 0.5 or more: seen, and "
        missed += "let pass all the same."
    sections = (
        ("misses", "Misses", misses, missed,
         "No defective test image was missed."),
        ("alarms", "False alarms", alarms, "Normal images judged defective, the surest first.",
         "No normal test image raised an alarm."),
        ("elsewhere", "Right verdict, wrong place", elsewhere, asked,
         "Wherever a found defect has a mask, the map peaks inside it."
         if len(masked) else "No found defect has a mask, so nobody can tell."),
    )  # fmt: skip
    parts: list[Section] = []
    for key, name, rows, intro, none in sections:
        body = [html.paragraph(intro), *show(rows)] if len(rows) else [html.paragraph(none)]
        parts.append((key, f"{name} ({len(rows)})", body))
    clear = masked[masked["peak_to_mask"] == 0].iloc[::-1].head(3)
    if len(clear):
        text = "For comparison: the surest of the found defects whose map peaks on the defect."
        parts.append(("right", "Right verdict, right place", [html.paragraph(text), *show(clear)]))
    return parts


def judged(new: pd.DataFrame, show: Show, rule: str | None) -> list[Section]:
    ordered = new.sort_values("defect_probability", ascending=False, kind="stable")
    flagged = ordered[ordered["verdict"] == "defective"]
    rest = ordered[ordered["verdict"] != "defective"]
    row = (f"{len(new)} unlabelled images", new["defect_probability"], "var(--good)")
    head = [html.paragraph(rule)] if rule else []
    overview = [*head, html.strip([row], sorted(set(new["threshold"])))]
    surest = [html.paragraph("The surest first."), *show(flagged)]
    none = [html.paragraph("None.")]
    return [
        ("new", "Unlabelled images", overview),
        ("flagged", f"Flagged ({len(flagged)})", surest if len(flagged) else none),
        ("close", "Let pass, closest to the threshold", show(rest) if len(rest) else none),
    ]


def data(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = (
        ("images", "images"),
        ("normal", "normal"),
        ("defective", "defective"),
        ("defective_without_mask", "of these without a mask"),
        ("empty_masks", "of these with an empty mask"),
        ("groups", "groups"),
    )
    rows = [(split, *(count[key] for key, _ in names)) for split, count in counts.items()]
    parts = [html.table("Images by split", ("", *(name for _, name in names)), rows)]
    total = sum(c["defective_without_mask"] + c["empty_masks"] for c in counts.values())
    if total:
        parts.append(
            html.paragraph(
                f"{total} defective images have no usable mask. They teach and test the verdict; "
                "no loss and no measure of the map reads them."
            )
        )
    return parts
