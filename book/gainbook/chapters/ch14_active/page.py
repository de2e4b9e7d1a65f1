"""Tables and data of plots for chapter 14's page, from result rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from gainbook.chapters.ch14_active import finetune, study
from gainbook.chapters.ch14_active.loop import Plan
from gainbook.chapters.ch14_active.methods import METHODS, WITHOUT_MASKS
from gainbook.chapters.ch14_active.summary import REFERENCE
from gainbook.lab.study import judge
from gainbook.lab.tables import Value, cell, find, markdown

SETS = {"deep-pcb": "circuit boards", "magnetic-tile": "magnetic tiles",
        "synthetic": "fifteen classes"}  # fmt: skip
"""Names of the data sets for readers."""
Rows = Mapping[str, pd.DataFrame]
"""Stored rows by data set; sets without results are left out."""
SHOWN = ("random", "class_balanced", "entropy", "margin", "badge", "activation")
"""Methods of the plot of curves."""


def curve_table(rows: Rows) -> pd.DataFrame:
    """The data of `plots.curves`: macro F1, one panel per set, one series per method of `SHOWN`."""
    lines = []
    for dataset, table in rows.items():
        for method in SHOWN:
            near = table[(table["system"] == method) & (table["metric"] == "macro_f1")]
            for one in near.to_dict("records"):
                condition = dict(one["condition"])
                if set(condition) == {"labels"}:
                    lines.append(
                        {
                            "panel": SETS[dataset],
                            "series": METHODS[method].label,
                            "x": condition["labels"],
                            **{key: one[key] for key in ("value", "ci_low", "ci_high")},
                        }
                    )
    return pd.DataFrame(lines)


def methods_table(rows: pd.DataFrame) -> str:
    """One line per method: area, final figures, and the labels saved against `REFERENCE`."""
    last = study.last_labels(rows)
    lines = []
    for method, known in METHODS.items():
        plan = Plan(method)
        lines.append(
            [
                known.label,
                cell(rows, plan, "area", None, 3),
                *(cell(rows, plan, metric, labels=last)
                  for metric in ("accuracy", "macro_f1", "worst_recall")),
                cell(rows, plan, "label_saving", signed=True, against=REFERENCE),
            ]
        )  # fmt: skip
    header = ["", "area under macro F1", f"accuracy, {last:,} labels", "macro F1",
              "worst recall", "labels saved"]  # fmt: skip
    return markdown(header, lines)


def wins_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the seeds in which the line's method has a larger area than the column's."""
    near = rows[rows["metric"] == "wins"]
    table = pd.DataFrame(
        [(one["system"], dict(one["condition"])["against"], one["value"])
         for one in near.to_dict("records")], columns=["a", "b", "wins"],
    )  # fmt: skip
    labels = {method: known.label for method, known in METHODS.items()}
    square = table.pivot_table(index="a", columns="b", values="wins")
    order = list(METHODS)
    return square.reindex(index=order, columns=order).rename(index=labels, columns=labels)


def wins_words(title: str, wins: pd.DataFrame) -> tuple[str, str]:
    """Caption and alternative text of the picture of `wins_table`."""
    mean = wins.mean(axis=1).sort_values(ascending=False)
    order = ", ".join(f"{name} {value:.2f}" for name, value in mean.items())
    return (
        f"{title.capitalize()}: share of the seeds in which the line's method has the larger "
        "area under its curve than the column's.",
        f"Pairwise wins on {title}; mean share of wins: {order}.",
    )


def savings(rows: pd.DataFrame) -> dict[str, Value]:
    """Share of the labels saved by each method without masks, the largest first."""
    found = {m: study.saving(rows, m) for m in WITHOUT_MASKS if m != REFERENCE}
    return dict(sorted(found.items(), key=lambda item: -item[1].value))


def target_text(rows: Rows) -> str:
    """Which methods reach the chapter's target, as sentences per set."""
    lines = []
    for dataset, table in rows.items():
        found = savings(table)
        best, value = next(iter(found.items()))
        reached = [
            f"{METHODS[method].label} ({saved.text(2, True)})"
            for method, saved in found.items()
            if saved.value >= study.TARGET and saved.low > 0
        ]
        words = (
            f"{len(reached)} of {len(found)} methods: {', '.join(reached)}"
            if reached
            else f"none; the largest saving is that of {METHODS[best].label}, {value.text(2, True)}"
        )
        lines.append(f"- **{SETS[dataset]}**: {words}.")
    return "\n".join(lines)


def map_table(rows: Rows) -> str:
    """The map-based scores beside entropy and class-balanced random: differences of the area."""
    pairs = (
        ("activation", REFERENCE), ("activation_masks", REFERENCE), ("activation", "entropy"),
        ("entropy_activation", "entropy"),
    )  # fmt: skip
    lines = [
        [
            f"{METHODS[a].label} − {METHODS[b].label}",
            *(cell(table, Plan(a), "area_difference", None, 3, True, against=b)
              for table in rows.values()),
        ]
        for a, b in pairs
    ]  # fmt: skip
    return markdown(["difference of the area", *(SETS[d] for d in rows)], lines)


