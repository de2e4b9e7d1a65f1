"""A run on one's own images: its parameters, data, models, threshold and report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from PIL import Image

from gainbook.chapters.ch15_own_data.effects import without_effect
from gainbook.lab.parameters import Parameters, Rule, refuse_together
from gainbook.lab.protocol import cross_validate
from gainbook.lab.run_system import find_weights
from gainmtl import metrics
from gainmtl.datasets import Data, ImageDataset, load
from gainmtl.datasets.deep_pcb import PcbSettings
from gainmtl.datasets.images import read_size
from gainmtl.datasets.layouts import LAYOUTS, read_records
from gainmtl.deployment import export
from gainmtl.evaluation.prediction import predict
from gainmtl.evaluation.scoring import Scores, defect_scores
from gainmtl.files import user_path
from gainmtl.interface import DefectModel, check_model
from gainmtl.io import load as load_model
from gainmtl.model import GAINMTL
from gainmtl.strategies import get_strategy

TEST_PARTS = 5
"""Number of parts of a set without a split of its own, one of which is the test; fewer where it has
fewer defective groups."""

SYNTHETIC: dict[str, Any] = {"train": 160, "val": 48, "test": 80}
"""Number of images of the built-in set, the notebook's default."""

SIZES = (96, 224)
"""Smallest and largest `image_size` that is chosen from the images; more takes long on a CPU."""
SEEN = 1500
"""Training images that a run sees, where its epochs are chosen from their number, within `EPOCHS`.
On 60 board tiles of 160 px, that is 25 epochs."""
EPOCHS = (8, 40)
BUILT_IN_EPOCHS = 4
"""Enough for the built-in parts, and the page is made in less than a minute."""
_MVTEC = ("train", "val", "validation", "test", "ground_truth")
READ_FOLDERS: dict[str, Sequence[str]] = {
    "folder": ("images", "masks"), "mvtec": _MVTEC, "visa": (*_MVTEC, "Data/Images", "Data/Masks"),
    "magnetic-tile": ("",), "deep-pcb": ("",),
}  # fmt: skip
"""Folders below `data_root` in which a layout reads every image; `""` is `data_root` itself. The
images of "voc2012" are listed by name."""
LOOKED_AT = 50
"""Images whose size is looked at."""

RULES: dict[str, Any] = {
    "image_size": Rule(int, 32, 4096, optional=True),
    "epochs": Rule(int, 1, 100_000, optional=True),
    "batch_size": Rule(int, 2, 100_000),
    "strategy": Rule(str, optional=True),
    "checkpoint": Rule(str, optional=True),
    "predict_root": Rule(str, optional=True),
    "category": Rule(str, optional=True),
    "split": ["auto", "official", "folds"],
    "resize": ["squash", "pad"],
    "validation": Rule(float, 0.01, 0.9),
    "max_false_alarms": Rule(float, 0.0, 0.99),
    "inner_folds": Rule(int, 0, 100),
    "map_limit": Rule(int, 0, 10_000_000),
    "examples": Rule(int, 0, 1000),
}
"""The parameters that only this notebook has. A batch of one image has no batch statistics."""


def is_labelled(chosen: Parameters) -> bool:
    """Whether the run has a labelled set, or only a folder of images to classify."""
    return not (chosen.checkpoint and chosen.predict_root and chosen.data_root is None)


