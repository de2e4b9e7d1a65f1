"""Crops of real pictures that are part of the book, with the maps of the reference systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gainbook import ROOT
from gainmtl.files import atomic_path, read_json, write_json

FOLDER = Path("book/_static/crops")
"""Relative to a checkout's root."""
MAX_CROPS = 12
MAX_SIDE = 96


class Crop(NamedTuple):
    """One crop. Its maps were computed from the whole picture and cut in the same place."""

    name: str
    """File name of the whole picture."""
    defect_type: str
    image: Tensor
    """(3, H, W) in [0, 1]."""
    mask: Tensor
    """(1, H, W), 0 or 1."""
    maps: dict[str, Tensor]
    """(1, H, W) in [0, 1], by `<system tag>.<map>`."""
    verdicts: dict[str, dict[str, float]]
    """By system tag: `probability` of the whole picture and the system's `threshold`."""
    chosen: str
    """The rule that chose the picture."""


def write_crops(crops: Sequence[Crop], folder: Path, about: Mapping[str, Any]) -> None:
    """Write PNGs, one `maps.npz` and `crops.json` with `about` (source, citation, command).

    Raises:
        ValueError: more or larger crops than a book may quote from a data set without a licence.
    """
    sides = [side for crop in crops for side in crop.image.shape[1:]]
    if len(crops) > MAX_CROPS or max(sides, default=0) > MAX_SIDE:
        raise ValueError(
            f"expected at most {MAX_CROPS} crops of at most {MAX_SIDE} pixels a side, got "
            f"{len(crops)} of up to {max(sides, default=0)}; choose fewer or cut smaller ones"
        )
    entries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for index, crop in enumerate(crops):
        key = f"{index:02d}_{crop.defect_type.lower()}"
        pixels = (crop.image * 255).round().byte().permute(1, 2, 0).numpy()
        grey = bool((pixels == pixels[..., :1]).all())
        with atomic_path(folder / f"{key}.png") as temporary:
            Image.fromarray(pixels[..., 0] if grey else pixels).save(
                temporary, "PNG", optimize=True
            )
        arrays[f"{key}.mask"] = (crop.mask[0] > 0.5).numpy()
        arrays |= {f"{key}.{tag}": m[0].half().numpy() for tag, m in crop.maps.items()}
        entries.append(
            {
                "file": f"{key}.png",
                "name": crop.name,
                "defect_type": crop.defect_type,
                "chosen": crop.chosen,
                "maps": list(crop.maps),
                "verdicts": crop.verdicts,
            }
        )
    with atomic_path(folder / "maps.npz") as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    write_json(folder / "crops.json", {**about, "crops": entries})


def read_crops(folder: Path | None = None) -> list[Crop]:
    """The crops of a folder, by default the book's; an empty list if it has none."""
    folder = folder or ROOT / FOLDER
    if not (folder / "crops.json").is_file():
        return []
    crops = []
    with np.load(folder / "maps.npz") as arrays:
        for entry in read_json(folder / "crops.json")["crops"]:
            key = entry["file"].removesuffix(".png")
            with Image.open(folder / entry["file"]) as picture:
                pixels = torch.from_numpy(np.array(picture.convert("RGB")))

            def stored(name: str, key: str = key) -> Tensor:
                return torch.from_numpy(arrays[f"{key}.{name}"].astype(np.float32))[None]

            crops.append(
                Crop(
                    name=entry["name"],
                    defect_type=entry["defect_type"],
                    image=pixels.permute(2, 0, 1).float() / 255,
                    mask=stored("mask"),
                    maps={tag: stored(tag) for tag in entry["maps"]},
                    verdicts=entry["verdicts"],
                    chosen=entry["chosen"],
                )
            )
    return crops
