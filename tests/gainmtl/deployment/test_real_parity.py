"""Seven backbones on 200 magnetic tiles: the exported file against torch, from the files on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

import gainmtl
from gainmtl.datasets.images import read_image
from gainmtl.datasets.layouts import read_records
from gainmtl.datasets.transforms import resize_pair
from gainmtl.runner import OnnxModel, read_pixels, resize_pixels

BACKBONES = (
    "mobilenetv2_100", "tf_efficientnet_lite0", "tf_efficientnet_lite2", "resnet18",
    "convnext_atto", "tf_efficientnetv2_b0", "mobilenetv3_large_100",
)  # fmt: skip
SIZE, COUNT, BATCH, TOLERANCE = 128, 200, 20, 1e-4
TILES = Path(os.environ.get("GAINMTL_DATA", "nowhere")) / "magnetic-tile"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.skipif(not TILES.is_dir(), reason="GAINMTL_DATA has no magnetic-tile"),
]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    records = read_records("magnetic-tile", TILES)
    chosen = np.linspace(0, len(records) - 1, COUNT).round().astype(int)
    return [path for i in chosen if (path := records[i].image) is not None]


@pytest.fixture(scope="module")
def images(files: list[Path]) -> torch.Tensor:
    """(200, 3, S, S) in [0, 1] as the data sets read them."""
    read = [resize_pair(read_image(path), None, SIZE)[0] for path in files]
    return torch.stack(read).float() / 255


def build(backbone: str, images: torch.Tensor) -> gainmtl.GAINMTL:
    """Random weights, the batch statistics of some of the images, and a threshold among scores."""
    torch.manual_seed(0)
    model = gainmtl.GAINMTL(backbone, "S5").train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the statistics become those of the one batch
    with torch.no_grad():
        model(model.preprocess(images[::5]))
    model.eval().image_size = SIZE
    scores = np.sort(gainmtl.predict(model, images).table["defect_probability"])
    gap = COUNT // 4 + int(np.diff(scores[COUNT // 4 : -COUNT // 4]).argmax())
    model.threshold = float(scores[gap : gap + 2].mean())
    return model


@pytest.mark.parametrize("backbone", BACKBONES)
def test_scores_maps_and_verdicts(
    backbone: str, files: list[Path], images: torch.Tensor, tmp_path: Path
) -> None:
    model = build(backbone, images)
    wanted = gainmtl.predict(model, images)
    file = OnnxModel(gainmtl.export(model, tmp_path / "model.onnx"), threads=1)
    pixels = np.stack([resize_pixels(read_pixels(path), SIZE) for path in files])
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    parts = [file(pixels[start : start + BATCH]) for start in range(0, COUNT, BATCH)]
    probability, verdict, defect_map, evidence = map(np.concatenate, zip(*parts, strict=True))
    assert len(files) == len(verdict) == COUNT
    differences = {
        "probability": np.abs(probability - wanted.table["defect_probability"]).max(),
        "defect map": np.abs(defect_map[:, 0] - np.stack(wanted.defect_maps)).max(),
        "evidence map": np.abs(evidence[:, 0] - np.stack(wanted.cams)).max(),
    }
    shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    spread = f"scores {probability.min():.3f} to {probability.max():.3f}"
    print(f"{backbone}: {shown}; {spread}, evidence to {np.abs(evidence).max():.3g}")
    assert max(differences.values()) < TOLERANCE
    assert verdict.tolist() == (wanted.table["verdict"] == "defective").tolist()
    assert 0.2 < verdict.mean() < 0.8
