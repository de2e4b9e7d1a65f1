"""The systems of the reference run and how they are run: one recipe for all, every chapter alike.

A system has a folder of its own, `output_dir/<tag>/seed<k>/fold<j>`, so that chapters share what is
already there: a fold trained for one chapter is read by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainmtl import datasets, runs
from gainmtl.datasets import Data
from gainmtl.evaluate import Scores
from gainmtl.model import GAINMTL
from gainmtl.parameters import Parameters
from gainmtl.protocol import REFERENCE, Pooled, cross_validate, pool, pooled_rows
from gainmtl.stats import bootstrap_interval

HELD_OUT_FOLDS = 5
"""With `folds=1` and no official split, one part of this many is held out."""


def find_weights(weights: str | None) -> str | None:
    """A relative path is looked for in the working directory, then in the checkout's root.

    So that a notebook finds the book's own weights wherever it was started.
    """
    if weights is None or Path(weights).exists():
        return weights
    inside = Path(__file__).resolve().parents[1] / weights
    return str(inside) if inside.is_file() else weights


class System(NamedTuple):
    """A strategy on an evidence grid."""

    tag: str
    """Its folder."""
    strategy: str
    output_stride: int
    label: str
    """For readers."""

    @property
    def condition(self) -> dict[str, Any]:
        """What its result rows carry."""
        return {"output_stride": self.output_stride}


WEIGHTS = "book/weights/test_efficientnet_synthetic.safetensors"
"""A small backbone that the project trained on synthetic parts; see `tools/make_checkpoint.py`."""
QUICK: dict[str, Any] = {
    "image_size": 96,
    "backbone": "test_efficientnet",
    "weights": WEIGHTS,
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
"""What the chapters' live parts run with unless they are told otherwise."""


def live(parameters: Parameters) -> Parameters:
    """The parameters of a chapter's live part, which is always about synthetic parts.

    With `dataset="synthetic"` they are the notebook's own; otherwise those belong to the data set
    that was asked for, and the live part runs as in the book.
    """
    if parameters.dataset == "synthetic":
        return parameters
    return Parameters(**{**vars(parameters), **QUICK, "dataset": "synthetic", "data_root": None})


S1_COARSE = System("S1-stride32", "S1", 32, "S1, stride 32")
S1_FINE = System("S1-stride4", "S1", 4, "S1, stride 4")
S5 = System("S5-stride4", "S5", 4, "S5, stride 4")


def load_fold(parameters: Parameters, seed: int) -> Callable[[int], Data]:
    """The data of a notebook's parameters, by fold."""
    p = parameters

    def load(fold: int) -> Data:
        return datasets.load(
            p.dataset,
            p.data_root,
            image_size=p.image_size,
            fold=fold,
            folds=p.folds if p.folds > 1 else HELD_OUT_FOLDS,
            split="folds" if p.folds > 1 and p.dataset != "synthetic" else "auto",
            seed=seed,
        )

    return load


def recipe(parameters: Parameters) -> dict[str, Any]:
    """`protocol.REFERENCE` with the notebook's epochs, batch size and learning rate."""
    p = parameters
    return {
        **REFERENCE,
        "epochs": p.epochs,
        "batch_size": p.batch_size,
        "learning_rate": p.learning_rate,
    }


def run(parameters: Parameters, system: System) -> list[Pooled]:
    """Run `system` by the reference protocol, one `Pooled` per seed; what is done is read."""
    p = parameters

    def build() -> GAINMTL:
        weights = find_weights(p.weights)
        return GAINMTL(p.backbone, system.strategy, weights, output_stride=system.output_stride)

    return [
        cross_validate(
            build,
            load_fold(p, seed),
            Path(p.output_dir) / system.tag / f"seed{seed}",
            folds=p.folds,
            seed=seed,
            condition=system.condition,
            accelerator=p.accelerator,
            devices=p.devices,
            precision=p.precision,
            **recipe(p),
        )
        for seed in p.seeds
    ]


