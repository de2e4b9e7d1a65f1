"""One training run: its steps, its checkpoints, and how it resumes."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gainmtl import metrics
from gainmtl.datasets import Augment, AugmentedDataset, Data
from gainmtl.evaluation.scoring import batches, defect_scores
from gainmtl.interface import DefectModel, check_image_size
from gainmtl.io import load, save
from gainmtl.training.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from gainmtl.training.copy_paste import copy_paste
from gainmtl.training.gradient_conflict import as_columns, measure, probe_batch
from gainmtl.training.identity import check_identity, run_identity
from gainmtl.training.optimization import (
    EpochSampler,
    parameter_groups,
    rate_factor,
    update_average,
)
from gainmtl.training.recipe import ENOUGH, Recipe
from gainmtl.training.watch import FLAT, Watch
from gainmtl.types import Batch, collate

if TYPE_CHECKING:
    from gainmtl.training.inner_folds import Choice

MODEL = "model.safetensors"
_SHOWN = ("attended_classification", "classification", "localization")
"""The progress bar shows the first of these terms that is active."""
GENTLER = 0.25
"""Factor on all learning rates when a run starts again because its network died."""


class DeadNetworkError(RuntimeError):
    """Most of the backbone's deep channels have one value for every image."""


def defective_groups(*parts: Any) -> int:
    """The number of groups with a defective image in these parts of a data set."""
    return len({g for p in parts for g, bad in zip(p.groups, p.labels, strict=True) if bad})


