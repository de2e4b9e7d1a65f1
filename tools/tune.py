"""Try recipes on the training part of one fold, the same number of trials for each system.

python tools/tune.py --data-root <folder of magnetic-tile> --weights <weights file>
python tools/tune.py --set six --output runs/tuning-six --data-root … --weights …

The fold's test images are not used. Its training and validation images are folded again by group,
and each inner fold is predicted by a model that was not trained on its groups. Each trial writes
one JSON file under `--output` and is not run again while the file exists. `trials.json` contains
all of them; the book shows a copy, `book/results/tuning.json`, and for the six approaches
`book/results/tuning_six.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from gainbook.chapters.ch11_approaches import approaches
from gainbook.lab import run_system
from gainbook.lab.catalogue import S1_COARSE, S1_FINE, S5
from gainbook.lab.comparison import pooled_rows
from gainbook.lab.protocol import REFERENCE, cross_validate
from gainbook.lab.systems import System

from gainmtl import datasets
from gainmtl.datasets.subsets import inner_fold
from gainmtl.files import plain, read_json, write_json
from gainmtl.interface import DefectModel

STANDARD = {"augmentation": "standard", "weight_decay": 1e-2}
TRIALS: dict[str, dict[str, Any]] = {
    "reference": {},
    "medium": {"augmentation": "medium"},
    "less-decay": {"weight_decay": 1e-2},
    "standard": STANDARD,
    "standard-slow": {**STANDARD, "batch_size": 16, "learning_rate": 1.5e-3},
    "standard-fast": {**STANDARD, "learning_rate": 8e-3, "backbone_rate": 0.1},
}
"""Changes of the recipe, the same for every system."""
SETS: dict[str, tuple[tuple[System, ...], dict[str, dict[str, Any]]]] = {
    "reference": ((S5, S1_FINE, S1_COARSE), TRIALS),
    "six": (approaches.ALL, approaches.RATES),
}
"""Systems and their trials, by the name in `--set`."""
SHOWN = ("auroc", "recall_at_fpr05", "iou", "point_game", "energy_inside")


def trial(
    system: System, name: str, change: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Train and score the inner folds with a changed recipe; the pooled figures."""
    folder = Path(args.output) / system.tag / name
    settings = {
        "system": system.tag, "trial": name, "change": change, "fold": args.fold,
        "inner_folds": args.inner_folds, "run_folds": args.run_folds,
        "image_size": args.image_size, "epochs": args.epochs,
    }  # fmt: skip
    if (folder / "trial.json").is_file():
        stored = dict(read_json(folder / "trial.json"))
        found = {key: stored.get(key) for key in settings}
        if found != plain(settings):
            raise ValueError(
                f"{folder}: expected a trial with {settings}, found {found}; use another --output"
            )
        return stored

    def build() -> DefectModel:
        return run_system.build(system, args.backbone, args.weights)

    outer = datasets.load(
        "magnetic-tile", args.data_root, image_size=args.image_size, fold=args.fold
    )
    pooled = cross_validate(
        build,
        lambda inner: inner_fold(outer, inner, args.inner_folds, seed=0),
        folder,
        folds=args.run_folds,
        accelerator=args.accelerator,
        progress=False,
        **{**REFERENCE, "epochs": args.epochs, **change},
    )
    rows = pooled_rows(pooled, "magnetic-tile", 0, resamples=500)
    whole = rows[rows["fold"].isna() & (rows["condition"] == {})]
    figures = {
        f"{row['map']}.{row['metric']}" if isinstance(row["map"], str) else row["metric"]: [
            row["value"], row["ci_low"], row["ci_high"],
        ]
        for _, row in whole.iterrows()
    }  # fmt: skip
    epochs = pooled.histories.groupby("epoch")["auroc"].mean().tolist()
    result = {
        **settings,
        "images": len(pooled.scores.images),
        "groups": int(pooled.scores.images["group"].nunique()),
        "seconds": pooled.seconds,
        "commits": list(pooled.commits),
        "figures": figures,
        "auroc_by_epoch": epochs,
    }
    write_json(folder / "trial.json", result)
    return result


def main() -> None:
    """Run the trials of the command line, print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", required=True, help="imagenet, package, or a file")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--output", default="runs/tuning")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=REFERENCE["epochs"])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--inner-folds", type=int, default=3)
    parser.add_argument("--run-folds", type=int, default=1, help="inner folds that are run")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--set", choices=SETS, default="reference", help="systems and trials")
    parser.add_argument("--systems", nargs="+", help="default: all of the set")
    parser.add_argument("--trials", nargs="+", help="default: all")
    args = parser.parse_args()
    systems, trials = SETS[args.set]
    for system in systems:
        if args.systems and system.tag not in args.systems:
            continue
        for name, change in trials.items():
            if args.trials and name not in args.trials:
                continue
            result = trial(system, name, change, args)
            by_epoch = np.round(result["auroc_by_epoch"], 3).tolist()
            shown = [
                f"{key} {value[0]:.3f}"
                for key, value in result["figures"].items()
                if key.split(".")[-1] in SHOWN
            ]
            done = sorted(Path(args.output).glob("*/*/trial.json"))
            write_json(Path(args.output) / "trials.json", [read_json(path) for path in done])
            print(system.tag, name, f"{result['seconds']:.0f} s", *shown, by_epoch, flush=True)


if __name__ == "__main__":
    main()
