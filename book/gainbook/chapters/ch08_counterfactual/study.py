"""Chapter 08, counterfactual: do verdicts fall with the defect, and what does the term add?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from gainbook.chapters.ch08_counterfactual import twins
from gainbook.lab.catalogue import S1_FINE, S5, S5_WITHOUT_TERM
from gainbook.lab.criteria import counterfactual_term
from gainbook.lab.flips import flip_measures, score_flips
from gainbook.lab.folds import Question
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.study import Claim, Headline, Study

NOTEBOOK = "08_counterfactual"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
TRAINED = (S1_FINE, S5)
SYSTEMS = (S1_FINE, S5_WITHOUT_TERM, S5)
"""`S5_WITHOUT_TERM` is trained on real parts only with `-p without_term true`."""
PAIRS = ((S5, S1_FINE), (S5, S5_WITHOUT_TERM))


def _kept(rows: pd.DataFrame) -> pd.Series:
    """The pooled AUROC, its paired difference and the recall, over all types."""
    whole = ~rows["condition"].map(lambda condition: "defect_type" in condition)
    return (
        rows["metric"].isin(("auroc", "recall", "auroc_difference")) & rows["fold"].isna() & whole
    )


STUDY = Study(
    name=NOTEBOOK,
    notebook=NOTEBOOK,
    title="Counterfactual",
    systems=TRAINED,
    pairs=PAIRS,
    questions=(Question(score_flips, flip_measures(types="each")),),
    keep=_kept,
    fuller=("-p without_term true", "S5 without the term"),
    headline=Headline(
        {
            "AUROC": ("auroc", None, {}),
            "selectivity at the features": ("selectivity", None, {"level": "features"}),
            "selectivity on the image": ("selectivity", None, {"level": "image"}),
        }
    ),
    claims=(Claim("A10", counterfactual_term(S5, S5_WITHOUT_TERM)),),
)
STUDIES = (STUDY, twins.STUDY)
