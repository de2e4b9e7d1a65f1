"""`fit_detector`: train a detector on normal images, set its threshold and save it.

Reverse distillation uses the training loop of the classifier, resumable after every epoch. A memory
bank is filled once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gainmtl import metrics
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.feature_cache import FeatureCache, cache_features
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.anomaly.scores import anomaly_scores
from gainmtl.datasets import Data, normal_only
from gainmtl.datasets.checks import check_values
from gainmtl.files import claimed, output_folder, read_json, user_path
from gainmtl.interface import check_image_size, check_model
from gainmtl.io import load, save
from gainmtl.precision import check_precision
from gainmtl.training.fitting import check_data, complete, start_fabric
from gainmtl.training.identity import check_identity, run_identity
from gainmtl.training.optimization import parameter_groups
from gainmtl.training.recipe import Recipe
from gainmtl.training.run import MODEL, TrainingRun
from gainmtl.types import Batch, collate


@dataclasses.dataclass(frozen=True)
class DistillationRecipe(Recipe):
    """The training parameters of a student; for the other fields see `Recipe`."""

    epochs: int = 40
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average_decay: float = 0.0
    """Always 0: the result are the weights of the last step."""
    augmentation: str = "none"
    clip_norm: float = 1.0
    optimizer: str = "adamw"
    """"adamw" or "adam"."""
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"
    """"cosine" with a warm-up, as for the classifier, or "constant"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "average_decay": ("0", self.average_decay == 0),
            "keep": ("'last'", self.keep == "last"),
            "inner_folds": ("0", self.inner_folds == 0),
            "optimizer": ("'adam' or 'adamw'", self.optimizer in ("adam", "adamw")),
            "schedule": ("'cosine' or 'constant'", self.schedule in ("cosine", "constant")),
            "betas": (
                "two numbers in [0, 1)",
                len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            ),
        }
        check_values("fit_detector", self, rules)


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
"""Named recipes: "paper" is the published one; "modern" has a warm-up, a cosine decay to 1 % and
clipped gradients."""


KEEP_FEATURES = 4.0
"""Default of `fit_detector`'s `keep_features`, in GiB."""


class DistillationRun(TrainingRun):
    """One training run of a student. `data` has only normal images; see `normal_only`."""

    model: ReverseDistillation  # type: ignore[assignment]  # no `DefectModel`
    settings: DistillationRecipe
    keep_features: float = KEEP_FEATURES
    """See `fit_detector`. Not part of the run's identity, because it changes only rounding."""
    _caches: tuple[FeatureCache | None, FeatureCache | None] | None = None
    """Features of the training and of the validation images."""

    def _prepare(self) -> None:
        # Also on resuming: the same images give the same statistics.
        self.model.prepare(_images(self.data.train, self.settings.batch_size))

    def train_epoch(self) -> dict[str, float]:
        """As of `TrainingRun`; the detector has the feature cache only during the epoch."""
        try:
            return super().train_epoch()
        finally:
            self.model.cache = None

    def _begin_epoch(self) -> None:
        if self._caches is None:
            self._caches = self._cache_teacher()
        self.model.cache = self._caches[0]

    def _cache_teacher(self) -> tuple[FeatureCache | None, FeatureCache | None]:
        detector, device = self.model, next(self.model.parameters()).device
        size, limit = self.settings.batch_size, self.keep_features

        def levels_of(images: Tensor) -> list[Tensor]:
            return detector.teacher(detector.preprocess(images.to(device)))

        # An augmented image is different in every epoch.
        if limit <= 0 or self.settings.augmentation != "none":
            return None, None
        with self.fabric.autocast():  # as in a training step
            train = cache_features(levels_of, self.data.train, size, limit)
        if train is None:
            return None, None
        return train, cache_features(levels_of, self.data.val, size, limit - train.gib)

    def _watched(self) -> nn.Module:
        return self.model.student

    def _new_optimizer(self) -> torch.optim.Optimizer:
        s = self.settings
        kind = torch.optim.Adam if s.optimizer == "adam" else torch.optim.AdamW
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

    def _epoch_metrics(self, terms: Collection[str]) -> dict[str, float]:
        return {}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        detector, device = self.model.eval(), next(self.model.parameters()).device
        detector.cache = None if self._caches is None else self._caches[1]
        total, count = 0.0, 0
        loader: Any = DataLoader(self.data.val, self.settings.batch_size, collate_fn=collate)
        for batch in loader:
            loss = detector.training_step(batch._replace(image=batch.image.to(device)))
            total += float(loss["distillation"]) * len(batch.image)
            count += len(batch.image)
        if not math.isfinite(total):
            raise FloatingPointError
        return {"val_distillation": total / count}

    def _shown(self, row: dict[str, float]) -> dict[str, float]:
        return {"loss": row["distillation"], "val_loss": row["val_distillation"]}

    def finish(self) -> None:
        """Set the threshold on normal validation images, and save the detector."""
        set_threshold(self.model, self.data, self.settings.max_false_alarms)
        if self.output_dir is not None and self.fabric.is_global_zero:
            save(self.model, self.output_dir / MODEL)


