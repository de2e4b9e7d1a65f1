"""The true twin of a defective part: the same place of the same design, without the defect.

Interventions change an image or its features where the defect is. The twin is what they imitate, so
it measures how far a verdict rests on the defect, and how far each intervention agrees with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.lab import tables
from gainbook.lab.catalogue import S1_COARSE, S5, TEXTBOOK
from gainbook.lab.comparison import with_seed
from gainbook.lab.flips import twin_is_normal
from gainbook.lab.measures import Measure, measure_rows, paired_rows
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.study import Headline, Study
from gainbook.lab.systems import System
from gainbook.lab.tables import Column
from gainmtl.evaluation.interventions import marked_batches, score_interventions
from gainmtl.model import GAINMTL

TWIN, FILL, FEATURES = "twin", "fill", "features"
"""What takes the defect away: the twin, the filled region of the image, the replaced features."""
COLUMNS = {FILL: "flip.image.removed", FEATURES: "flip.features.removed"}
MEASURES = (
    Measure("flip_rate", TWIN, condition={"by": TWIN}, types="each"),
    *(Measure("flip_rate", by, condition={"by": by}, types="each") for by in COLUMNS),
    *(Measure("agreement", f"agree.{by}", condition={"by": by}, types="each") for by in COLUMNS),
)
"""`flip_rate`: of the parts that are called defective, the share that becomes normal. `agreement`:
of these, the share on which the intervention and the twin give the same verdict."""


def score_twins(model: GAINMTL, dataset: Any) -> pd.DataFrame:
    """One row per defective part with a mask and a twin.

    Columns `name, group, defect_type`, `twin`, `fill` and `features`: 1 if the verdict becomes
    normal, 0 if it stays, NaN if it was not defective; `agree.fill` and `agree.features`.

    Raises:
        ValueError: a part without a twin.
    """
    table = score_interventions({"": model}, dataset)[""]
    normal = twin_is_normal(model, marked_batches(dataset, 32))
    flagged = table["is_flagged"].to_numpy(bool)
    found = table[["name", "group", "defect_type"]].assign(twin=np.where(flagged, normal, np.nan))
    for by, column in COLUMNS.items():
        found[by] = table[column]
        found[f"agree.{by}"] = np.where(flagged, (found[by] == found[TWIN]).astype(float), np.nan)
    return found


def twin_rows(
    tables: Mapping[str, Sequence[pd.DataFrame]],
    systems: Mapping[str, System],
    seeds: Sequence[int],
    dataset: str,
) -> list[dict[str, Any]]:
    """Result rows of systems, each with a table per seed, and their differences from the textbook.

    Intervals are over parts, all seeds together. A difference is on the parts that both systems
    call defective.
    """
    whole = {
        name: pd.concat(
            [with_seed(*one) for one in zip(of_seeds, seeds, strict=True)], ignore_index=True
        )
        for name, of_seeds in tables.items()
    }
    rows: list[dict[str, Any]] = []
    for name, table in whole.items():
        rows += measure_rows(table, MEASURES, dataset, systems[name])
        if name != TEXTBOOK.name and TEXTBOOK.name in whole:
            other = whole[TEXTBOOK.name]
            rows += paired_rows(table, other, MEASURES, dataset, systems[name], TEXTBOOK)
    return rows


RESULTS = "08_twins"
SHOWN = (TEXTBOOK, S1_COARSE, S5)
COLUMN_WORDS: dict[str, Column] = {
    "normal without the defect: the twin": ("flip_rate", None, {"by": TWIN}),
    "region filled": ("flip_rate", None, {"by": FILL}),
    "features replaced": ("flip_rate", None, {"by": FEATURES}),
    "fill agrees with the twin": ("agreement", None, {"by": FILL}),
    "features agree with the twin": ("agreement", None, {"by": FEATURES}),
}


def answer(file: ResultsFile) -> str:
    """Table and sentences of the page: what the twin decides, and how far fills agree with it."""
    rows = file.rows
    whole = tables.system_table(rows, SHOWN, COLUMN_WORDS)
    gaps = tables.pair_table(rows, [(S5, TEXTBOOK)], COLUMN_WORDS)

    def both(metric: str, by: str) -> str:
        found = [tables.find(rows, system, metric, by=by).text() for system in (TEXTBOOK, S5)]
        return f"{found[0]} for the textbook fine-tune and {found[1]} for S5"

    gap = tables.find(rows, S5, "flip_rate_difference", by=TWIN, **TEXTBOOK.as_other)
    level = "differ" if gap.low > 0 or gap.high < 0 else "are not shown to differ"
    words = (
        f"What to notice: with the true twin the two systems {level}, {gap.text(2, True)}. The "
        f"share that becomes normal after a fill is {both('flip_rate', FILL)}; fill and twin give "
        f"the same verdict on {both('agreement', FILL)}. So on boards a verdict that stays after a "
        "fill may still rest on the defect. Why the plain classifiers' verdicts stay was not "
        "studied. Replaced features give the verdict of the twin on "
        f"{both('agreement', FEATURES)}."
    )
    return f"{whole}\n\n{gaps}\n\n{words}"


STUDY = Study(
    name=RESULTS,
    notebook="08_counterfactual",
    title="True twins of board tiles",
    systems=SHOWN,
    made_by=(
        "python tools/training_matrix.py --data-root path/to/data --weights path/to/weights "
        "--data deep-pcb --backbones tf_efficientnet_lite0 --systems textbook S1 S5 --seeds 0 1 2 "
        f"--tiles 500 --test-tiles 2000 --epochs 8 --twins book/results/{RESULTS}.json"
    ),
    headline=Headline(COLUMN_WORDS, systems=SHOWN),
)
