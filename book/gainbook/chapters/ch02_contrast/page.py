"""Tables, sentences and frames of chapter 02's page, from result rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters.ch02_contrast.criteria import TAUGHT
from gainbook.chapters.ch02_contrast.crossing import (
    BANK,
    DISTILLATION,
    EQUAL,
    EVERY,
    HYBRID,
    PROBE,
    RATE,
    TUNED,
    Arm,
    cost_ratio,
    counts_of_rows,
    crossing,
    paired,
)
from gainbook.chapters.ch02_contrast.decision import COUNTS, SHARES, expected
from gainbook.chapters.ch02_contrast.draws import BOARDS, TILES
from gainbook.chapters.ch02_contrast.figures import FALSE_ALARMS
from gainbook.chapters.ch02_contrast.frozen import CONTAMINATION, SIZES
from gainbook.chapters.ch02_contrast.labels import LABEL_TIMES, labelling_minutes
from gainbook.lab.catalogue import S5
from gainbook.lab.judge import NOT_RUN, RATE_MARGIN
from gainbook.lab.study import Results
from gainbook.lab.systems import AnySystem
from gainbook.lab.tables import Value, cell, find, find_or_nan, markdown, short

Rows = Mapping[str, pd.DataFrame]
"""By data set, the rows of the study with frozen features and of the fine-tuned classifiers."""
SETS = {BOARDS: "circuit boards", TILES: "magnetic tiles"}
CLASSIFIERS: tuple[AnySystem, ...] = (PROBE, *TUNED)
PLACES = (0, 1, 2, 5, 10, 25, 40, 100, 400)
"""Numbers of defective training parts of both sets."""
CELL = 8
"""Pixels of a cell of the finest level that the probe's features are from."""


def _run(text: str) -> str:
    """A dash in a table, in words: this was not run."""
    return NOT_RUN if text == "–" else text


def count_points(rows: Rows, metric: str = EQUAL) -> Iterator[tuple[str, AnySystem, int, Value]]:
    """Data set, system, number of defective parts and figure of everything that was run.

    Number by number, so that drawn lines keep the order of the systems; at 0 a system that needs
    defective parts has NaN.
    """
    ran = {
        (dataset, system): counts_of_rows(table, system, metric)
        for dataset, table in rows.items()
        for system in EVERY
    }
    for count in PLACES:
        for (dataset, system), counts in ran.items():
            value = find_or_nan(rows[dataset], system, metric, defects=count)
            if counts and (not count or not math.isnan(value.value)):
                yield dataset, system, count, value


def count_table(rows: Rows, metric: str = EQUAL) -> pd.DataFrame:
    """The data of `plots.curves`: a figure by arm and number of defective training parts."""
    lines = [
        (SETS[dataset], system.label, str(count), *value[:3])
        for dataset, system, count, value in count_points(rows, metric)
    ]
    return pd.DataFrame(lines, columns=["panel", "series", "x", "value", "ci_low", "ci_high"])


def minute_table(rows: Rows) -> pd.DataFrame:
    """The same over the minutes of labelling; GAIN-MTL's time contains masks."""
    lines = []
    for dataset, system, count, value in count_points(rows):
        is_free = system in (BANK, DISTILLATION)
        if is_free and count:
            continue
        minutes = labelling_minutes(count, "mask" if system == S5 else None)
        ends = [minutes] if not is_free else [minutes, labelling_minutes(max(PLACES[:-1]))]
        for end in ends:
            lines.append((SETS[dataset], system.label, end, *value[:3]))
    return pd.DataFrame(lines, columns=["panel", "series", "x", "value", "ci_low", "ci_high"])


def crossing_table(rows: Rows) -> str:
    """How many defective parts each classifier needs to reach each detector, per set."""
    lines = []
    for dataset, table in rows.items():
        for classifier in CLASSIFIERS:
            texts = []
            for detector in (BANK, DISTILLATION):
                for metric in (EQUAL, "auroc"):
                    try:
                        texts.append(crossing(table, classifier, detector, metric).text())
                    except LookupError:
                        texts.append(NOT_RUN)
            if set(texts) != {NOT_RUN}:
                lines.append([SETS[dataset], classifier.label, *texts])
    names = [f"{one.label}, {m}" for one in (BANK, DISTILLATION) for m in ("recall", "AUROC")]
    return markdown(["", "classifier", *names], lines)


