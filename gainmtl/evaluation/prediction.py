"""Prediction on images without labels: a verdict and maps for each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainmtl import metrics
from gainmtl.cam import resize_map
from gainmtl.datasets.checks import whole
from gainmtl.datasets.transforms import restore_map
from gainmtl.evaluation.inputs import Images, Loaded, load_images
from gainmtl.interface import DefectModel, check_model, evaluating
from gainmtl.runner import verdict_row
from gainmtl.types import Outputs

if TYPE_CHECKING:
    from gainmtl.anomaly.base import Detector

COLUMNS = (
    "name", "defect_probability", "verdict", "threshold", "peak", "peak_row", "peak_column",
    "defect_area",
)  # fmt: skip
"""Of `Predictions.table`."""


class Maps(Sequence[NDArray[np.float32]]):
    """Maps (H, W) on the pixels of the original images, in the order of the images.

    A map is kept at the model's size and resized whenever it is read: at the size of its picture
    it takes 4 bytes per pixel, and a folder of large pictures would fill the memory.
    """

    def __init__(self, resize: str) -> None:
        self._resize = resize
        self._maps: list[tuple[Tensor, tuple[int, int] | None]] = []

    def add(self, values: Tensor, original: tuple[int, int] | None) -> None:
        """Append a map (1, S, S) of an image of `original` (H, W); `None`: not resized."""
        self._maps.append((values.float().cpu().clone(), original))

    def __len__(self) -> int:
        return len(self._maps)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.float32]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        values, original = self._maps[index]
        if original is not None:
            values = restore_map(values, original, self._resize)
        return values[0].numpy()


class Predictions(NamedTuple):
    """Verdicts and maps, in the order of the images."""

    table: pd.DataFrame
    """Columns `COLUMNS`. The verdict is "defective" if the probability is at least the threshold,
    else "normal"; the probability of an anomaly detector is 0.5 at the threshold of its score. The
    peak is the highest value of the defect map, with its pixel. The defect area is the share of
    pixels whose value in the defect map is at least 0.5."""
    defect_maps: Sequence[NDArray[np.float32]]
    """(H, W) in [0, 1], on the pixels of the original image."""
    cams: Sequence[NDArray[np.float32]]
    """(H, W) evidence, of a detector its anomaly map, unbounded, on the same pixels; empty for a
    model without either."""


@torch.no_grad()
def predict(
    model: DefectModel | Detector, images: Images, batch_size: int = 32, progress: bool = False
) -> Predictions:
    """Verdicts and maps for a folder, files, PIL pictures, arrays or tensors; see `inputs.Images`.

    Images are resized as in training (`model.image_size`, `model.resize`), and the maps are resized
    back to each image's own size. A tensor for a model without an image size is not resized. The
    model is in evaluation mode during the call and then in its own again.

    Raises:
        FileNotFoundError: no such file or folder, or no image in it.
        TypeError: something that is no image, or no model.
        ValueError: a batch size that is no whole number from 1 on; an array or tensor of another
            shape, type or range; an unreadable file; an untrained model, whose image size is not
            set; a probability that is not finite, or an impossible threshold.
    """
    # On demand: the package of the detectors imports this one.
    from gainmtl.anomaly.base import DETECTOR_THRESHOLD, Detector

    check_model("predict", model, (DefectModel, Detector), "read a saved one with gainmtl.load")
    whole("predict: batch_size", batch_size, 1, 1_000_000)
    device = next(model.parameters()).device
    rows: list[dict[str, object]] = []
    maps, cams = Maps(model.resize), Maps(model.resize)
    loaded = load_images(model, images)
    with evaluating(model):
        while chunk := list(itertools.islice(loaded, batch_size)):
            batch = _stacked(chunk).to(device)
            out = model(model.preprocess(batch.contiguous(memory_format=torch.channels_last)))
            # In float64, as when the threshold was chosen: rounding could change a verdict.
            logits, threshold = out.logits.cpu().double(), model.threshold
            batch_maps = [out.defect_map]
            if isinstance(model, Detector):
                score = out.anomaly_score.cpu().double().numpy()
                verdicts = metrics.is_flagged(score, threshold)
                probability, threshold = logits.sigmoid().numpy(), DETECTOR_THRESHOLD
                batch_maps.append(out.anomaly_map)
            else:
                probability = (1 - logits.softmax(1)[:, 0]).numpy()
                verdicts = metrics.is_flagged(probability, threshold)
            if isinstance(out, Outputs):
                batch_maps.append(resize_map(out.cam, (batch.shape[2], batch.shape[3])))
            found = zip(chunk, probability.tolist(), verdicts.tolist(), strict=True)
            for index, (one, value, verdict) in enumerate(found):
                for kept, values in zip((maps, cams), batch_maps, strict=False):
                    kept.add(values[index], one.original)
                rows.append(verdict_row(one.name, value, verdict, threshold, maps[-1]))
            if progress:
                print(f"{len(rows)} images", flush=True)
    return Predictions(pd.DataFrame(rows, columns=list(COLUMNS)), maps, cams)


def _stacked(chunk: list[Loaded]) -> Tensor:
    sizes = {tuple(one.image.shape[1:]) for one in chunk}
    if len(sizes) > 1:
        raise ValueError(
            f"predict: expected tensors of one size for a model without image_size, got "
            f"{', '.join(f'{h} x {w}' for h, w in sorted(sizes))}; set model.image_size"
        )
    return torch.stack([one.image for one in chunk])
