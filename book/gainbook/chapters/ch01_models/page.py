"""Tables and sentences of chapter 01's page, from result rows and the frozen tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from gainbook.chapters.ch01_models import tables
from gainbook.chapters.ch01_models.analysis import (
    COSTS,
    PAPER,
    RERUN,
    SEED,
    SHARED,
    TIMES,
    TOP1_ERROR,
    VARIANTS,
    WHOLE,
    Named,
    about,
    candidate_tables,
    rows_under,
)
from gainbook.chapters.ch01_models.blocks import PLACES, VERSIONS
from gainbook.chapters.ch01_models.networks import SUBJECTS
from gainbook.chapters.ch01_models.study import step_ratio, training_ratio, versions_table, winner
from gainbook.lab.tables import cell, find, markdown

TABLES = {
    SEED: "the plan's eight classifiers",
    WHOLE: "timm's models",
    PAPER: "detectors, authors' figures",
    RERUN: "detectors, library's figures",
    SHARED: "the same, those with both figures",
}
"""Words of the page by candidate table."""
VARIANT_WORDS = [f"{dominance}, {axis}" for dominance, axis in VARIANTS]
COUNTS = {"cost": "parameters", "gmacs": "multiply-adds", "macts": "activations"}
SMALLER = 25.0
"""The explorer's second limit of size, in million parameters."""


def short(name: str | None) -> str:
    """A candidate's name without the weights of a timm name; "none" without a winner."""
    return "none" if name is None else name.split(".")[0]


def winners_table(rows: pd.DataFrame, which: Mapping[str, Sequence[str]]) -> str:
    """The pick of each variant of the rule: one line per candidate table and cost.

    Args:
        which: costs by candidate table. A selection that the rows lack is left out; one without a
            winner has no winner's row, so it reads "none".
    """
    lines = []
    for table, costs in which.items():
        for cost in costs:
            try:
                names = [winner(rows, table, cost, *variant) for variant in VARIANTS]
            except LookupError:
                continue
            lines.append([TABLES[table], COSTS[cost], *map(short, names)])
    return markdown(["candidates", "cost", *VARIANT_WORDS], lines, is_text=True)


def residuals_table(rows: pd.DataFrame) -> str:
    """The plan's candidates: accuracy above the line, one column per variant; a dash is off the
    front."""
    lines = []
    for one in tables.seed_classifiers().to_dict("records"):
        cells = [
            cell(rows, Named(one["name"]), "residual", None, 2, True,
                 **about(SEED, "cost", *variant))
            for variant in VARIANTS
        ]  # fmt: skip
        lines.append([one["name"], f"{one['accuracy']:.1f}", f"{one['cost']:.0f}", *cells])
    return markdown(["", "top-1, %", "million parameters", *VARIANT_WORDS], lines)


def correlation_table(rows: pd.DataFrame) -> str:
    """Spearman's correlation of a count with published milliseconds, a line per count."""
    times: list[dict[str, Any]] = [{"with": column} for column in TIMES]
    lines = [
        [words, *(cell(rows, Named(name), "rank_correlation", **one) for one in times)]
        for name, words in COUNTS.items()
    ]
    return markdown(["", *(COSTS[t] for t in TIMES)], lines)


def timed(rows: pd.DataFrame, tag: str, metric: str, side: int = 512) -> float:
    """A measured figure of a network at an image side in pixels."""
    return find(rows, Named(tag), metric, image_size=side).value


def networks_table(rows: pd.DataFrame, family: str) -> str:
    """Measured figures of the timed networks of a family, by time at 512 px."""
    lines = []
    for subject in SUBJECTS.values():
        if subject.family == family:
            figures = [
                timed(rows, subject.tag, metric, side)
                for metric, side in (("million_parameters", 512), ("milliseconds", 224),
                                     ("milliseconds", 512), ("megabytes", 512))
            ]  # fmt: skip
            lines.append((subject.tag, figures))
    lines.sort(key=lambda line: line[1][2])
    header = [family, "million parameters", "ms, 224 px", "ms, 512 px", "MB, 512 px"]
    return markdown(
        header, [[tag, f"{p:.1f}", *(f"{x:,.0f}" for x in rest)] for tag, (p, *rest) in lines]
    )