def check_choices(chosen: Parameters) -> None:
    """Raise one `ValueError` for parameters that are fine each by itself but not together."""
    problems = without_effect(chosen, is_labelled(chosen))
    if chosen.strategy is not None:
        get_strategy(chosen.strategy)
    if len(chosen.seeds) > 1:
        problems.append(
            f"seeds: this notebook leaves one model, so it takes one seed, found "
            f"{list(chosen.seeds)}; add -p seeds {chosen.seeds[0]}"
        )
    if chosen.dataset == "synthetic" and chosen.data_root is not None:
        problems.append(
            "data_root: given, but dataset is 'synthetic', which is built in; add the layout of "
            f"your folder, -p dataset {' or '.join(LAYOUTS)}"
        )
    if chosen.predict_root is not None and not chosen.checkpoint and chosen.dataset == "synthetic":
        problems.append(
            "predict_root: a model of synthetic parts can't classify real ones; add -p checkpoint "
            "with a saved model, or a labelled set to train on (dataset and data_root)"
        )
    if chosen.checkpoint and chosen.folds > 1:
        problems.append(
            f"folds: a checkpoint is one model, so nothing is trained on {chosen.folds} folds; "
            "leave folds at 1"
        )
    if chosen.checkpoint and Path(chosen.checkpoint).suffix != ".safetensors":
        problems.append(
            f"checkpoint: expected the .safetensors file of a saved model, found "
            f"{Path(chosen.checkpoint).name!r}; pickled files are never opened, since they can run "
            "code. Save a model with gainmtl.save."
        )
    output = Path(chosen.output_dir).resolve()
    read = {"predict_root": [user_path(chosen.predict_root)] if chosen.predict_root else []}
    if chosen.data_root is not None:
        read["data_root"] = read_folders(chosen.dataset, chosen.data_root)
    for name, folders in read.items():
        if any(output.is_relative_to(folder.resolve()) for folder in folders):
            problems.append(
                f"output_dir: lies in the images or masks of {name}, where the next run would read "
                "the maps as images; choose a folder outside"
            )
    refuse_together(chosen, problems)


def read_folders(layout: str, root: str | Path) -> list[Path]:
    """The folders below which a layout reads all images: of the set at `root`, or of a category."""
    top = user_path(root)
    places = [top, *top.glob("*/")]
    return [place / name for place in places for name in READ_FOLDERS.get(layout, ())]


def load_checkpoint(path: str) -> DefectModel:
    """The classifier or baseline of a checkpoint.

    Raises:
        TypeError: the checkpoint of an anomaly detector.
        ValueError, FileNotFoundError: as `gainmtl.load`.
    """
    model = load_model(path)
    advice = "this notebook takes no anomaly detector; gainmtl.predict and gainmtl.export do"
    check_model("checkpoint", model, (DefectModel,), advice)
    return cast(DefectModel, model)


class Facts(NamedTuple):
    """What the open parameters are chosen from."""

    train: int
    """Number of training images."""
    side: int
    """Median length of the images' longer side, in pixels."""
    has_masks: bool
    """Whether a defective image has a mask."""


def facts_of(chosen: Parameters) -> Facts:
    """The facts of the labelled images; no image is decoded.

    Raises:
        ValueError, FileNotFoundError: as `datasets.load`.
    """
    if chosen.dataset in LAYOUTS and chosen.data_root is not None:
        records = read_records(chosen.dataset, chosen.data_root, chosen.category)
        own = chosen.split != "folds" and chosen.folds == 1 and records[0].split is not None
        share = 1 if own else 1 - 1 / parts_of(chosen)
        train = round(share * sum(not own or r.split == "train" for r in records))
        looked_at = records[:: math.ceil(len(records) / LOOKED_AT)]
        sides = [max(read_size(r.image)) for r in looked_at if r.image is not None]
        masks = any(r.is_defective and (r.mask or r.boxes) for r in records)
        return Facts(train, int(np.median(sides)), masks)
    train = load_fold(chosen.with_values(image_size=SIZES[0])).counts["train"]["images"]
    return Facts(train, PcbSettings.tile if chosen.dataset == "deep-pcb" else SIZES[0], True)


def complete(chosen: Parameters) -> tuple[Parameters, str]:
    """The parameters with the open ones chosen from the images, and a sentence on each of these.

    With a checkpoint nothing is chosen, since its model is used as it is.

    - `image_size`: the median of the images' longer sides, as a multiple of 32 within `SIZES`.
    - `epochs`: as many as show `SEEN` training images, within `EPOCHS`; `BUILT_IN_EPOCHS` for
      the built-in parts.
    - `strategy`: S5 if a defective image has a mask, else S1.
    """
    names = ("image_size", "epochs", "strategy")
    missing = [name for name in names if getattr(chosen, name) is None]
    if not missing or not is_labelled(chosen) or chosen.checkpoint:
        return chosen, ""
    facts = facts_of(chosen)
    size = int(np.clip(32 * round(facts.side / 32), *SIZES))
    epochs = epochs_for(facts.train), f"there are {facts.train} images for training and validation"
    if chosen.dataset == "synthetic":
        epochs = BUILT_IN_EPOCHS, "a short run on the built-in parts"
    masks = "masks are given" if facts.has_masks else "no defective image has a mask"
    values: dict[str, tuple[Any, str]] = {
        "image_size": (size, f"the images' sides are about {facts.side} px"),
        "epochs": epochs,
        "strategy": ("S5" if facts.has_masks else "S1", masks),
    }
    text = [f"{name} {values[name][0]}: {values[name][1]}." for name in missing]
    return chosen.with_values(**{n: values[n][0] for n in missing}), "\n".join(text)


