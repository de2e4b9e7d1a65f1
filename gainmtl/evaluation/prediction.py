"""Predict on images nobody labelled: a verdict and maps for each."""

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
from gainmtl.interface import Inspector
from gainmtl.types import Outputs


class Predictions(NamedTuple):
    """Verdicts and maps, in the order of the images."""

    table: pd.DataFrame
    """`name, defect_probability, verdict, threshold, peak, peak_row, peak_column, defect_area`: the
    verdict is "defective" from the threshold on; peak is the highest value of the defect map and
    its pixel; defect_area the share of the image where the defect map is at least 0.5."""
    defect_maps: list[NDArray[np.float32]]
    """(H, W) in [0, 1], on the pixels of the original image."""
    cams: list[NDArray[np.float32]]
    """(H, W) evidence, unbounded, likewise; none of a system without an evidence map."""


@torch.no_grad()
def predict(
    model: Inspector,
    images: Tensor | str | Path | list[Path],
    batch_size: int = 32,
    progress: bool = False,
) -> Predictions:
    """Ask `model` about images: a tensor (B, 3, H, W) in [0, 1], a folder, or a list of files.

    Files are resized as in training (`model.image_size`, `model.resize`) and the maps are brought
    back to each file's own size; a tensor is taken as it is.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: a tensor of another shape or range, an unreadable file (its name), or a model
            that was never trained and so knows no image size.
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
        # In float64, as the threshold was chosen: near ties would else fall on the other side.
        probability = (1 - out.logits.cpu().double().softmax(1)[:, 0]).tolist()
        shown = [out.defect_map]
        if isinstance(out, Outputs):
            shown.append(resize_map(out.cam, (batch.shape[2], batch.shape[3])))
        for index, (source, (_, original)) in enumerate(zip(chunk, loaded, strict=True)):
            own = [values[index].float().cpu() for values in shown]
            if original is not None:
                own = [restore_map(values, original, model.resize) for values in own]
            defect_map, *cam = (values[0].numpy() for values in own)
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
    name: str, probability: float, model: Inspector, defect_map: NDArray[np.float32]
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
    model: Inspector, images: Tensor | str | Path | list[Path]
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
                f"{images.max():.3g}; don't normalise, the model does"
            )
        return list(images)
    if model.image_size is None:
        raise ValueError(
            "predict: this model was never trained, so its image size is not known; fit it first"
        )
    return list(images) if isinstance(images, list) else list_images(images)


def _load(model: Inspector, source: Path | Tensor) -> tuple[Tensor, tuple[int, int] | None]:
    """The image as the model takes it, and the size its maps go back to."""
    if isinstance(source, Tensor):
        return source, None
    assert model.image_size is not None
    pixels = read_image(source)
    image, _ = resize_pair(pixels, None, model.image_size, model.resize)
    return image.float() / 255, (pixels.shape[1], pixels.shape[2])