def merge(pooled: Sequence[Pooled], seeds: Sequence[int]) -> Pooled:
    """The runs of several seeds as one: each image as often as there are seeds, its group kept.

    Intervals stay as wide as the number of groups makes them; more seeds only steady the figure.
    """
    if len(pooled) == 1:
        return pooled[0]
    parts = [
        run.scores._replace(
            images=run.scores.images.assign(name=run.scores.images["name"] + f", seed {seed}")
        )
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    return pooled[0]._replace(
        folds=parts,
        scores=pool(parts),
        histories=pd.concat(
            [run.histories.assign(seed=seed) for run, seed in zip(pooled, seeds, strict=True)]
        ),
        commits=tuple(dict.fromkeys(commit for run in pooled for commit in run.commits)),
        seconds=sum(run.seconds for run in pooled),
        model_paths=tuple(path for run in pooled for path in run.model_paths),
    )


def result_rows(
    pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str, resamples: int = 2000
) -> pd.DataFrame:
    """One set of rows per seed and fold, and one pooled over both with intervals over groups."""
    by_fold = [
        pooled_rows(run, dataset, seed, resamples=0)
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    whole = pooled_rows(merge(pooled, seeds), dataset, seeds[0], resamples)
    parts = [rows[rows["fold"].notna()] for rows in by_fold] + [whole[whole["fold"].isna()]]
    first = pooled[0]
    parts.append(
        wrong_reason(
            merge(pooled, seeds).scores,
            {"dataset": dataset, "split": "test", "system": first.system},
            first.condition,
            resamples,
        )
    )
    return pd.concat(parts, ignore_index=True)


def wrong_reason(
    scores: Scores, shared: dict[str, Any], condition: dict[str, Any], resamples: int = 2000
) -> pd.DataFrame:
    """Rows `wrong_reason`: of the defects found, the share whose map peaks beside the mask.

    `1 - mean(PointGame)` over defective images with a mask that are flagged: right answer, wrong
    reason. The oracle's row says in how many of the same images the grid leaves no choice.
    """
    images = scores.images
    found = images["is_flagged"].astype(bool) & images["is_defective"] & images["has_mask"]
    rows = []
    for source in ("cam", "defect_map", "oracle"):
        missed = 1 - images.loc[found, f"{source}.point_game"].to_numpy(float)
        groups = images.loc[found, "group"].to_numpy()
        keep = ~np.isnan(missed)
        if not keep.any():
            continue
        interval = bootstrap_interval(np.mean, groups[keep], missed[keep], resamples=resamples)
        rows.append(
            shared
            | {
                "condition": {**condition, **({"oracle": True} if source == "oracle" else {})},
                "map": "cam" if source == "oracle" else source,
                "seed": None,
                "fold": None,
                "metric": "wrong_reason",
                "value": interval.value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n": interval.n,
            }
        )
    return pd.DataFrame(rows)


class Results(NamedTuple):
    """What a chapter says about real parts, and where it has it from."""

    rows: pd.DataFrame | None
    """Result rows; `None` where nobody has run them yet."""
    note: str
    """One paragraph of Markdown: which run the figures are from, or how to make them."""
    pooled: dict[str, list[Pooled]]
    """By system tag, one per seed; empty where stored rows were read."""


def results(parameters: Parameters, systems: Sequence[System]) -> Results:
    """Run `systems` on the parameters' data set, or read what the book comes with.

    With `dataset="synthetic"` the committed reference results of this notebook are read.
    """
    p = parameters
    if p.dataset != "synthetic":
        pooled = {system.tag: run(p, system) for system in systems}
        rows = pd.concat(
            [result_rows(one, p.seeds, p.dataset) for one in pooled.values()], ignore_index=True
        )
        note = (
            f"The figures below come from **the run in front of you**: {p.dataset}, folds: "
            f"{p.folds}, seeds: {', '.join(map(str, p.seeds))}, {p.backbone}, {p.image_size} px, "
            f"{p.epochs} epochs."
        )
        return Results(rows, note, pooled)
    try:
        stored = runs.reference(p.notebook)
    except FileNotFoundError:
        note = "There are **no reference results yet**. This makes them:\n\n" + command(p.notebook)
        return Results(None, note, {})
    given, origin = stored.parameters, stored.provenance
    note = (
        f"The figures below come from **the reference run**, `book/results/{p.notebook}.json`: "
        f"{given['dataset']}, folds: {given['folds']}, seeds: {as_text(given['seeds'])}, "
        f"{given['backbone']}, {given['image_size']} px, {given['epochs']} epochs, trained at "
        f"commit {as_text(origin['trained_at_commits'])}. "
        "This repeats it:\n\n" + command(p.notebook)
    )
    return Results(stored.rows, note, {})


def as_text(value: Any) -> str:
    """A figure or name, or several separated by commas; commits shortened."""
    many = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(one)[:10] for one in many)


def command(notebook: str) -> str:
    """What makes the reference results of a chapter, in Markdown."""
    return (
        "```bash\n"
        f"papermill notebooks/{notebook}.ipynb out.ipynb -f notebooks/profiles/standard.yaml \\\n"
        "    -p data_root path/to/magnetic-tile -p output_dir runs/reference\n"
        f"cp runs/reference/results.json book/results/{notebook}.json\n"
        "```"
    )
