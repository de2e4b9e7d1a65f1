"""`fit_detector`: teach a detector normal images, set its threshold, keep it.

Reverse distillation goes through the classifier's training loop, resumable after every epoch; a
memory bank is filled once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gainmtl import metrics
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.detector_files import load_detector, save_detector
from gainmtl.anomaly.feature_cache import KeptFeatures, ask_once
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.anomaly.scores import anomaly_scores
from gainmtl.datasets import Data, normal_only
from gainmtl.files import plain, read_json
from gainmtl.precision import check_precision
from gainmtl.training.fitting import complete
from gainmtl.training.optimization import parameter_groups
from gainmtl.training.recipe import Recipe
from gainmtl.training.run import MODEL, TrainingRun
from gainmtl.types import Batch, collate


@dataclasses.dataclass(frozen=True)
class DistillationRecipe(Recipe):
    """How a student is trained; fields that are not here are as in `Recipe`."""

    epochs: int = 40
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average_decay: float = 0.0
    """Always 0: the last weights are the result."""
    augmentation: str = "none"
    clip_norm: float = 1.0
    optimizer: str = "adamw"
    """"adamw" or "adam"."""
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"
    """"cosine" with a warm-up, as the classifier's, or "constant"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "average_decay": self.average_decay == 0,
            "optimizer": self.optimizer in ("adam", "adamw"),
            "schedule": self.schedule in ("cosine", "constant"),
            "betas": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, good in rules.items() if not good]
        if wrong:
            raise ValueError(
                f"fit_detector: impossible value of {', '.join(wrong)}; see "
                "gainmtl.anomaly.fitting.DistillationRecipe"
            )


RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "optimizer": "adam", "betas": (0.5, 0.999), "learning_rate": 5e-3, "weight_decay": 0.0,
        "schedule": "constant", "clip_norm": 1e9,
    },
    "modern": {
        "optimizer": "adamw", "betas": (0.9, 0.999), "learning_rate": 2e-3, "weight_decay": 1e-4,
        "schedule": "cosine", "clip_norm": 1.0,
    },
}  # fmt: skip
"""Named recipes: the published one, and one with warm-up, decay to 1 % and clipped gradients."""


KEEP_FEATURES = 4.0
"""GiB of features that a run keeps unless it is told otherwise."""


class DistillationRun(TrainingRun):
    """One run of a student. `data` holds normal images alone; see `normal_only`."""

    settings: DistillationRecipe
    keep_features: float = KEEP_FEATURES
    """See `fit_detector`. No part of the run's identity, for it changes rounding at most."""
    _known: tuple[KeptFeatures | None, KeptFeatures | None] | None = None
    """Of the training and the validation images."""

    def _prepare(self) -> None:
        # Before the first step and again on resuming: the same images give the same statistics.
        detector = cast(ReverseDistillation, self.model)
        detector.prepare(_images(self.data.train, self.settings.batch_size))

    def train_epoch(self) -> dict[str, float]:
        """As of every run; the kept features are lent for the epoch alone."""
        try:
            return super().train_epoch()
        finally:
            cast(ReverseDistillation, self.model).kept = None

    def _begin_epoch(self) -> None:
        if self._known is None:
            self._known = self._ask_teacher()
        cast(ReverseDistillation, self.model).kept = self._known[0]

    def _ask_teacher(self) -> tuple[KeptFeatures | None, KeptFeatures | None]:
        detector = cast(ReverseDistillation, self.model)
        device = next(detector.parameters()).device
        size, limit = self.settings.batch_size, self.keep_features

        def levels_of(images: Tensor) -> list[Tensor]:
            return detector.teacher(detector.preprocess(images.to(device)))

        # An augmented image is another one every time.
        if limit <= 0 or self.settings.augmentation != "none":
            return None, None
        with self.fabric.autocast():  # as in a step
            train = ask_once(levels_of, self.data.train, size, limit)
        if train is None:
            return None, None
        return train, ask_once(levels_of, self.data.val, size, limit - train.gib)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.settings.optimizer == "adam" else torch.optim.AdamW
        s = self.settings
        return kind(self._groups(), lr=s.learning_rate, betas=s.betas)

    def _groups(self) -> list[dict[str, Any]]:
        s = self.settings
        return parameter_groups(self.model.named_parameters(), s.learning_rate, s.weight_decay)

    def _schedule(self, step: int) -> float:
        return 1.0 if self.settings.schedule == "constant" else super()._schedule(step)

    def _weights(self, progress: float) -> dict[str, float]:
        return {"distillation": 1.0}

    def _new_average(self) -> Any:
        return self.model

    def _update_average(self, step: int) -> None:
        pass

    def _edited(self, batch: Batch, step: int) -> Batch:
        return batch

    def _kept(self) -> dict[str, nn.Module]:
        return {"model": self.model}

    def _facts(self, terms: Collection[str]) -> dict[str, float]:
        return {}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        detector = cast(ReverseDistillation, self.model)
        detector.eval()
        detector.kept = None if self._known is None else self._known[1]
        device = next(detector.parameters()).device
        total, count = 0.0, 0
        loader: Any = DataLoader(self.data.val, self.settings.batch_size, collate_fn=collate)
        for batch in loader:
            loss = detector.training_step(batch._replace(image=batch.image.to(device)))
            total += float(loss["distillation"]) * len(batch.image)
            count += len(batch.image)
        return {"val_distillation": total / count}

    def _shown(self, row: dict[str, float]) -> dict[str, float]:
        return {"loss": row["distillation"], "val_loss": row["val_distillation"]}

    def _identity(self) -> dict[str, Any]:
        return _identity(cast(Any, self.model), self.data) | plain(
            {"recipe": dataclasses.asdict(self.settings), "precision": self.precision}
        )

    def finish(self) -> None:
        """Set the threshold on normal validation images, write the detector."""
        detector = cast(Any, self.model)
        calibrate(detector, self.data, self.settings.max_false_alarms)
        if self.output_dir is not None and self.fabric.is_global_zero:
            save_detector(detector, self.output_dir / MODEL)


