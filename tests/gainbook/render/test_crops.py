"""Crops go into the book small and few, and come back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gainbook.render.crops import FOLDER, MAX_CROPS, MAX_SIDE, Crop, read_crops, write_crops

ROOT = Path(__file__).resolve().parents[3]


def crop(side: int = 8, kind: str = "MT_Crack") -> Crop:
    generator = torch.Generator().manual_seed(side)
    grey = torch.randint(0, 256, (1, side, side), generator=generator).float() / 255
    mask = torch.zeros(1, side, side)
    mask[:, 2:4, 3:5] = 1
    maps = {"S1-stride4.cam": torch.rand(1, side, side, generator=generator)}
    verdicts = {"S1-stride4": {"probability": 0.75, "threshold": 0.5}}
    return Crop("MT_Crack/Imgs/1.jpg", kind, grey.expand(3, -1, -1), mask, maps, verdicts, "rule")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = [crop(), crop(12, "normal")]
    write_crops(given, tmp_path, {"citation": "someone"})
    found = read_crops(tmp_path)
    for a, b in zip(given, found, strict=True):
        assert torch.equal((a.image * 255).round(), (b.image * 255).round())
        assert torch.equal(a.mask, b.mask)
        assert torch.allclose(a.maps["S1-stride4.cam"], b.maps["S1-stride4.cam"], atol=1e-3)
        assert (a.name, a.defect_type, a.verdicts, a.chosen) == (
            b.name, b.defect_type, b.verdicts, b.chosen,
        )  # fmt: skip
    stored = json.loads((tmp_path / "crops.json").read_text())
    assert stored["citation"] == "someone"


def test_too_many_or_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_CROPS} crops"):
        write_crops([crop()] * (MAX_CROPS + 1), tmp_path, {})
    with pytest.raises(ValueError, match=f"up to {MAX_SIDE + 1}"):
        write_crops([crop(MAX_SIDE + 1)], tmp_path, {})
    assert read_crops(tmp_path) == []


def test_the_books_crops_keep_the_limits_and_cite_their_source() -> None:
    folder = ROOT / FOLDER
    crops = read_crops(folder)
    assert len(crops) <= MAX_CROPS
    assert all(max(c.image.shape[1:]) <= MAX_SIDE for c in crops)
    if crops:
        about = json.loads((folder / "crops.json").read_text("utf-8"))
        assert "Huang" in about["citation"]
        assert about["command"].startswith("python tools/cut_crops.py")
        assert len(list(folder.glob("*.png"))) == len(crops)