def order_text(rows: pd.DataFrame) -> str:
    """How well parameters order the timed networks by time at 512 px, in a sentence."""
    alike = {}
    for family in ("classifier", "detector"):
        figures = [
            [timed(rows, tag, metric) for metric in ("million_parameters", "milliseconds")]
            for tag, one in SUBJECTS.items() if one.family == family
        ]  # fmt: skip
        table = pd.DataFrame(figures)
        alike[family] = (len(table), table[0].corr(table[1], method="spearman"))
    texts = [f"{value:.2f} for the {size} {name}s" for name, (size, value) in alike.items()]
    return f"The rank correlation of parameters and time at 512 pixels is {' and '.join(texts)}."


def detectors_table() -> str:
    """The detectors with both figures: the authors' minus the library's."""
    both = tables.detectors("paper").dropna(subset=["rerun"])
    lines = [
        [one["name"], f"{one['cost']:.1f}", f"{one['paper']:.1f}",
         "not read" if one["checked"] == "no" else one["checked"], f"{one['rerun']:.1f}",
         f"{one['rerun'] - one['paper']:+.1f}"]
        for one in both.sort_values("cost").to_dict("records")
    ]  # fmt: skip
    header = ["", "million parameters", "authors, %", "read at", "anomalib, %",
              "difference"]  # fmt: skip
    return markdown(header, lines)


def detectors_text() -> str:
    """How far the two figures of a detector are apart, in a sentence."""
    both = tables.detectors("paper").dropna(subset=["rerun"])
    gap = both.assign(gap=both["rerun"] - both["paper"]).sort_values("gap")
    worst, best = gap.iloc[0], gap.iloc[-1]
    alike = both[["paper", "rerun"]].corr("spearman").iloc[0, 1]
    return (
        f"The difference of these {len(both)} detectors has the median {gap['gap'].median():+.1f} "
        f"points; it ranges from {worst['gap']:+.1f} ({worst['name']}) to {best['gap']:+.1f} "
        f"({best['name']}). The rank correlation of the two columns is {alike:.2f}."
    )


def times_text(plan: pd.DataFrame) -> str:
    """Why the choice changes on a processor: TinyViT beside EfficientNet-B6."""
    at = plan.set_index("name")
    tiny, b6 = at.loc["TinyViT-21M-512-distill"], at.loc["FixEfficientNet-B6"]
    return (
        f"On the processor TinyViT takes **{tiny['cpu_ms']:.0f} ms** at {tiny['image_size']} "
        f"pixels, and the larger EfficientNet-B6 **{b6['cpu_ms']:.0f} ms** at {b6['image_size']}: "
        "B6 is more accurate *and* faster, so TinyViT is not on the front. On the graphics card "
        f"TinyViT takes {tiny['gpu_ms']:.1f} ms and B6 {b6['gpu_ms']:.1f} ms, and TinyViT stays "
        f"the winner, although it needs more multiply-adds ({tiny['gmacs']:.0f} against "
        f"{b6['gmacs']:.0f} thousand million). TinyViT's training time is not in the table, which "
        "is older."
    )


def shares_table(rows: pd.DataFrame) -> str:
    """Shares of the resampled lists, the three most frequent winners of each candidate table."""
    lines = []
    for table, error in ((SEED, 0.0), (SEED, TOP1_ERROR), (PAPER, 0.0), (RERUN, 0.0)):
        texts = []
        for variant in VARIANTS:
            wanted = {**about(table, "cost", *variant), "error": error}
            near = rows_under(rows, "win_share", wanted).nlargest(3, "value")
            pairs = zip(near["system"], near["value"], strict=True)
            texts.append(", ".join(f"{short(name)} {share:.2f}" for name, share in pairs) or "–")
        noise = f" ± {error:.2f} points" if error else ""
        lines.append([f"{TABLES[table]}{noise}", *texts])
    return markdown(["candidates", *VARIANT_WORDS], lines, is_text=True)


def shares_text(rows: pd.DataFrame) -> str:
    """The share of the resampled lists that each table's most frequent winner wins, in words."""

    def highest(table: str, error: float = 0.0) -> list[float]:
        """Of the four variants of the rule."""
        wanted = [{**about(table, "cost", *variant), "error": error} for variant in VARIANTS]
        return [float(rows_under(rows, "win_share", one)["value"].max()) for one in wanted]

    strict, weak = (highest(RERUN)[places] for places in (slice(2), slice(2, 4)))
    return (
        "What to notice: of the lists that contain it, the most frequent winner wins "
        f"{min(highest(SEED) + highest(SEED, TOP1_ERROR)):.0%} and more for the plan's "
        f"classifiers, {min(highest(PAPER)):.0%} for the detectors by the authors' figures, and by "
        f"the library's {max(strict):.0%} at most under strict dominance and {max(weak):.0%} under "
        "weak dominance, where many lists end in a tie."
    )


