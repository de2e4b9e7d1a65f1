"""Prediction on images without labels: a verdict and maps for each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainmtl.cam import resize_map
from gainmtl.datasets import list_images
from gainmtl.datasets.images import read_image
from gainmtl.datasets.transforms import resize_pair, restore_map
from gainmtl.interface import DefectModel
from gainmtl.types import Outputs


class Predictions(NamedTuple):
    """Verdicts and maps, in the order of the images."""

    table: pd.DataFrame
    """Columns `name, defect_probability, verdict, threshold, peak, peak_row, peak_column,
    defect_area`. The verdict is "defective" if the probability is at least the threshold, else
    "normal". The peak is the highest value of the defect map, with its pixel. The defect area is
    the share of pixels whose value in the defect map is at least 0.5."""
    defect_maps: list[NDArray[np.float32]]
    """(H, W) in [0, 1], on the pixels of the original image."""
    cams: list[NDArray[np.float32]]
    """(H, W) evidence, unbounded, on the same pixels; empty for a model without an evidence map."""


@torch.no_grad()
def predict(
    model: DefectModel,
    images: Tensor | str | Path | list[Path],
    batch_size: int = 32,
    progress: bool = False,
) -> Predictions:
    """Verdicts and maps for a tensor (B, 3, H, W) in [0, 1], a folder, or a list of files.

    Files are resized as in training (`model.image_size`, `model.resize`) and the maps are resized
    back to each file's original size. A tensor is not resized.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: a tensor of another shape or range, an unreadable file, or an untrained model,
            whose image size is not set.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows: list[dict[str, object]] = []
    maps: list[NDArray[np.float32]] = []
    cams: list[NDArray[np.float32]] = []
    sources = _sources(model, images)
    for start in range(0, len(sources), batch_size):
        chunk = sources[start : start + batch_size]
        loaded = [_load(model, source) for source in chunk]
        batch = torch.stack([image for image, _ in loaded]).to(device)
        out = model(model.preprocess(batch.contiguous(memory_format=torch.channels_last)))
        # In float64, as when the threshold was chosen: rounding could change a verdict next to it.
        probability = (1 - out.logits.cpu().double().softmax(1)[:, 0]).tolist()
        batch_maps = [out.defect_map]
        if isinstance(out, Outputs):
            batch_maps.append(resize_map(out.cam, (batch.shape[2], batch.shape[3])))
        for index, (source, (_, original)) in enumerate(zip(chunk, loaded, strict=True)):
            image_maps = [values[index].float().cpu() for values in batch_maps]
            if original is not None:
                image_maps = [restore_map(values, original, model.resize) for values in image_maps]
            defect_map, *cam = (values[0].numpy() for values in image_maps)
            name = source.name if isinstance(source, Path) else f"image {start + index}"
            if isinstance(source, Path) and isinstance(images, str | Path):
                name = source.relative_to(images).as_posix()
            rows.append(_row(name, probability[index], model, defect_map))
            maps.append(defect_map)
            cams += cam
        if progress:
            print(f"{min(start + batch_size, len(sources))} of {len(sources)} images", flush=True)
    model.train(was_training)
    return Predictions(pd.DataFrame(rows), maps, cams)


def _row(
    name: str, probability: float, model: DefectModel, defect_map: NDArray[np.float32]
) -> dict[str, object]:
    row, column = np.unravel_index(int(defect_map.argmax()), defect_map.shape)
    return {
        "name": name,
        "defect_probability": probability,
        "verdict": "defective" if probability >= model.threshold else "normal",
        "threshold": model.threshold,
        "peak": float(defect_map.max()),
        "peak_row": int(row),
        "peak_column": int(column),
        "defect_area": float((defect_map >= 0.5).mean()),
    }


def _sources(
    model: DefectModel, images: Tensor | str | Path | list[Path]
) -> list[Path] | list[Tensor]:
    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"predict: expected images (B, 3, H, W), got {tuple(images.shape)}; repeat a grey "
                "channel three times"
            )
        if len(images) and not (0 <= images.min() and images.max() <= 1):
            raise ValueError(
                f"predict: expected values in [0, 1], got {images.min():.3g} to "
                f"{images.max():.3g}; don't normalise, model.preprocess does"
            )
        return list(images)
    if model.image_size is None:
        raise ValueError(
            "predict: expected a trained model, got one without image_size; call gainmtl.fit, or "
            "set model.image_size"
        )
    return list(images) if isinstance(images, list) else list_images(images)


def _load(model: DefectModel, source: Path | Tensor) -> tuple[Tensor, tuple[int, int] | None]:
    """The image at the model's size, and its original size (H, W); `None` for a tensor."""
    if isinstance(source, Tensor):
        return source, None
    assert model.image_size is not None
    pixels = read_image(source)
    image, _ = resize_pair(pixels, None, model.image_size, model.resize)
    return image.float() / 255, (pixels.shape[1], pixels.shape[2])