def type_table(rows: Rows, count: int = TAUGHT) -> str:
    """Recall on the types of training and on the type left out, and their difference."""
    lines = []
    for dataset, table in rows.items():
        for arm in EVERY:
            about: dict[str, Any] = {"defects": count}
            seen, unseen = (cell(table, arm, EQUAL, types=t, **about) for t in ("seen", "unseen"))
            if seen == "–":
                continue
            gap = paired(table, arm, arm, EQUAL, {"types": "unseen", **about},
                         {"types": "seen", **about})  # fmt: skip
            lines.append([SETS[dataset], arm.label, seen, unseen, gap.text(2, True)])
    return markdown(["", "arm", "types of training", "type left out", "difference"], lines)


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """The types that were left out."""
    return sorted({str(c["left_out"]) for c in map(dict, rows["condition"]) if "left_out" in c})


def each_type(rows: pd.DataFrame) -> pd.DataFrame:
    """The data of `plots.intervals`: recall on each type when it was left out of training."""
    lines = [
        (short(kind).replace("_", " "), arm.label, *value[:3])
        for kind in kinds_of(rows)
        for arm in EVERY
        for value in [find_or_nan(rows, arm, EQUAL, defects=TAUGHT, left_out=kind, types="unseen")]
        if value.n
    ]
    return pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])


def each_type_words(rows: pd.DataFrame, title: str) -> str:
    """Alternative text of the picture of `each_type`: the lowest and highest figure of each arm."""
    ends = each_type(rows).groupby("series", sort=False)["value"].agg(["min", "max"])
    texts = [f"{arm} {low:.2f} to {high:.2f}" for arm, low, high in ends.dropna().itertuples()]
    return f"{title}, by arm: {'; '.join(texts)}."


def _pair_of_figures(rows: pd.DataFrame, arm: Arm, **about: Any) -> str:
    recall, alarms = (find_or_nan(rows, arm, m, **about) for m in ("recall", "false_alarms"))
    return NOT_RUN if math.isnan(recall.value) else f"{recall} at {alarms.value:.2f}"


def contamination_table(rows: Rows) -> str:
    """Recall at the false alarms on test normals, by share of defective training normals."""
    lines = [
        [
            SETS[dataset], arm.label,
            *(_pair_of_figures(table, arm, contamination=part, defects=TAUGHT)
              for part in (0.0, *CONTAMINATION)),
        ]
        for dataset, table in rows.items()
        for arm in (PROBE, BANK, HYBRID)
    ]  # fmt: skip
    return markdown(["", "arm", *(f"{part:.0%}" for part in (0.0, *CONTAMINATION))], lines)


def look_table(rows: Rows) -> str:
    """Recall and false alarms on looks of training and on others."""
    words = {BOARDS: "board designs", TILES: "exposures"}
    lines = []
    for dataset, table in rows.items():
        for arm in (PROBE, BANK, HYBRID):
            about: dict[str, Any] = {"defects": TAUGHT}
            texts = [
                _run(cell(table, arm, metric, look=look, **about))
                for metric in ("auroc", "recall", "false_alarms")
                for look in ("same", "other")
            ]
            lines.append([words[dataset], arm.label, *texts])
    header = [f"{m}, {look}" for m in ("AUROC", "recall", "false alarms")
              for look in ("same", "other")]  # fmt: skip
    return markdown(["", "arm", *header], lines)


def sides_of(rows: pd.DataFrame) -> list[int]:
    """The picture sides that were run."""
    return sorted({int(c["side"]) for c in map(dict, rows["condition"]) if "side" in c})


def side_table(rows: Rows) -> str:
    """AUROC by the side of the picture."""
    sides = sorted({side for table in rows.values() for side in sides_of(table)})
    lines = [
        [SETS[dataset], arm.label, *(_run(cell(table, arm, "auroc", side=n)) for n in sides)]
        for dataset, table in rows.items()
        for arm in (PROBE, BANK)
    ]
    return markdown(["AUROC", "arm", *(f"{side} px" for side in sides)], lines)


def pixel_table(rows: Rows) -> pd.DataFrame:
    """The data of `plots.curves`: recall over the mean pixels of a defect's side."""
    lines = []
    for dataset, table in rows.items():
        for arm in (PROBE, BANK):
            for side in sides_of(table):
                for size in SIZES:
                    about: dict[str, Any] = {"side": side, "size": size}
                    pixels = find_or_nan(table, arm, "pixels", **about).value
                    recall = find_or_nan(table, arm, EQUAL, **about)
                    name = f"{arm.label}, {size}"
                    lines.append((SETS[dataset], name, pixels, *recall[:3]))
    return pd.DataFrame(lines, columns=["panel", "series", "x", "value", "ci_low", "ci_high"])


