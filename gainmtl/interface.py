"""The interface of a trainable model: what `fit`, `score`, `evaluate` and `save` need.

`GAINMTL` is a `DefectModel`; the U-Net and the box detector of `gainmtl.baselines` are others. A
model may have any architecture as long as it begins with a `Backbone`, trains by named losses, and
computes its outputs from images alone.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gainmtl.backbone import Backbone
from gainmtl.datasets.checks import whole
from gainmtl.runner import RESIZE_MODES
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Located, Outputs

HIGHEST_THRESHOLD = 1 + 2**-23
"""The next float32 after 1, which `fit` sets where a normal image has the probability 1."""


class DefectModel(nn.Module):
    """A model that classifies a part as normal or defective and localizes the defect.

    A subclass sets `strategy`, `backbone` and `config` and implements `forward` and
    `training_step`. Everything it learns must be in its state dict.
    """

    kind: str = ""
    """Identifies the class in saved descriptions; see `gainmtl.io.class_of`."""
    strategy: Strategy
    """The loss terms, their weights and windows."""
    backbone: Backbone
    config: dict[str, Any]
    """The constructor's arguments as JSON values, except weights and strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.5
        """A part is defective from this defect probability on; `fit` sets it on validation data."""
        self.image_size: int | None = None
        """Side of the training images in pixels; `None` before training."""
        self.resize = "squash"
        """How images are brought to that size; see `gainmtl.datasets.transforms`."""

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) in [0, 1] as the backbone's weights expect."""
        mean = images.new_tensor(self.backbone.mean)[:, None, None]
        std = images.new_tensor(self.backbone.std)[:, None, None]
        return (images - mean) / std

    def forward(self, images: Tensor) -> Outputs | Located:
        """(B, 3, H, W) images, normalised by `preprocess`, to outputs; a mask is never an input."""
        raise NotImplementedError

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """The named loss terms that are active at `progress` (share of the run), unweighted.

        `batch.image` in [0, 1]; each term is a scalar. The names are those of `LossWeights`.
        """
        raise NotImplementedError

    def epoch_metrics(self, terms: Collection[str]) -> dict[str, float]:
        """Further columns of `fit`'s history after an epoch in which `terms` were active."""
        return {}

    def fit_on_validation(self, batches: Iterable[Batch]) -> None:
        """Choose on validation data what training leaves open; runs before the threshold is set."""


def encoder_of(model: Any) -> Any:
    """What holds the normalisation: the backbone, or the teacher of an anomaly detector."""
    return model.backbone if isinstance(model, DefectModel) else model.teacher


def check_model(function: str, model: Any, kinds: tuple[type, ...], advice: str) -> None:
    """Raise a `TypeError` with `advice` for a model of another kind than `function` takes.

    Raises:
        ValueError: of a model of these kinds, as `check_settings`.
    """
    if not isinstance(model, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"{function}: expected a model of class {names}, got {type(model).__name__}; {advice}"
        )
    check_settings(model)


def check_settings(model: Any) -> None:
    """Raise a `ValueError` for a threshold, an image size or a resizing that no training sets."""
    size, resize, threshold = model.image_size, model.resize, model.threshold
    if size is not None:
        whole("image_size", size, 1, 100_000)
    if resize not in RESIZE_MODES:
        raise ValueError(f"resize: expected one of {', '.join(RESIZE_MODES)}, got {resize!r}")
    expected, fits = "a number in [0, 1]", isinstance(threshold, numbers.Real)
    if isinstance(model, DefectModel):
        fits = fits and 0 <= threshold <= HIGHEST_THRESHOLD
    else:  # of a score; NaN before the fit
        expected, fits = "a finite number", fits and not math.isinf(threshold)
    if not fits or isinstance(threshold, bool):
        raise ValueError(
            f"threshold: expected {expected}, got {threshold!r}; set model.threshold to one, or "
            "fit the model"
        )


def check_part(dataset: Any) -> None:
    """Raise an error for what is no part of a data set, or for one without images.

    Raises:
        TypeError: no part, for example a whole `Data` or the path of a folder.
        ValueError: a part without images.
    """
    if not hasattr(dataset, "__getitem__") or isinstance(dataset, str | Tensor):
        raise TypeError(
            f"dataset: expected one part of the data, got {type(dataset).__name__}; give data.test "
            "of data = gainmtl.datasets.load(...), or images without labels to gainmtl.predict"
        )
    if len(dataset) == 0:
        raise ValueError("dataset: expected a part with images, got none; give another part")


@contextlib.contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode within the context, in which batch statistics don't change.

    After it, also after an error, every module is in its own mode again.
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_reading(model: Any, images: Tensor, dataset: Any = None) -> None:
    """Raise a `ValueError` for images of another size or resizing than the model was trained on.

    Its threshold holds for that size alone, and features of other sizes differ. A model without an
    image size, which was never trained, takes any. `dataset`: of the images; its `resize`
    is compared if it has one.
    """
    size = model.image_size
    if size is None:
        return
    found = tuple(images.shape[-2:])
    if found != (size, size):
        raise ValueError(
            f"expected images of {size} x {size} pixels, the size that the model was trained on, "
            f"got {found[0]} x {found[1]}; load the data with image_size={size}, or set "
            "model.image_size = None to take any size"
        )
    resize = getattr(dataset, "resize", model.resize)
    if resize != model.resize:
        raise ValueError(
            f"expected images resized by {model.resize!r}, as the model was trained on, got "
            f"{resize!r}; load the data with resize={model.resize!r}"
        )


@torch.no_grad()
def check_image_size(model: Any) -> None:
    """Raise a `ValueError` if a classifier or an anomaly detector can't take its image size.

    One black image is tried before training: some backbones need one fixed size, or a multiple of
    their coarsest stride. The error names sizes near it that were tried and work.
    """
    encoder = encoder_of(model)
    # A memory bank has no output before it is filled.
    network: nn.Module = encoder if model.kind == "memory-bank" else model
    device = next(model.parameters()).device

    def failure(size: int) -> Exception | None:
        try:
            with evaluating(model):
                network(torch.zeros(1, 3, size, size, device=device))
        except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            return error
        return None

    size = int(model.image_size)
    error = failure(size)
    if error is None:
        return
    backbone = encoder.timm if isinstance(encoder, Backbone) else encoder.network
    config = backbone.pretrained_cfg or {}
    _, *native = config.get("input_size", (3,))
    near = {math.floor(size / 32) * 32, math.ceil(size / 32) * 32, *native}
    works = [side for side in sorted(near) if side >= 32 and failure(side) is None]
    advice = f"image_size={' or '.join(map(str, works))} works" if works else "nor sizes near it"
    if config.get("fixed_input_size"):
        advice += "; or build the model for another size with create_kwargs={'img_size': ...}"
    raise ValueError(
        f"{encoder.name} can't take images of {size} x {size} pixels ({error}); {advice}"
    ) from error
