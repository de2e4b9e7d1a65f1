"""The sections of a report: results, mistakes, unlabelled images, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gainmtl.evaluation.stats import bootstrap_interval, mean_defined
from gainmtl.report import html
from gainmtl.report.verdicts import FALSE_ALARM, HIT, MISS, RIGHT_REJECTION

Show = Callable[[pd.DataFrame], list[str]]
"""Renders the first of these rows of the verdict table as HTML."""
Section = tuple[str, str, list[str]]
"""Key, title, HTML."""
FEW = 20
"""With fewer defective test images than this, the report adds a warning."""
MEANINGS: tuple[tuple[str | None, str, dict[str, Any], str, str], ...] = (
    (None, "auroc", {}, "AUROC",
     "probability that a defective image scores higher than a normal one"),
    (None, "average_precision", {}, "Average precision", "area under the precision-recall curve"),
    (None, "recall", {}, "Recall", "share of defective images that are flagged"),
    (None, "precision", {}, "Precision", "share of flagged images that are defective"),
    (None, "accuracy", {}, "Accuracy", "share of correct verdicts"),
    (None, "recall_at_fpr05", {}, "Recall at 5 % false alarms",
     "with the best threshold for these test images: an upper bound"),
    ("defect_map", "point_game", {}, "PointGame", "share of maps with their peak in the mask"),
    ("defect_map", "iou", {}, "IoU",
     "overlap of the mask and the map, min-max scaled per image, above 0.5"),
    ("defect_map", "energy_inside", {}, "Energy inside", "share of the scaled map inside the mask"),
    ("defect_map", "pixel_ap", {}, "Pixel AP",
     "average precision over all pixels, without scaling"),
    ("defect_map", "false_activation", {}, "False activation",
     "share of a normal image where the map is above 0.5"),
    (None, "flip_rate", {"intervention": "removed"}, "Flips without the defect",
     "share of detected defects predicted normal if the features under the mask are replaced by "
     "those of normal parts"),
    (None, "flip_rate", {"intervention": "moved"}, "Flips without another region",
     "the same for a region of equal area elsewhere, which should not change the verdict"),
)  # fmt: skip
"""The rows of the table of measures: map, metric, condition, name, explanation."""


def tiles(test: pd.DataFrame, measures: pd.DataFrame | None) -> str:
    """Recall, false alarm rate, AUROC and PointGame in large type."""
    groups = test["group"].to_numpy()
    flagged = (test["verdict"] == "defective").to_numpy(float)
    parts = []
    for name, kind in (("recall", "defective"), ("false alarms", "normal")):
        flags = np.where(test["true_label"] == kind, flagged, np.nan)
        count = int((~np.isnan(flags)).sum())
        if count:
            # Resampled over all groups, as for the table, so that both show the same interval.
            share = bootstrap_interval(mean_defined, groups, flags, resamples=1000)
            note = f"{int(np.nansum(flags))} of {count}"
            if not np.isnan(share.low):
                note += f"; {100 * share.low:.0f} to {100 * share.high:.0f} %"
            parts.append(html.tile(f"{100 * share.value:.0f} %", name, note))
    for map_name, metric, condition, name, meaning in MEANINGS:
        row = measure(measures, map_name, metric, condition)
        if row is not None and metric in ("auroc", "point_game"):
            between = html.interval(row["ci_low"], row["ci_high"])
            parts.append(html.tile(html.number(row["value"]), name, f"{meaning}; {between}"))
    return f'<div class="tiles">{"".join(parts)}</div>'


def legend() -> str:
    """The legend of the overlays."""
    items = (
        ("linear-gradient(90deg, #ffd60a55, #e11d48)", "defect map, from low values to 1"),
        ("#00beff", "outline of the mask, if there is one"),
        ("#ffffff; outline: 2px solid #000", "cross: highest value of the map"),
    )
    spans = "".join(f'<span><i style="background:{c}"></i>{t}</span>' for c, t in items)
    return f'<div class="key">{spans}</div>'


def measure(
    measures: pd.DataFrame | None, map_name: str | None, metric: str, condition: Any = None
) -> pd.Series | None:
    """The pooled row of a measure, of the whole test set unless a condition is given, or `None`."""
    if measures is None:
        return None
    chosen = [
        (pd.isna(row["fold"]) and row["metric"] == metric)
        and (row["map"] if isinstance(row["map"], str) else None) == map_name
        and row["condition"] == (condition or {})
        for _, row in measures.iterrows()
    ]
    rows = measures[chosen]
    return rows.iloc[0] if len(rows) else None


def outcomes(test: pd.DataFrame) -> tuple[int, ...]:
    """Numbers of hits, misses, false alarms and right rejections."""
    counts = test["outcome"].value_counts()
    return tuple(int(counts.get(kind, 0)) for kind in (HIT, MISS, FALSE_ALARM, RIGHT_REJECTION))


def figures(test: pd.DataFrame, measures: pd.DataFrame | None) -> list[str]:
    """The confusion table, the measures with intervals, and results by defect type."""
    hits, misses, alarms, rejections = outcomes(test)
    confusion = html.table(
        "Verdicts on the test images",
        ("", "flagged", "passed"),
        [("truly defective", hits, misses), ("truly normal", alarms, rejections)],
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
                f"Only {defects} of the test images are defective, so one image changes every "
                f"result for defects by {100 / max(1, defects):.0f} %. With so few images an "
                "interval can be too narrow, even of width 0."
            )
        )
    return parts + _by_type(test, measures)


def _by_type(test: pd.DataFrame, measures: pd.DataFrame | None) -> list[str]:
    bad = test[test["true_label"] == "defective"]
    if bad["defect_type"].nunique() < 2:
        return []
    rows = []
    for kind, part in bad.groupby("defect_type"):
        point = measure(measures, "defect_map", "point_game", {"defect_type": kind})
        flagged = int((part["verdict"] == "defective").sum())
        value = "–" if point is None else html.number(point["value"])
        rows.append((str(kind), len(part), flagged, value))
    return [html.table("By defect type", ("", "images", "flagged", "PointGame"), rows)]


def histograms(rows: pd.DataFrame) -> str:
    """Histograms of the probabilities of normal and defective images, with the thresholds."""
    parts = []
    for kind, colour in (("normal", "var(--good)"), ("defective", "var(--bad)")):
        values = rows.loc[rows["true_label"] == kind, "defect_probability"]
        parts.append((f"{len(values)} {kind} images", values, colour))
    return html.histograms(parts, sorted(set(rows["threshold"])))


def mistakes(test: pd.DataFrame, show: Show) -> list[Section]:
    """Misses, false alarms, and defects that are flagged although the map peaks elsewhere."""
    ordered = test.sort_values("defect_probability", kind="stable")
    misses = ordered[ordered["outcome"] == MISS]
    alarms = ordered[ordered["outcome"] == FALSE_ALARM].iloc[::-1]
    hits = ordered[ordered["outcome"] == HIT]
    masked = hits[hits["peak_to_mask"].notna()]
    # Relative to the image size: ten pixels are far in a small image.
    far = masked["peak_to_mask"] / np.hypot(masked["height"], masked["width"])
    elsewhere = masked.loc[far[far > 0].sort_values(ascending=False).index]
    unmasked = len(hits) - len(masked)
    outside = "Correctly flagged, but the map's highest value lies outside the mask; largest "
    outside += "distance first. The verdict may depend on something other than the defect."
    if unmasked:
        outside += f" {unmasked} detected defects have no mask and can't be checked."
    located = int(((misses["peak_to_mask"] == 0) & (misses["peak"] >= 0.5)).sum())
    missed = "Defective images predicted normal, lowest probability first."
    if located:
        missed += f" On {located} of them the map peaks inside the mask with a value of at least "
        missed += "0.5, although the image was not flagged."
    sections = (
        ("misses", "Misses", misses, missed,
         "No defective test image was missed."),
        ("alarms", "False alarms", alarms,
         "Normal images predicted defective, highest probability first.",
         "No normal test image was flagged."),
        ("elsewhere", "Right verdict, wrong place", elsewhere, outside,
         "The maps of all detected defects with a mask peak inside it."
         if len(masked) else "No detected defect has a mask, so this can't be checked."),
    )  # fmt: skip
    parts: list[Section] = []
    for key, name, rows, intro, none in sections:
        body = [html.paragraph(intro), *show(rows)] if len(rows) else [html.paragraph(none)]
        parts.append((key, f"{name} ({len(rows)})", body))
    inside = masked[masked["peak_to_mask"] == 0].iloc[::-1].head(3)
    if len(inside):
        text = "For comparison: detected defects with the peak inside the mask, highest "
        text += "probability first."
        parts.append(("right", "Right verdict, right place", [html.paragraph(text), *show(inside)]))
    return parts


def unlabelled(new: pd.DataFrame, show: Show, rule: str | None) -> list[Section]:
    """Predictions of unlabelled images: all, the flagged ones, and the closest to the threshold."""
    ordered = new.sort_values("defect_probability", ascending=False, kind="stable")
    flagged = ordered[ordered["verdict"] == "defective"]
    rest = ordered[ordered["verdict"] != "defective"]
    row = (f"{len(new)} unlabelled images", new["defect_probability"], "var(--good)")
    head = [html.paragraph(rule)] if rule else []
    overview = [*head, html.histograms([row], sorted(set(new["threshold"])))]
    highest = [html.paragraph("Highest probability first."), *show(flagged)]
    none = [html.paragraph("None.")]
    return [
        ("new", "Unlabelled images", overview),
        ("flagged", f"Flagged ({len(flagged)})", highest if len(flagged) else none),
        ("close", "Not flagged, closest to the threshold", show(rest) if len(rest) else none),
    ]


def data(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The counts of each split; see `Data.counts`."""
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
                f"{total} defective images have no usable mask. They are used for classification, "
                "but for no loss and no measure of the map."
            )
        )
    return parts