class Doubling(NamedTuple):
    """What reading the same picture at twice the side changes, for defects of one size."""

    dataset: str
    size: str
    before: float
    """Mean pixels of a defect's side at the smaller picture."""
    after: float
    gains: dict[Arm, Value]
    """Recall at twice the side minus recall before, draw by draw."""


def doublings(rows: Rows) -> list[Doubling]:
    """Every step from one picture side to twice that side, fewest pixels first."""
    found = []
    for dataset, table in rows.items():
        sides = sides_of(table)
        for side, size in itertools.product(sides, SIZES):
            if 2 * side not in sides:
                continue
            small: dict[str, Any] = {"side": side, "size": size}
            large = {**small, "side": 2 * side}
            before, after = (find(table, PROBE, "pixels", **s).value for s in (small, large))
            gains = {arm: paired(table, arm, arm, EQUAL, large, small) for arm in (PROBE, BANK)}
            found.append(Doubling(dataset, size, before, after, gains))
    return sorted(found, key=lambda one: one.before)


def doubling_table(rows: Rows) -> str:
    """The gain in recall by doubling the picture's side, by the pixels of a defect before."""
    lines = [
        [
            f"{one.before:.0f} to {one.after:.0f}", SETS[one.dataset], one.size,
            *(gain.text(2, True) for gain in one.gains.values()),
        ]
        for one in doublings(rows)
    ]  # fmt: skip
    return markdown(["pixels of a side", "", "defects", PROBE.label, BANK.label], lines)


def rule_text(rows: Rows) -> str:
    """The rule of thumb: what a doubling gives the probe below one cell of features, and above."""
    gains: dict[bool, list[float]] = {True: [], False: []}
    for one in doublings(rows):
        gains[one.before < CELL].append(one.gains[PROBE].value)
    parts = []
    for is_small, words in ((True, f"below {CELL} pixels a side"), (False, "from there on")):
        values = gains[is_small]
        if values:
            useful = sum(value >= RATE_MARGIN for value in values)
            parts.append(
                f"{words}, {useful} of {len(values)} doublings raise the probe's recall by "
                f"{RATE_MARGIN} or more, **{sum(values) / len(values):+.2f}** on average"
            )
    return f"One cell of the finest features used is {CELL} pixels wide: {'; '.join(parts)}."


def label_table() -> str:
    """Seconds a label and its source, and minutes for 25 defective parts."""
    lines = []
    for name, one in LABEL_TIMES.items():
        drawn = None if name == "image label" else name
        lines.append(
            [name, f"{one.seconds:.0f}", one.source, f"{labelling_minutes(TAUGHT, drawn):.0f}"]
        )
    header = ["label", "seconds", "source", f"minutes for {TAUGHT} defective parts"]
    return markdown(header, lines, is_text=True)


def cost_text(rows: Rows) -> str:
    """How much labelling the probe needs to reach the bank, over what the bank needs."""
    lines = []
    for dataset, table in rows.items():
        for rate in (RATE, 0.05):
            ratio = cost_ratio(crossing(table, PROBE, BANK), rate)
            ends = ["never" if math.isinf(x) else f"{x:.1f}" for x in ratio[:3]]
            lines.append(
                f"- **{SETS[dataset]}**, {rate:.0%} defective: {ends[0]} times the detector's "
                f"labelling [{ends[1]}, {ends[2]}]."
            )
    return "\n".join(lines)


SITUATIONS: tuple[tuple[str, int, float], ...] = (
    ("1 defective part, known types", 1, 0.0),
    ("5 defective parts, known types", 5, 0.0),
    ("10 defective parts, known types", 10, 0.0),
    ("25 defective parts, known types", 25, 0.0),
    ("5 defective parts, half of the defects new", 5, 0.5),
    ("10 defective parts, half of the defects new", 10, 0.5),
    ("25 defective parts, half of the defects new", 25, 0.5),
    ("25 defective parts, only new defects", 25, 1.0),
)
"""Words, number of defective training parts and share of defects of types left out of training."""


def decision_table(rows: Rows) -> str:
    """The arm to expect ahead in each situation, with its recall; bold where clearly ahead."""
    lines = [["no defective part", *(_alone(table) for table in rows.values())]]
    for words, count, unseen in SITUATIONS:
        lines.append([words, *(expected(table, count, unseen).text() for table in rows.values())])
    return markdown(["you have, and expect", *(SETS[d] for d in rows)], lines, is_text=True)


def _alone(rows: pd.DataFrame) -> str:
    """The better detector without any defective part."""
    found = {d: find_or_nan(rows, d, EQUAL, defects=0) for d in (BANK, DISTILLATION)}
    known = {d: v for d, v in found.items() if not math.isnan(v.value)}
    best = max(known, key=lambda d: known[d].value)
    return f"{best.label} {known[best].text()}"