def blocks_text(rows: pd.DataFrame) -> str:
    """The measured blocks as a sentence per width."""
    lines = []
    for place in PLACES:
        words = "fused in EfficientNetV2-S" if place.is_fused else "not fused there"
        lines.append(
            f"- {place.channels} channels, {place.cells} x {place.cells} cells ({words}): MBConv "
            f"takes **{step_ratio(rows, place).text()}** times as long as a fused block."
        )
    return "\n".join(lines)


def headline(rows: pd.DataFrame) -> list[str]:
    """The page's first sentences, with the numbers of the stored or computed rows."""
    plan = [winner(rows, SEED, "cost", *VARIANTS[0]), winner(rows, SEED, "cpu_ms", *VARIANTS[0])]
    picks = [winner(rows, t, "cost", *VARIANTS[0]) for t in (PAPER, RERUN)]
    residual = find(rows, Named(str(plan[0])), "residual", **about(SEED, "cost", *VARIANTS[0]))
    lines = [
        f"- **Classifier**: {short(plan[0])}, {residual.text(2, True)} points above the line. With "
        f"published milliseconds on a processor as the cost the rule picks {short(plan[1])}.",
        f"- **Detector**: {short(picks[0])} by the authors' figures, {short(picks[1])} by those of "
        "one library's runs.",
    ]
    try:
        (few, slow), (many, fast) = (
            (timed(rows, tag, "million_parameters"), timed(rows, tag, "milliseconds"))
            for tag in ("efficientad-s", "rd-wide_resnet50_2")
        )
    except LookupError:
        return lines
    return [
        *lines,
        f"- **Parameters are not time**: at 512 px EfficientAD-S ({few:.1f} M parameters) "
        f"takes {slow:,.0f} ms on one thread here, reverse distillation on a Wide ResNet-50 "
        f"({many:.1f} M) {fast:,.0f} ms.",
    ]


def versions_text(rows: pd.DataFrame) -> str:
    """Claim A4's table and blocks; one sentence instead where the rows lack a figure."""
    try:
        smallest = min(training_ratio(rows, version)[1] for version in VERSIONS)
        return (
            f"{versions_table(rows)}\n\nWhole networks of equal accuracy differ by a factor of at "
            f"least {smallest:.1f}. One block against the other, measured here:\n\n"
            f"{blocks_text(rows)}"
        )
    except LookupError:
        return "These figures have not been measured yet: `tools/measure_models.py` measures them."


def explorer(
    times: pd.Series,
) -> tuple[
    dict[str, pd.DataFrame],
    dict[str, tuple[str, str]],
    dict[str, Callable[[pd.DataFrame], pd.DataFrame]],
    dict[str, str],
]:
    """Arguments of `gainbook.render.selections.selection_frames`.

    The milliseconds are the published ones on a processor for classifiers, and those measured at
    512 px for detectors, `times` by network.
    """
    found = candidate_tables(times)
    seed = found[SEED]
    found[SEED] = seed.assign(usable=seed["image_size"] >= tables.SMALLEST_SIDE)
    named = {}
    for name in (SEED, WHOLE, PAPER, RERUN):
        column = "cpu_ms" if name in (SEED, WHOLE) else "measured_ms"
        named[TABLES[name]] = found[name].assign(parameters=found[name]["cost"],
                                                 ms=found[name][column])  # fmt: skip
    axes = {
        "million parameters": ("parameters", "linear"),
        "million parameters, log": ("parameters", "log"),
        "milliseconds, log": ("ms", "log"),
    }
    conditions: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        f"at most {tables.LARGEST:.0f} M parameters": lambda t: t.drop(columns="usable"),
        f"at most {tables.LARGEST:.0f} M, and 512 px": lambda t: t,
        f"at most {SMALLER:.0f} M, and 512 px": lambda t: t[t["parameters"] <= SMALLER],
    }
    labels = dict.fromkeys(list(named)[:2], "ImageNet top-1, %")
    labels |= dict.fromkeys(list(named)[2:], "image AUROC on MVTec AD, %")
    return named, axes, conditions, labels
