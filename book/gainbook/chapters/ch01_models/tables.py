"""The published figures of chapter 01, frozen as CSV files under `tables/`, and how they were made.

Each file begins with comment lines (`#`) that name its sources. `python -m
gainbook.chapters.ch01_models.tables FOLDER` makes `timm_models.csv` again from a folder with timm's
result files.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "tables"
LARGEST = 100.0
"""The rule's limit of size, in million parameters."""
SMALLEST_SIDE = 512
"""The rule's smallest image side, in pixels."""
FIGURES = ("paper", "rerun")
"""The two figures of a detector: of its authors, and of a library's run of it."""

ACCURACY = "results-imagenet.csv"
CPU = "benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv"
GPU = "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv"
TRAINING = "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"
COMMITS = {CPU: "7479d451", GPU: "5c33776a", TRAINING: "c865028c"}
"""Commits of timm's repository whose file has the same length; of the accuracies none is known."""
_OLD_ENDINGS = r"_(?:ns|ap|22kft1k|in22ft1k)$"
"""Of names in the training table, which is older than timm's names `architecture.weights`."""


@functools.cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / name, comment="#")


def seed_classifiers() -> pd.DataFrame:
    """The eight classifiers of the plan that this chapter tests.

    Columns: `name`, `accuracy` (ImageNet top-1, %), `cost` (million parameters), `architecture` and
    `image_size` of timm's nearest model, and its `gmacs` and published milliseconds per image as in
    `timm_models`, NaN where timm has none.
    """
    given = _read("seed_classifiers.csv")
    times = timm_models().drop_duplicates(["architecture", "image_size"])
    keep = ["architecture", "image_size", "gmacs", "cpu_ms", "gpu_ms", "train_ms"]
    return given.merge(times[keep], how="left", on=["architecture", "image_size"])


def timm_models() -> pd.DataFrame:
    """timm's models with published weights: one row per weights and image size.

    Columns: `name`, `architecture`, `image_size` (pixels), `accuracy` (ImageNet top-1, %), `cost`
    (million parameters), `gmacs` (10⁹ multiply-adds), `macts` (10⁶ activations), and milliseconds
    per image `cpu_ms` (alone), `gpu_ms` and `train_ms` (in a batch); NaN where it was not measured.
    """
    table = _read("timm_models.csv")
    return table.assign(architecture=table["name"].str.split(".").str[0])


def detectors(figures: str = "paper") -> pd.DataFrame:
    """Anomaly detectors on MVTec AD that have such figures and a known number of parameters.

    Columns: `name`, `accuracy` (image AUROC, %; `figures` selects whose), `cost` (million
    parameters that a prediction uses), `full` (million parameters of the whole backbone and the
    rest), `usable` (takes images of 512 pixels), `subject` (the network that is timed here), and
    the sources.

    Raises:
        ValueError: figures that are not among `FIGURES`.
    """
    if figures not in FIGURES:
        raise ValueError(f"figures: expected one of {', '.join(FIGURES)}, got {figures!r}")
    table = _read("detectors.csv")
    table = table.assign(accuracy=table[figures], usable=table["usable"] == "yes")
    return table.dropna(subset=["accuracy", "cost"]).reset_index(drop=True)


def within_limits(table: pd.DataFrame) -> pd.DataFrame:
    """The candidates of at most `LARGEST` million parameters."""
    return table[table["cost"] <= LARGEST].reset_index(drop=True)


def at_cost(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """`table` with another column as its cost, without the rows that lack it."""
    return table.assign(cost=table[column]).dropna(subset=["cost"]).reset_index(drop=True)


def reduce_timm(folder: str | Path) -> pd.DataFrame:
    """The table of `timm_models` from timm's result files.

    The times are those of the same architecture at the same image size. Models without a time of a
    prediction are left out.
    """
    folder = Path(folder)
    table = pd.read_csv(folder / ACCURACY, thousands=",")
    table["architecture"] = table["model"].str.split(".").str[0]
    table = table.rename(
        columns={"model": "name", "img_size": "image_size", "top1": "accuracy",
                 "param_count": "cost"}
    )  # fmt: skip
    about = {"infer_img_size": "image_size", "infer_gmacs": "gmacs", "infer_macts": "macts"}
    for file, name in ((CPU, "cpu_ms"), (GPU, "gpu_ms")):
        times = pd.read_csv(folder / file).rename(columns={"model": "architecture", **about})
        times[name] = times["infer_step_time"] / times["infer_batch_size"]
        # Both files have the same operations; the first one's are kept.
        keep = ["architecture", "image_size", name] + (["gmacs", "macts"] if file == CPU else [])
        table = table.merge(times[keep], how="left", on=["architecture", "image_size"])
    steps = pd.read_csv(folder / TRAINING).rename(columns={"train_img_size": "image_size"})
    steps["architecture"] = steps["model"].str.replace(_OLD_ENDINGS, "", regex=True)
    steps["train_ms"] = steps["train_step_time"] / steps["train_batch_size"]
    steps = steps.drop_duplicates(["architecture", "image_size"])
    keep = ["architecture", "image_size", "train_ms"]
    table = table.merge(steps[keep], how="left", on=["architecture", "image_size"])
    columns = ["name", "image_size", "accuracy", "cost", "gmacs", "macts", "cpu_ms", "gpu_ms",
               "train_ms"]  # fmt: skip
    table = table.dropna(subset=["cpu_ms", "gpu_ms"], how="all")[columns]
    return table.round({"cpu_ms": 2, "gpu_ms": 3, "train_ms": 3}).reset_index(drop=True)


def write_timm(folder: str | Path, path: str | Path) -> None:
    """Write `reduce_timm` with its sources as comment lines."""
    lines = [
        "# Made from the result files of timm, PyTorch Image Models, by Ross Wightman and",
        "# contributors, Apache License 2.0, https://github.com/huggingface/pytorch-image-models,",
        "# folder results: columns selected, joined by architecture and image size, times per",
        "# image, rounded. Files, commit of a file of the same length, start of the SHA-256:",
    ]
    for name in (ACCURACY, CPU, GPU, TRAINING):
        digest = hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()
        lines.append(f"# {name}, {COMMITS.get(name, 'unknown')}, {digest[:16]}")
    text = reduce_timm(folder).to_csv(index=False, lineterminator="\n")
    Path(path).write_text("\n".join(lines) + "\n" + text, encoding="utf-8")


if __name__ == "__main__":
    write_timm(sys.argv[1], FOLDER / "timm_models.csv")
