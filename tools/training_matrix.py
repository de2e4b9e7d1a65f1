"""Train every backbone with every strategy on every data set; no run may die or fall behind.

python tools/training_matrix.py --data-root <folder of magnetic-tile and deep-pcb> \
    --weights <folder with <backbone>.safetensors>

Each run is compared with the textbook fine-tune of the same backbone on the same test images: the
paired difference of the AUROC, with its 95 % interval over parts. A run is *behind* if the interval
lies below 0. Backbones without a weights file start from random weights. Finished runs are read, so
the command can be interrupted; `matrix.json` under `--output` contains the table, which is printed
at the end. `--jobs 2` trains two runs at a time, one thread each. `--results FILE` writes the rows
that the book keeps: of one data set and backbone, over all folds and seeds. `--twins FILE` writes
how the verdicts on its defective parts change with their true twins.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from gainbook.chapters.ch08_counterfactual.twins import score_twins, twin_rows
from gainbook.lab import comparison, run_system
from gainbook.lab.catalogue import TEXTBOOK
from gainbook.lab.comparison import compare
from gainbook.lab.processes import worker_pool
from gainbook.lab.protocol import REFERENCE, Pooled, cross_validate
from gainbook.lab.results_file import portable, provenance, row, write_results
from gainbook.lab.systems import System

from gainmtl import datasets, metrics
from gainmtl.files import atomic_path, write_json
from gainmtl.io import load
from gainmtl.strategies import STRATEGIES, get_strategy

BACKBONES = (
    "mobilenetv2_100", "tf_efficientnet_lite0", "tf_efficientnet_lite2", "resnet18",
    "convnext_atto", "tf_efficientnetv2_b0",
)  # fmt: skip


Rows = list[dict[str, Any]]
LEAVE_ONE_OUT = ("S5-no-mining", "S5-no-consistency", "S5-no-counterfactual")
"""S5 without one of the terms that begin late in its training; run only if `--systems` names it."""


class Setting(NamedTuple):
    """A data set with the sizes of its runs."""

    image_size: int
    batch_size: int
    epochs: int
    load: dict[str, Any]
    """Further arguments of `datasets.load`."""


# At least 200 steps each: in 60, supervised maps are still behind the textbook fine-tune.
SETTINGS = {
    "synthetic": Setting(96, 16, 20, {"train": 160, "val": 48, "test": 200}),
    "magnetic-tile": Setting(128, 8, 4, {}),
    "deep-pcb": Setting(128, 32, 20, {"defective": 200, "normal": 200, "test_tiles": 800}),
}
SYSTEMS = {
    "textbook": TEXTBOOK,
    **{
        name: System(name, name, 32 if get_strategy(name).is_plain else 4, name)
        for name in (*STRATEGIES, *LEAVE_ONE_OUT)
    },
}


class Cell(NamedTuple):
    """One run of the matrix."""

    data: str
    backbone: str
    system: str
    seed: int = 0


def setting_of(data: str, args: argparse.Namespace) -> Setting:
    """The sizes of a data set's runs, with those that were given."""
    setting = SETTINGS[data]
    return setting._replace(
        image_size=args.image_size or setting.image_size, epochs=args.epochs or setting.epochs
    )


def load_data(cell: Cell, args: argparse.Namespace, fold: int) -> datasets.Data:
    """The images of a cell."""
    setting = setting_of(cell.data, args)
    root = None if cell.data == "synthetic" else Path(args.data_root) / cell.data
    sizes = dict(setting.load)
    if cell.data == "deep-pcb":
        given = {"defective": args.tiles, "normal": args.tiles, "test_tiles": args.test_tiles}
        sizes |= {name: size for name, size in given.items() if size}
    return datasets.load(cell.data, root, setting.image_size, fold=fold, seed=cell.seed, **sizes)


