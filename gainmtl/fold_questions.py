"""Put a question to the models of every fold, about parts that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from gainmtl.model import GAINMTL
from gainmtl.parameters import Parameters
from gainmtl.persistence import load
from gainmtl.protocol import Pooled
from gainmtl.reference import load_fold

Question = Callable[[Mapping[str, GAINMTL], Any], dict[str, pd.DataFrame]]
"""Models by name and the parts they are asked about, to one table per model with the columns
`name` and `group`."""


def ask_folds(
    parameters: Parameters, pooled: Mapping[str, Sequence[Pooled]], question: Question
) -> dict[str, pd.DataFrame]:
    """The answers of every fold's models about that fold's test parts, all folds and seeds in one.

    `pooled` by system, one per seed, as `findings.results` gives them. With several seeds a part
    stands there once for each, under one group.
    """
    p = parameters
    parts: dict[str, list[pd.DataFrame]] = {}
    for place, seed in enumerate(p.seeds):
        data_of = load_fold(p, seed)
        for fold in range(p.folds):
            models = {name: load(runs[place].model_paths[fold]) for name, runs in pooled.items()}
            for name, answers in question(models, data_of(fold).test).items():
                if len(p.seeds) > 1:
                    answers["name"] += f", seed {seed}"
                parts.setdefault(name, []).append(answers)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