def epochs_for(images: int) -> int:
    """Epochs for a number of images for training and validation: `SEEN` in all, in `EPOCHS`."""
    return int(np.clip(math.ceil(SEEN / max(images, 1)), *EPOCHS))


def parts_of(chosen: Parameters) -> int:
    """Number of parts of the set: `folds`; of a single fold, limited by its defective groups."""
    if chosen.folds > 1:
        return int(chosen.folds)
    if chosen.dataset not in LAYOUTS or chosen.data_root is None:
        return TEST_PARTS  # built in, or `load` raises the error
    records = read_records(chosen.dataset, chosen.data_root, chosen.category)
    return max(2, min(TEST_PARTS, len({r.group for r in records if r.is_defective})))


def load_fold(chosen: Parameters, fold: int = 0, model: GAINMTL | None = None) -> Data:
    """The labelled data of one fold; every image is decoded once where memory allows.

    Size and resizing are those of a trained `model`, if there is one.

    Raises:
        ValueError, FileNotFoundError: as `datasets.load`; and a validation part without a normal
            image, on which no threshold can be chosen.
    """
    split = "folds" if chosen.folds > 1 and chosen.split == "auto" else chosen.split
    data = load(
        chosen.dataset,
        chosen.data_root,
        image_size=(model and model.image_size) or chosen.image_size,
        fold=fold,
        folds=parts_of(chosen),
        seed=chosen.seeds[0],
        resize=chosen.resize if model is None else model.resize,
        validation=chosen.validation,
        category=chosen.category,
        split="auto" if chosen.dataset == "synthetic" else split,
        **(SYNTHETIC if chosen.dataset == "synthetic" else {}),
    )
    if not data.counts["val"]["normal"]:
        raise ValueError(
            "the threshold is chosen on normal images of the validation part, which has "
            f"{data.counts['val']['images']} images and no normal one: {data.report()} Add normal "
            "images of at least two groups, or raise validation."
        )
    for part in (data.train, data.val, data.test):
        if isinstance(part, ImageDataset):
            part.preload()  # a damaged file ends the run now, not in the middle of training
    return data


def threshold_advice(chosen: Parameters, data: Data) -> str:
    """A sentence where the validation part has too few normal images for the threshold's rule.

    Of n normal images, shares of 1 / n can be flagged: a rule of 5 % needs at least 20.
    """
    normal, rule = data.counts["val"]["normal"], chosen.max_false_alarms
    if chosen.inner_folds or chosen.checkpoint or not 0 < rule < 1 / normal:
        return ""
    return (
        f"The threshold's rule of {rule:.0%} false alarms needs at least {math.ceil(1 / rule)} "
        f"normal validation images and has {normal}. With -p inner_folds 5 it comes from all "
        f"{normal + data.counts['train']['normal']} normal images for training and validation "
        "by five more trainings."
    )


def threshold_images(chosen: Parameters, data: Data) -> str:
    """The normal images on which the threshold was chosen, in words."""
    normal = data.counts["val"]["normal"]
    if not chosen.inner_folds:
        return f"{normal} normal validation images"
    both = normal + data.counts["train"]["normal"]
    return f"{both} normal images of {chosen.inner_folds} inner folds"


def choose_threshold(model: GAINMTL, data: Data, max_false_alarms: float = 0.05) -> float:
    """Set `model.threshold` by the rule of `fit`, on the validation part of `data`."""
    scores, labels = defect_scores(model, data.val)
    model.threshold = metrics.threshold_at_fpr(scores, np.asarray(labels), max_false_alarms)
    return model.threshold