class TrainingRun:
    """The state of one run of `fit`; subclasses override its parts for other kinds of models."""

    def __init__(
        self,
        model: DefectModel,
        data: Data,
        settings: Recipe,
        fabric: Any,
        output_dir: Path | None,
        precision: str,
        probe: int = 0,
        choice: Choice | None = None,
    ) -> None:
        self.choice = choice
        self.model, self.data, self.settings, self.fabric = model, data, settings, fabric
        self.output_dir, self.precision = output_dir, precision
        self.probe = probe_batch(data.train, probe) if probe else None
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self._written: Path | None = None  # the model file of a finished run
        model.image_size = data.image_size
        model.resize = data.resize
        check_image_size(model)
        self._prepare()
        # On a CPU channels-last runs this family of networks about 1.6 times as fast.
        model.to(memory_format=torch.channels_last)
        self.wrapped, self.optimizer = fabric.setup(model, self._new_optimizer())
        self.wrapped.mark_forward_method("training_step")
        self.average = self._new_average()
        self.best = self._new_best()
        self.restarts = 0
        self._initial = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.train_set = AugmentedDataset(data.train, Augment(settings.augmentation), settings.seed)
        self.sampler = EpochSampler(len(self.train_set), settings.seed)
        loader: DataLoader[Any] = DataLoader(
            self.train_set,
            batch_size=settings.batch_size,
            sampler=self.sampler,
            collate_fn=collate,
            # A last batch of one image is dropped: batch norm needs at least two values.
            drop_last=len(self.train_set) % settings.batch_size == 1,
        )
        self.loader = fabric.setup_dataloaders(loader)
        self.steps = len(self.loader)
        # After the copies of the model, which need no watch.
        self.watch = Watch(self._watched(), self.steps)

    def _prepare(self) -> None:
        """Freeze layers and statistics before the first step."""
        self.model.backbone.freeze(self.settings.freeze_stride, self._keeps_statistics)

    @property
    def _keeps_statistics(self) -> bool:
        keep = self.settings.freeze_statistics
        return bool(self.model.backbone.is_pretrained if keep is None else keep)

    def _watched(self) -> nn.Module:
        """The part of the model in which dead channels are counted."""
        return self.model.backbone

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self._groups(), lr=self.settings.learning_rate)

    def _new_average(self) -> Any:
        """The model with averaged weights, the result of the run."""
        return copy.deepcopy(self.model).eval()

    def _new_best(self) -> nn.Module | None:
        """The model with the weights of the best epoch; `None` if the last epoch is kept."""
        if self.settings.keep == "last":
            return None
        if self.choice is not None:
            is_last = self.choice.epoch == self.settings.epochs - 1
            return None if is_last else copy.deepcopy(self.average)
        found = defective_groups(self.data.val)
        if found >= ENOUGH:
            return copy.deepcopy(self.average)
        warnings.warn(
            f"fit: keep='best' needs {ENOUGH} defective groups in the validation part, which has "
            f"{found}: the last epoch is kept. inner_folds=5 chooses among the training images.",
            stacklevel=4,
        )
        return None

    def _weights(self, progress: float) -> dict[str, float]:
        """The weight of every loss term at `progress`."""
        return self.model.strategy.weights_at(progress).asdict()

    def _groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters."""
        s = self.settings
        share = s.backbone_rate
        if share is None:
            share = 0.05 if self._keeps_statistics else 0.2
        named = self.model.named_parameters()
        return parameter_groups(named, s.learning_rate, s.weight_decay, share)

    def _schedule(self, step: int) -> float:
        """The learning-rate factor at a step."""
        return rate_factor(step, self.steps * self.settings.epochs)

    def _progress(self, step: int) -> float:
        """The finished share of the run before a step, in [0, 1]."""
        return step / (self.steps * self.settings.epochs)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training set, validation, checkpoint."""
        start, s = time.perf_counter(), self.settings
        self._begin_epoch()
        self.sampler.epoch = self.epoch
        self.train_set.set_epoch(self.epoch)
        sampler = getattr(self.loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.epoch)
        torch.manual_seed(s.seed * 100_003 + self.epoch)  # dropout
        self.wrapped.train()
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        applied: dict[str, float] = {}
        for index, batch in enumerate(self.loader):
            step = self.epoch * self.steps + index
            self.watch.before_step(index)
            terms = self._step(batch, step)
            if self.watch.after_step(index):
                self._on_dead_network(index)
            weights = self._weights(self._progress(step))
            for name, value in terms.items():
                applied[name] = applied.get(name, 0.0) + weights[name]
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
                counts[name] = counts.get(name, 0) + 1
        row: dict[str, float] = {"epoch": self.epoch}
        row |= {name: float(total) / counts[name] for name, total in sums.items()}
        row |= {f"weight_{name}": total / self.steps for name, total in applied.items()}
        try:
            self._check_weights()
            row |= self._validate()
        except FloatingPointError:
            # A step that explodes has a finite loss; only what follows shows it.
            with torch.no_grad(), self.fabric.autocast():
                terms = self.wrapped.training_step(batch, self._progress(step))
            self._stop_on_nonfinite(terms, step)
        row |= self._epoch_metrics(sums) | self._conflict()
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row["seconds"] = time.perf_counter() - start
        if self.best is not None and self._is_best(row):
            self.best.load_state_dict(self.average.state_dict())
        self.history.append(row)
        self.epoch += 1
        self._checkpoint()
        return self._shown(row)

    def _is_best(self, row: dict[str, Any]) -> bool:
        if self.choice is not None:
            return self.epoch == self.choice.epoch
        return bool(row["auroc"] > max((past["auroc"] for past in self.history), default=-math.inf))

    def _on_dead_network(self, index: int) -> None:
        raise DeadNetworkError(
            f"{self.watch.dead:.0%} of the network's deeper channels have one value for every "
            f"image at step {index + 1} of epoch {self.epoch + 1}: they are dead, the learning "
            "rate is too high"
        )

    def start_again(self, cause: DeadNetworkError) -> None:
        """Go back to the first weights, with a quarter of the learning rates.

        Raises:
            DeadNetworkError: the run has started again `restarts` times already.
        """
        rate = self.settings.learning_rate * GENTLER**self.restarts
        if self.restarts == self.settings.restarts:
            raise DeadNetworkError(
                f"fit: {cause}. It was trained {self.restarts + 1} times, the last time with "
                f"learning_rate={rate:g}. Lower learning_rate or backbone_rate."
            ) from cause
        warnings.warn(
            f"fit: {cause}. Training starts again with learning_rate={rate * GENTLER:g}.",
            stacklevel=2,
        )
        self.restarts += 1
        self.epoch, self.history = 0, []
        self.model.load_state_dict(self._initial)
        self.average = self._new_average()
        self.best = None if self.best is None else copy.deepcopy(self.average)
        self.optimizer.state.clear()

    def _begin_epoch(self) -> None:
        """A hook for work before an epoch's first step; it counts in the epoch's time."""

    def _check_weights(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise FloatingPointError

    def _validate(self) -> dict[str, float]:
        """The measures of an epoch on validation data.

        Raises:
            FloatingPointError: a score is NaN or infinite.
        """
        # No gradients are kept, so that four of the training's batches fit.
        size = 4 * self.settings.batch_size
        scores, labels = defect_scores(self.average, self.data.val, size)
        if not np.isfinite(scores).all():
            raise FloatingPointError
        if len(set(labels.tolist())) == 2 and scores.max() - scores.min() < FLAT:
            raise DeadNetworkError(
                f"all {len(scores)} validation images have the same defect probability after epoch "
                f"{self.epoch + 1}: the network is dead, the learning rate is too high"
            )
        return {"auroc": metrics.auroc(scores, labels)}

    def _epoch_metrics(self, terms: Collection[str]) -> dict[str, float]:
        """Further columns of the model after an epoch with these terms."""
        own = {"dead_channels": self.watch.dead, "restarts": self.restarts}
        return {**own, **self.model.epoch_metrics(terms)}

    def _conflict(self) -> dict[str, float]:
        """Cosines between the gradients of the next step's terms; empty without a probe.

        The probe is not part of the run's identity, because it does not change the run.
        """
        if self.probe is None:
            return {}
        progress = (self.epoch + 1) / self.settings.epochs
        return as_columns(measure(self.model, self.probe, progress))

    def _shown(self, row: dict[str, float]) -> dict[str, float]:
        """The figures of an epoch in the progress bar."""
        return {
            "loss": next((row[term] for term in _SHOWN if term in row), math.nan),
            "val_auroc": row["auroc"],
        }

    def _step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        s = self.settings
        progress = self._progress(step)
        batch = self._edited(batch, step)
        batch = batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))
        # On one device Fabric enters its precision in `forward` alone, so it is entered here. With
        # several devices Fabric also enters it for `training_step`, and halves the inputs, which
        # `batch_to_float32` undoes.
        with self.fabric.autocast():
            terms = self.wrapped.training_step(batch, progress)
        weights = self._weights(progress)
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        if not torch.isfinite(loss):
            self._stop_on_nonfinite(terms, step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self._schedule(step) * GENTLER**self.restarts
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=s.clip_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self._update_average(step)
        return {name: value.detach() for name, value in terms.items()}

    def _edited(self, batch: Batch, step: int) -> Batch:
        """The batch after `copy_paste`; the draw depends on seed and step alone."""
        share = self.model.strategy.copy_paste
        if not share:
            return batch
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        return copy_paste(batch, share, generator)

    def _stop_on_nonfinite(self, terms: dict[str, Tensor], step: int) -> NoReturn:
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        bad = bad or ["none, but the outputs for validation images"]
        kept = "no checkpoint was written yet"
        if self.output_dir is not None and self.epoch:
            path = self.output_dir / CHECKPOINT
            kept = f"the checkpoint after epoch {self.epoch} is kept in {path}"
        raise FloatingPointError(
            f"fit: the loss became non-finite in epoch {self.epoch + 1}, step "
            f"{step % self.steps + 1} (terms: {', '.join(bad)}); {kept}. Lower learning_rate or "
            "use precision='32-true'."
        )

    def _update_average(self, step: int) -> None:
        """Update the averaged weights after a step."""
        update_average(self.average, self.model, self.settings.average_decay, step)

    def _identity(self) -> dict[str, Any]:
        """The settings that must agree with those of a checkpoint to continue it."""
        return run_identity(
            self.model,
            self.data,
            recipe=dataclasses.asdict(self.settings),
            precision=self.precision,
            devices=self.fabric.world_size,
        )

    def _kept(self) -> dict[str, nn.Module]:
        """The modules in the checkpoint."""
        best = {} if self.best is None else {"best": self.best}
        return {"model": self.model, "average": self.average, **best}

    def _checkpoint(self) -> None:
        if self.output_dir is None or not self.fabric.is_global_zero:
            return
        meta = {
            "identity": self._identity(), "epoch": self.epoch, "history": self.history,
            "restarts": self.restarts,
        }  # fmt: skip
        write_checkpoint(self.output_dir / CHECKPOINT, self._kept(), self.optimizer, meta)

    def resume(self) -> None:
        """Continue from the checkpoint in `output_dir`, if one exists.

        Raises:
            ValueError: the checkpoint is damaged, or of a run with other settings.
        """
        if self.output_dir is None or not (self.output_dir / CHECKPOINT).is_file():
            return
        stored = read_checkpoint(self.output_dir / CHECKPOINT)
        meta, identity = stored.meta, self._identity()
        check_identity("fit", self.output_dir, meta.get("identity"), identity, self.settings)
        stored.restore(self._kept(), self.optimizer)
        self.history, self.epoch = meta["history"], len(meta["history"])
        self.restarts = meta.get("restarts", 0)
        model = self.output_dir / MODEL
        # The .json is written last; `load` checks that it was written for the file beside it.
        if self.epoch == self.settings.epochs and model.with_suffix(".json").is_file():
            self._written = model

    def _read_finished(self, path: Path) -> bool:
        """Set weights and threshold from the model file; `False` if it can't be read."""
        try:
            stored = load(path)
            self.model.load_state_dict(stored.state_dict())
        except (FileNotFoundError, RuntimeError, ValueError) as error:
            warnings.warn(
                f"fit: the model file of the finished run can't be used and is written again from "
                f"the checkpoint: {error}",
                stacklevel=4,
            )
            return False
        self.model.threshold = stored.threshold
        self.model.eval()
        return True

    def finish(self) -> None:
        """Set the averaged weights of the last or best epoch, and the threshold; write the model.

        A run that was finished before reads its model file instead.
        """
        self.watch.close()
        if self._written is not None and self._read_finished(self._written):
            return
        self.model.load_state_dict((self.average if self.best is None else self.best).state_dict())
        self.model.eval()
        batch_size = self.settings.batch_size
        self.model.fit_on_validation(batches(self.data.val, batch_size))
        if self.choice is not None:
            self.model.threshold = self.choice.threshold
        else:
            scores, labels = defect_scores(self.model, self.data.val, batch_size)
            self.model.threshold = metrics.threshold_at_fpr(
                scores, labels, self.settings.max_false_alarms
            )
        if self.output_dir is not None and self.fabric.is_global_zero:
            save(self.model, self.output_dir / MODEL)