def tuned_table(frozen: pd.DataFrame | None, tuned: pd.DataFrame) -> str:
    """Macro F1 with a fine-tuned backbone, and on frozen features after as many labels.

    The last column is the fine-tuned difference from `REFERENCE`.
    """
    last = study.last_labels(tuned)
    counts = sorted({dict(c)["labels"] for c in tuned["condition"] if "labels" in dict(c)})
    versions = {"fine-tuned": tuned} | ({} if frozen is None else {"frozen": frozen})
    lines = [
        [
            METHODS[method].label, words,
            *(cell(table, Plan(method), "macro_f1", labels=n) for n in counts),
            "–" if method == REFERENCE or words == "frozen" else
            cell(table, Plan(method), "macro_f1_difference", None, 3, True,
                 against=REFERENCE, labels=last),
        ]
        for method in finetune.METHODS
        for words, table in versions.items()
    ]  # fmt: skip
    header = ["", "backbone", *(f"macro F1, {n} labels" for n in counts),
              f"difference, {last} labels"]  # fmt: skip
    return markdown(header, lines)


def tuned_text(frozen: pd.DataFrame | None, tuned: pd.DataFrame) -> str:
    """What choosing gains with a fine-tuned backbone, and what fine-tuning does, in sentences."""
    last = study.last_labels(tuned)
    found = {
        m: find(tuned, Plan(m), "macro_f1_difference", against=REFERENCE, labels=last)
        for m in finetune.METHODS
        if m != REFERENCE
    }
    better = [METHODS[m].label for m, value in found.items() if value.low > 0]
    texts = [f"{METHODS[m].label} {value.text(3, True)}" for m, value in found.items()]
    words = (
        f"What to notice: with {last} labels, macro F1 minus that of class-balanced random is "
        f"{'; '.join(texts)}; above 0 by its interval: {', '.join(better) or 'neither'}."
    )
    if frozen is None:
        return words
    pair = [find(rows, Plan(REFERENCE), "macro_f1", labels=last) for rows in (tuned, frozen)]
    return words + (
        f" Class-balanced random has {pair[0]} with a fine-tuned backbone and {pair[1]} on frozen "
        "features."
    )


def duplication_table(rows: Rows) -> str:
    """Calibration after the last round: without duplication, counted twice, with a mirror image."""
    plans = {"as they are": Plan("activation"), "counted twice": study.WEIGHT,
             "with a mirror image": study.COPIES}  # fmt: skip
    lines = []
    for dataset, table in rows.items():
        last = study.last_labels(table)
        for words, plan in plans.items():
            lines.append(
                [
                    SETS[dataset], words,
                    *(cell(table, plan, metric, None, 3, labels=last)
                      for metric in ("overconfidence", "ece", "macro_f1")),
                    cell(table, plan, "overconfidence_difference", None, 3, True,
                         against="activation"),
                ]
            )  # fmt: skip
    header = ["", "new images", "overconfidence", "ECE", "macro F1", "change of overconfidence"]
    return markdown(header, lines)


def exclusion_table(rows: Rows) -> str:
    """Exclusion midway: mean recall of retained, excluded and all classes, with minus without."""
    names = {"retained": "retained classes", "excluded": "excluded classes",
             "macro": "all classes"}  # fmt: skip
    lines = [
        [
            SETS[dataset],
            *(cell(table, study.EXCLUDE, f"{name}_recall_difference", None, 3, True,
                   against="activation") for name in names),
        ]
        for dataset, table in rows.items()
    ]  # fmt: skip
    return markdown(["", *names.values()], lines)


def headline_table(rows: Rows) -> str:
    """What leaving classes out does to the headline: mean recall, and classes without an error."""
    entries: tuple[tuple[str, Plan, str], ...] = (
        ("no exclusion, all classes", Plan("activation"), "all"),
        ("no exclusion, only the retained classes are averaged", Plan("activation"), "retained"),
        ("exclusion, all classes", study.EXCLUDE, "all"),
        ("exclusion, only the retained classes are averaged", study.EXCLUDE, "retained"),
        ("exclusion, and the excluded classes leave model and test", study.EXCLUDE,
         "retained only"),
    )  # fmt: skip
    lines = []
    for words, plan, classes in entries:
        cells = []
        for table in rows.values():
            cells.append(cell(table, plan, "mean_recall", classes=classes))
            cells.append(cell(table, plan, "perfect_classes", None, 1, classes=classes))
        lines.append([words, *cells])
    header = [""]
    for dataset in rows:
        header += [f"{SETS[dataset]}: mean recall", "classes without an error"]
    return markdown(header, lines)


def leaking_text(rows: Rows) -> str:
    """Macro F1 on the test beside that on the rest of the pool, for random labels."""
    lines = []
    for dataset, table in rows.items():
        last = study.last_labels(table)
        test, rest = (
            find(table, Plan("random"), metric, labels=last)
            for metric in ("macro_f1", "macro_f1_in_pool")
        )
        lines.append(f"- **{SETS[dataset]}**: {test} on the test, {rest} on the rest of the pool.")
    return "\n".join(lines)


def answer(rows: Rows) -> list[str]:
    """The page's first sentences, with the stored figures."""
    lines = []
    for dataset, table in rows.items():
        saved = savings(table)
        best, value = next(iter(saved.items()))
        lines.append(
            f"- **{SETS[dataset]}**: against class-balanced random, {METHODS[best].label} saves "
            f"{value.text(2, True)} of the labels, the activation score "
            f"{saved['activation'].text(2, True)}."
        )
    return lines or ["There are no reference results yet."]


def claims_text(rows: Rows, id: str, words: str) -> str:
    """A claim's verdict on every set that judges it, with the figures it rests on."""
    lines = [f"**{id}, {words}.**", ""]
    for dataset, one in study.ALL.items():
        if id not in {claim.id for claim in one.claims}:
            continue
        found = judge(one.claim(id), rows.get(dataset))
        figures = "; ".join(
            f"{name} {value.text(2, not math.isnan(value.low))}"
            for name, value in found.figures.items()
        )
        lines.append(f"- {SETS[dataset]}: **{found.verdict}**. {figures}")
    return "\n".join(lines)