def set_threshold(detector: Detector, data: Data, max_false_alarms: float = 0.05) -> None:
    """Balance the levels, and set threshold and spread, on the normal images of `data.val`.

    The threshold is the lowest with a false alarm rate of at most `max_false_alarms`.
    """
    detector.eval()
    part = normal_only(data).val
    detector.balance(_images(part, 32))
    scores = anomaly_scores(detector, part)
    labels = np.zeros(len(scores), dtype=bool)
    threshold = metrics.threshold_at_fpr(scores, labels, max_false_alarms)
    detector.set_scale(torch.from_numpy(scores), threshold)


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
    """Fit `detector` in place on the normal images of `data.train`, and set its threshold.

    Defective images of the training and validation parts are always left out. With an `output_dir`
    an interrupted run of reverse distillation is resumed, and a filled memory bank is read; on a
    CPU the result is the same bit for bit.

    Args:
        keep_features: largest size, in GiB per process, of a cache of the teacher's features for
            reverse distillation. The teacher is then run on a training image once per start instead
            of in every epoch; the same for validation images, if they still fit. Either all images
            of a part are cached or none. The teacher is run on disturbed images, see `denoise`, in
            every step in any case. The value changes only rounding; 0 disables the cache.
        recipe: fields of `DistillationRecipe`; a memory bank uses only `max_false_alarms`.

    Returns:
        One row per epoch (a single row for a memory bank) with `epoch` and `seconds`.

    Raises:
        TypeError: a model that is no `Detector`, or one part of the data instead of all.
        ValueError: an impossible recipe, no normal image, or an `output_dir` with a run of other
            settings.
        FloatingPointError: the loss became NaN or infinite.
        RuntimeError: another run is writing to `output_dir`.
    """
    check_model("fit_detector", detector, (Detector,), "a classifier is trained by gainmtl.fit")
    check_data("fit_detector", data)
    normal = normal_only(data)
    names = {field.name for field in dataclasses.fields(DistillationRecipe)}
    if unknown := sorted(set(recipe) - names):
        raise ValueError(f"fit_detector: unknown arguments {unknown}; a recipe has {sorted(names)}")
    check_precision(precision)
    folder = None if output_dir is None else user_path(output_dir)
    settings = DistillationRecipe(epochs=epochs, seed=seed, **recipe)
    if isinstance(detector, MemoryBank):
        if devices not in (1, "1", "auto"):
            raise ValueError(f"fit_detector: a bank is filled on one device, got {devices=}")
        device = start_fabric(accelerator=accelerator, devices=1, precision=precision).device
        return _fill(detector, normal, folder, settings.max_false_alarms, device)
    fabric = start_fabric(accelerator=accelerator, devices=devices, precision=precision)
    run = DistillationRun(cast(Any, detector), normal, settings, fabric, folder, precision)
    run.keep_features = keep_features
    return complete(run, detector.name, progress)


def _fill(
    bank: MemoryBank, data: Data, folder: Path | None, max_false_alarms: float, device: torch.device
) -> pd.DataFrame:
    start = time.perf_counter()
    history = pd.DataFrame({"epoch": [0]})
    identity = run_identity(bank, data, max_false_alarms=max_false_alarms)
    stored = None if folder is None else folder / MODEL
    if stored is not None and stored.with_suffix(".json").is_file():
        facts = dict(read_json(stored.with_suffix(".json")).get("facts", {}))
        check_identity("fit_detector", stored.parent, facts.get("identity"), identity, None)
        try:
            filled = load(stored)
        except (FileNotFoundError, ValueError) as error:
            warnings.warn(f"fit_detector: the bank is filled again: {error}", stacklevel=3)
        else:
            bank.load_state_dict(filled.state_dict())
            bank.threshold, bank.spread = filled.threshold, filled.spread
            bank.image_size, bank.resize = filled.image_size, filled.resize
            return history.assign(seconds=facts["seconds"])
    with contextlib.nullcontext() if stored is None else claimed(output_folder(stored.parent)):
        bank.image_size, bank.resize = data.image_size, data.resize
        check_image_size(bank)
        bank.to(device).to(memory_format=torch.channels_last)
        bank.prepare(_images(data.train, 16))
        bank.fill(_images(data.train, 16), len(cast(Any, data.train)))
        set_threshold(bank, data, max_false_alarms)
        seconds = time.perf_counter() - start
        if stored is not None:
            save(bank, stored, identity=identity, seconds=seconds)
    return history.assign(seconds=seconds)


def _images(dataset: Any, batch_size: int) -> Iterator[Tensor]:
    loader: Any = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    for batch in loader:
        yield batch.image.contiguous(memory_format=torch.channels_last)