def train_folds(chosen: Parameters, data: Data) -> tuple[list[Any], list[Data], list[Scores]]:
    """Train and test a model per fold: the models, the folds' data and the test scores.

    `data` is the first fold's. Finished folds under `output_dir` are read.
    """
    p = chosen
    pooled = cross_validate(
        lambda: GAINMTL(p.backbone, p.strategy, find_weights(p.weights)),
        lambda fold: load_fold(p, fold) if fold else data,
        p.output_dir, p.folds, p.seeds[0], epochs=p.epochs, batch_size=p.batch_size,
        learning_rate=p.learning_rate, max_false_alarms=p.max_false_alarms,
        inner_folds=p.inner_folds,
        accelerator=p.accelerator, devices=p.devices, precision=p.precision, progress=False,
    )  # fmt: skip
    models = [load_model(path).to(device_of(p.accelerator)) for path in pooled.model_paths]
    folds = [data, *(load_fold(p, fold) for fold in range(1, p.folds))]
    return models, folds, pooled.folds


def device_of(accelerator: str) -> Any:
    """The torch device of an accelerator's name on this machine."""
    return Fabric(accelerator=accelerator, devices=1).device


def export_for_the_line(model: GAINMTL, path: Path) -> str:
    """Export the model to `path`; the two commands that apply the file, or why there is none."""
    try:
        export(model, path)
    except (ImportError, ValueError) as error:
        return f"No ONNX file was written. {error}"
    files = f"{path.as_posix()} path/to/new/images -o verdicts.csv"
    return f"python -m gainmtl predict {files}\npython runner.py {files}"


def wrong_places(verdicts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test defects that are found and have a mask, and those of them whose map peaks elsewhere."""
    located = verdicts[
        (verdicts["outcome"] == "hit")
        & (verdicts["split"] == "test")
        & verdicts["peak_to_mask"].notna()
    ]
    return located, located[located["peak_to_mask"] > 0]


def telling_examples(verdicts: pd.DataFrame, count: int = 6) -> pd.DataFrame:
    """Rows with an overlay: wrong places first, then wrong verdicts, then right ones."""
    located, elsewhere = wrong_places(verdicts)
    wrong = verdicts[
        (verdicts["split"] == "test") & verdicts["outcome"].isin(["miss", "false alarm"])
    ]
    rows = pd.concat([elsewhere.nlargest(4, "peak_to_mask"), wrong.head(4), located, verdicts])
    return rows[rows["overlay_file"].notna()].drop_duplicates("name").head(count)


def flagged_by_gamma(
    model: GAINMTL, dataset: Any, gammas: Sequence[float], limit: int = 32
) -> pd.DataFrame:
    """Share of flagged images after `x ** gamma`: columns `series`, `x` (gamma), `value`.

    At most `limit` images of each kind.
    """
    lines = []
    for kind, series in ((True, "defects found"), (False, "false alarms")):
        chosen = [i for i, bad in enumerate(dataset.labels) if bad == kind][:limit]
        if not chosen:
            continue
        images = torch.stack([dataset[i].image for i in chosen])
        for gamma in gammas:
            verdict = predict(model, images**gamma).table["verdict"]
            lines.append((series, gamma, float((verdict == "defective").mean())))
    return pd.DataFrame(lines, columns=["series", "x", "value"])


FOLDER_FAULTS = ("one class", "mask size", "mask name", "damaged")


def broken_folder(root: Path, fault: str) -> Path:
    """Write a folder of 16 grey images with one of the `FOLDER_FAULTS`."""
    for kind in ["normal"] if fault == "one class" else ["normal", "defective"]:
        (root / "images" / kind).mkdir(parents=True)
        for k in range(8):
            Image.new("L", (32, 32), 100 + k).save(root / "images" / kind / f"{k}.png")
    (root / "masks").mkdir()
    size = (30, 32) if fault == "mask size" else (32, 32)
    name = "defective 0.png" if fault == "mask name" else "0.png"
    Image.new("L", size, 255).save(root / "masks" / name)
    if fault == "damaged":
        (root / "images/normal/3.png").write_bytes(b"no image")
    return root


def report_facts(
    model: GAINMTL, data: Data | None, facts: Mapping[str, Any], images: int
) -> dict[str, str]:
    """The provenance lines of the report; `images` is the number of images without labels."""
    return {
        "model": f"{model.strategy.name} on {model.backbone.name}, "
                 f"{model.image_size} px, {model.resize}",
        "data": data.report() if data is not None else f"{images} unlabelled images",
        "data fingerprint": facts["data_fingerprint"] or "–",
        "commit": facts["git_commit"] or "–",
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "command": facts["command"],
    }  # fmt: skip