def calibrate(detector: Detector, data: Data, max_false_alarms: float = 0.05) -> None:
    """Balance the levels, set threshold and spread, by the normal images of `data.val`."""
    detector.eval()
    part = normal_only(data).val
    detector.balance(_images(part, 32))
    scores = anomaly_scores(detector, part)
    labels = np.zeros(len(scores), dtype=bool)
    threshold = metrics.threshold_at_fpr(scores, labels, max_false_alarms)
    detector.calibrate(torch.from_numpy(scores), threshold)


def fit_detector(
    detector: Detector,
    data: Data,
    epochs: int = 40,
    output_dir: str | Path | None = None,
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: Any = "32-true",
    seed: int = 0,
    progress: bool = True,
    keep_features: float = KEEP_FEATURES,
    **recipe: Any,
) -> pd.DataFrame:
    """Fit `detector` in place on the normal images of `data.train`.

    Defective images of the training and validation parts are left out here, whoever calls. With an
    `output_dir` a run of reverse distillation goes on where it was, and a filled memory bank is
    read; on a CPU the result is the same bit for bit.

    Args:
        keep_features: GiB, per process, of the teacher's features that reverse distillation may
            keep, so that the frozen teacher is asked about a training image once per start and not
            in every epoch; likewise of validation images, where there is room left. It keeps all
            images of a part or none. Disturbed images, see `denoise`, are asked about in every step
            all the same. Another value changes nothing but rounding. 0: nothing is kept.
        recipe: fields of `DistillationRecipe`; a memory bank has no use for them.

    Returns:
        One row per epoch (one row in all for a memory bank) with `epoch` and `seconds`.

    Raises:
        ValueError: an impossible recipe, no normal image, or an `output_dir` that holds a run with
            other settings.
        FloatingPointError: a loss became NaN or infinite.
    """
    normal = normal_only(data)
    names = {field.name for field in dataclasses.fields(DistillationRecipe)}
    if unknown := sorted(set(recipe) - names):
        raise ValueError(f"fit_detector: unknown arguments {unknown}; there are {sorted(names)}")
    check_precision(precision)
    folder = None if output_dir is None else Path(output_dir)
    if isinstance(detector, MemoryBank):
        return _fill(detector, normal, folder, recipe.get("max_false_alarms", 0.05), accelerator)
    settings = DistillationRecipe(epochs=epochs, seed=seed, **recipe)
    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    fabric.launch()
    run = DistillationRun(cast(Any, detector), normal, settings, fabric, folder, precision)
    run.keep_features = keep_features
    return complete(run, detector.name, progress)


def _fill(
    bank: MemoryBank, data: Data, folder: Path | None, max_false_alarms: float, accelerator: str
) -> pd.DataFrame:
    start = time.perf_counter()
    own = _identity(bank, data)
    stored = None if folder is None else folder / MODEL
    if stored is not None and stored.with_suffix(".json").is_file():
        facts = read_json(stored.with_suffix(".json"))["facts"]
        if facts.get("identity") != own:
            raise ValueError(
                f"fit_detector: {folder} holds a detector with other settings; give another "
                "output_dir, or delete that folder to start over"
            )
        found = load_detector(stored)
        bank.load_state_dict(found.state_dict())
        bank.threshold, bank.spread = found.threshold, found.spread
        bank.image_size, bank.resize = found.image_size, found.resize
        return pd.DataFrame([{"epoch": 0, "seconds": facts["seconds"]}])
    bank.image_size = data.image_size
    bank.resize = getattr(data.train, "resize", bank.resize)
    use_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    bank.to("cuda" if use_gpu else "cpu").to(memory_format=torch.channels_last)
    bank.prepare(_images(data.train, 16))
    bank.fill(_images(data.train, 16), len(cast(Any, data.train)))
    calibrate(bank, data, max_false_alarms)
    seconds = time.perf_counter() - start
    if stored is not None:
        save_detector(bank, stored, identity=own, seconds=seconds)
    return pd.DataFrame([{"epoch": 0, "seconds": seconds}])


def _identity(detector: Detector, data: Data) -> dict[str, Any]:
    """What must agree for stored work to be taken over."""
    return cast(
        dict[str, Any],
        plain(
            {
                "kind": detector.kind,
                "config": detector.config,
                "initial_weights": detector.teacher.initial_weights,
                "data": data.fingerprint,
                "image_size": data.image_size,
                "fold": [data.fold, data.folds],
            }
        ),
    )


def _images(dataset: Any, batch_size: int) -> Iterator[Tensor]:
    loader: Any = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    for batch in loader:
        yield batch.image.contiguous(memory_format=torch.channels_last)