class DecisionFrame(NamedTuple):
    """A place of the menus: the data of `plots.intervals`, its title and a caption."""

    table: pd.DataFrame
    title: str
    caption: str


def decision_frames(rows: Rows) -> dict[tuple[str, ...], DecisionFrame]:
    """Expected recall by arm, for each number of defective parts and share of new types."""
    frames: dict[tuple[str, ...], DecisionFrame] = {}
    for count, unseen in itertools.product(COUNTS if rows else (), SHARES):
        found = {dataset: expected(table, count, unseen) for dataset, table in rows.items()}
        lines = [
            (arm.label, SETS[dataset], *one.recalls[arm][:3])
            for arm in EVERY
            for dataset, one in found.items()
            if arm in one.recalls
        ]
        table = pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])
        texts = [f"{SETS[d]}: {one.text().replace('**', '')}" for d, one in found.items()]
        title = f"{count} defective parts, {unseen:.0%} of the defects new"
        frames[str(count), f"{unseen:.0%}"] = DecisionFrame(table, title, "; ".join(texts) + ".")
    return frames


def rows_by_set(results: Mapping[str, Results]) -> dict[str, pd.DataFrame]:
    """`Rows` from the studies' stored results; sets without any are left out."""
    found = {
        dataset: own.rows
        for name, dataset in (("02_boards", BOARDS), ("02_tiles", TILES))
        if (own := results[name]).rows is not None
    }
    names = [system.name for system in TUNED]  # the other rows of their studies are copies
    for name, more in results.items():
        if name.startswith("02_fine_tuned") and more.rows is not None:
            tuned = more.rows[more.rows["system"].isin(names)]
            dataset = tuned["dataset"].iloc[0]
            if dataset in found:
                found[dataset] = pd.concat([found[dataset], tuned], ignore_index=True)
    return found


def answer(rows: Rows) -> list[str]:
    """The page's first figures."""
    lines = []
    for dataset, table in rows.items():
        alone = {one: find_or_nan(table, one, EQUAL, defects=0) for one in (BANK, DISTILLATION)}
        found = crossing(table, PROBE, BANK)
        about: dict[str, Any] = {"defects": TAUGHT, "types": "unseen"}
        new = {one: find_or_nan(table, one, EQUAL, **about) for one in EVERY}
        without, on_new = (
            ", ".join(f"{one.label} {value.text()}" for one, value in values.items() if value.n)
            for values in (alone, new)
        )
        lines.append(
            f"- **{SETS[dataset].capitalize()}**: without any defective part, recall at "
            f"{FALSE_ALARMS:.0%} false alarms is {without}. A linear probe reaches the bank "
            f"with **{found.text()}** defective parts. On a type left out of training, with "
            f"{TAUGHT} defective parts of other types: {on_new}."
        )
    return lines or ["There are no stored results yet."]


def tuned_lead(rows: Rows) -> str:
    """Recall of the fine-tuned classifiers by number of defective parts, a sentence per set."""
    sentences = []
    for dataset, table in rows.items():
        counts = counts_of_rows(table, S5)
        plain, s5 = (
            ", ".join(find_or_nan(table, one, EQUAL, defects=n).text() for n in counts)
            for one in TUNED
        )
        if counts:
            numbers = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
            sentences.append(
                f"On the {SETS[dataset]}, fine-tuned with {numbers} defective parts, S5 has {s5} "
                f"and the textbook classifier {plain}."
            )
    return " ".join(sentences)


def opening(rows: pd.DataFrame) -> str:
    """S5 beside the better detector on a type left out of training, for the first page."""
    about: dict[str, Any] = {"defects": TAUGHT, "types": "unseen"}
    recalls = {arm: find(rows, arm, EQUAL, **about) for arm in (BANK, DISTILLATION)}
    detector = max(recalls, key=lambda arm: recalls[arm].value)
    gap = paired(rows, S5, detector, EQUAL, about)
    return (
        f"New types of defects are a reason to prefer an anomaly detector. On these boards, S5 was "
        f"trained with {TAUGHT} defective tiles and their masks, without one of six types. It "
        f"finds {find(rows, S5, EQUAL, **about).text()} of the tiles of that type at "
        f"{FALSE_ALARMS:.0%} false alarms. The better of two detectors, {detector.label}, finds "
        f"{recalls[detector].text()}: difference {gap.text(2, True)}. More in "
        "[](../notebooks/02_classifier_or_detector.ipynb)."
    )