def run(cell: Cell, args: argparse.Namespace) -> Pooled:
    """Train and score one cell; a finished one is read."""
    setting, system = setting_of(cell.data, args), SYSTEMS[cell.system]
    file = Path(args.weights) / f"{cell.backbone}.safetensors"
    weights = str(file) if file.is_file() else None
    recipe = {
        **REFERENCE,
        "freeze_stride": REFERENCE["freeze_stride"] if weights else 0,  # random layers must learn
        **dict(system.changes),
        "epochs": setting.epochs,
        "batch_size": setting.batch_size,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pooled = cross_validate(
            lambda: run_system.build(system, cell.backbone, weights),
            functools.partial(load_data, cell, args),
            Path(args.output).joinpath(*map(str, cell)),
            folds=args.folds,
            seed=cell.seed,
            accelerator="cpu",
            progress=False,
            **recipe,
        )
    for one in caught:
        if "starts again" in str(one.message):
            print(*cell, one.message, flush=True)
    return pooled._replace(condition=system.condition)


def _work(cell: Cell, args: argparse.Namespace) -> Cell:
    run(cell, args)
    return cell


def table(cells: list[Cell], read: Callable[[Cell], Pooled]) -> pd.DataFrame:
    """A row per cell: its AUROC, and its paired difference from the textbook fine-tune."""
    rows = []
    for cell in cells:
        pooled = read(cell)
        images, history = pooled.scores.images, pooled.histories
        row: dict[str, Any] = {
            **cell._asdict(),
            "auroc": metrics.auroc(images["defect_probability"], images["is_defective"]),
            "dead_channels": history.groupby("fold")["dead_channels"].last().max(),
            "validation": [round(v, 3) for v in history.groupby("epoch")["auroc"].mean()],
            "seconds": pooled.seconds,
        }
        if cell.system != "textbook":
            pairs = compare(pooled, read(cell._replace(system="textbook")), cell.data, 1000)
            found = pairs[pairs["metric"] == "auroc_difference"].iloc[0]
            row |= {"difference": found["value"], "low": found["ci_low"], "high": found["ci_high"]}
            row["behind"] = bool(found["ci_high"] < 0)
        rows.append(row)
    return pd.DataFrame(rows)


KEPT = ("auroc", "recall_at_fpr05", "accuracy", "iou", "point_game", "energy_inside")
"""The metrics of a results file."""
CURVE = "validation_auroc"
"""Of a results file: the mean over folds and seeds after each epoch."""


def result_rows(runs: Mapping[str, Sequence[Pooled]], seeds: Sequence[int], data: str) -> Rows:
    """Rows of systems over seeds, each minus the textbook fine-tune and S1, and their curves.

    Intervals are over parts, all seeds together.
    """
    rows: Rows = []
    merged = {name: comparison.merge(pooled, seeds) for name, pooled in runs.items()}
    for name, pooled in runs.items():
        table = comparison.result_rows(pooled, seeds, data)
        own = pooled[0].condition
        whole = table["condition"].map(lambda condition, own=own: condition == own)
        rows += table[table["metric"].isin(KEPT) & whole].to_dict("records")
        earlier = list(runs)[: list(runs).index(name)]
        for other in [one for one in ("textbook", "S1") if one in earlier]:
            pairs = compare(merged[name], merged[other], data)
            rows += (
                pairs[pairs["metric"].isin([f"{one}_difference" for one in KEPT])]
                .drop(columns="p_value")
                .to_dict("records")
            )
        history = pd.concat([one.histories for one in pooled])
        for epoch, value in history.groupby("epoch")["auroc"].mean().items():
            condition = {**own, "epoch": int(epoch) + 1}  # the history counts from 0
            rows.append(row(data, pooled[0].system, CURVE, value, split="val", condition=condition))
    return rows


def write(args: argparse.Namespace, read: Callable[[Cell], Pooled]) -> None:
    """Write the results files of the chosen runs."""
    (data,), (backbone,) = args.data, args.backbones
    names = list(dict.fromkeys(("textbook", *args.systems)))
    cells = {name: [Cell(data, backbone, name, seed) for seed in args.seeds] for name in names}
    runs = {name: [read(cell) for cell in of_name] for name, of_name in cells.items()}
    setting = setting_of(data, args)
    parameters = {
        "dataset": data, "backbone": backbone, "systems": names, "seeds": args.seeds,
        "folds": args.folds, "image_size": setting.image_size, "batch_size": setting.batch_size,
        "epochs": setting.epochs, "tiles": args.tiles, "test_tiles": args.test_tiles,
    }  # fmt: skip
    every = [one for pooled in runs.values() for one in pooled]
    facts = provenance(
        parameters,
        sum(one.seconds for one in every),
        command=shlex.join(["python", "tools/training_matrix.py", *portable(sys.argv[1:])]),
        trained_at_commits=sorted({commit for one in every for commit in one.commits}),
    )

    def keep(path: str, notebook: str, rows: Rows) -> None:
        write_results(path, notebook=notebook, parameters=parameters, provenance=facts, rows=rows)

    if args.results:
        keep(args.results, "10_ablation", result_rows(runs, args.seeds, data))
    if args.twins:
        tables = {
            name: [twins_of(cell, read(cell), args) for cell in of_name]
            for name, of_name in cells.items()
        }
        keep(args.twins, "08_counterfactual", twin_rows(tables, SYSTEMS, args.seeds, data))


def twins_of(cell: Cell, pooled: Pooled, args: argparse.Namespace) -> pd.DataFrame:
    """`score_twins` of a run over its test parts; stored beside its model."""
    tables = []
    for fold, path in enumerate(pooled.model_paths):
        stored = Path(path).with_name("twins.csv")
        if not stored.is_file():
            model: Any = load(path)
            with atomic_path(stored) as temporary:
                score_twins(model, load_data(cell, args, fold).test).to_csv(temporary, index=False)
        tables.append(pd.read_csv(stored))
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Run what is missing of the chosen part of the matrix; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--output", default="runs/matrix")
    parser.add_argument("--data", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["textbook", *STRATEGIES],
        help=f"default: all but {' '.join(LEAVE_ONE_OUT)}",
    )  # fmt: skip
    parser.add_argument("--tiles", type=int, help="of deep-pcb: defective and as many normal")
    parser.add_argument("--test-tiles", type=int, help="of deep-pcb")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", type=int, default=1, help="folds that are run, of five")
    parser.add_argument("--epochs", type=int, help="in place of those of the data set")
    parser.add_argument("--image-size", type=int, help="in place of that of the data set")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", help="a .json: the rows that the book keeps")
    parser.add_argument("--twins", help="a .json: verdicts without the defect, of deep-pcb")
    args = parser.parse_args()
    if (args.results or args.twins) and len(args.data) * len(args.backbones) > 1:
        parser.error("--results and --twins: expected one of --data and one of --backbones")
    systems = dict.fromkeys(("textbook", *args.systems))
    cells = [
        Cell(*names) for names in itertools.product(args.data, args.backbones, systems, args.seeds)
    ]
    with worker_pool(args.jobs) as pool:
        for future in as_completed([pool.submit(_work, cell, args) for cell in cells]):
            print("finished", *future.result(), flush=True)
    read = functools.cache(lambda cell: run(cell, args))
    result = table(cells, read)
    write_json(Path(args.output) / "matrix.json", result.to_dict("records"))
    if args.results or args.twins:
        write(args, read)
    print(result.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
