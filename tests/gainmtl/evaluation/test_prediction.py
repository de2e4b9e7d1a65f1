"""Predictions on tensors, folders and lists of files, with maps at each image's own size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gainmtl.anomaly import MemoryBank, ReverseDistillation, detector_outputs, fit_detector
from gainmtl.datasets import load
from gainmtl.evaluation.prediction import Predictions, predict
from gainmtl.model import GAINMTL

SIZES = {"a.png": (64, 64), "sub/b.jpg": (100, 40), "z.bmp": (33, 70)}  # height, width


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16)
    model.train()
    model(torch.randn(4, 3, 64, 64))
    model.image_size = 64
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    generator = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        (root / name).parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels if name != "z.bmp" else pixels[..., 0]).save(root / name)
    return root


def image_of(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255


def test_tensor_for_a_model_without_a_size(model: GAINMTL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "image_size", None)
    images = torch.rand(5, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = predict(model, images, batch_size=2)
    with torch.no_grad():
        out = model(model.preprocess(images))
    assert found.table["name"].tolist() == [f"image {i}" for i in range(5)]
    np.testing.assert_allclose(
        found.table["defect_probability"], out.defect_probability.numpy(), atol=1e-5
    )
    for index, (defect_map, cam) in enumerate(zip(found.defect_maps, found.cams, strict=True)):
        assert defect_map.shape == cam.shape == (64, 96)
        np.testing.assert_allclose(defect_map, out.defect_map[index, 0].numpy(), atol=1e-5)


def test_table(model: GAINMTL, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    scores = predict(model, images).table["defect_probability"]
    monkeypatch.setattr(model, "threshold", float(scores.sort_values().iloc[2]))
    table, defect_maps, _ = predict(model, images)
    assert (table["verdict"] == "defective").sum() == 4
    assert (
        (table["defect_probability"] >= model.threshold) == (table["verdict"] == "defective")
    ).all()
    for row, defect_map in zip(table.itertuples(), defect_maps, strict=True):
        assert row.peak == defect_map.max() == defect_map[row.peak_row, row.peak_column]
        assert row.defect_area == pytest.approx((defect_map >= 0.5).mean())
        assert row.threshold == model.threshold


def test_folder(model: GAINMTL, folder: Path) -> None:
    found: Predictions = predict(model, folder, batch_size=2)
    assert found.table["name"].tolist() == sorted(SIZES)
    for name, defect_map, cam in zip(
        found.table["name"], found.defect_maps, found.cams, strict=True
    ):
        assert defect_map.shape == cam.shape == SIZES[name]
        assert 0 <= defect_map.min() <= defect_map.max() <= 1
    same_size = predict(model, image_of(folder / "a.png"))
    row = found.table.set_index("name").loc["a.png"]
    assert row["defect_probability"] == pytest.approx(
        same_size.table["defect_probability"][0], abs=1e-5
    )
    np.testing.assert_allclose(found.defect_maps[0], same_size.defect_maps[0], atol=1e-4)


def test_folder_by_name_and_list_of_files(model: GAINMTL, folder: Path) -> None:
    expected = predict(model, folder).table
    by_name = predict(model, f"{folder}/").table
    assert by_name.equals(expected)
    files = predict(model, [folder / "z.bmp", folder / "sub" / "b.jpg"]).table
    assert files["name"].tolist() == ["z.bmp", "b.jpg"]
    np.testing.assert_allclose(
        files["defect_probability"], expected["defect_probability"].to_numpy()[[2, 1]], atol=1e-5
    )


def test_padding_keeps_the_maps_in_place(
    folder: Path, model: GAINMTL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "resize", "pad")
    found = predict(model, folder)
    assert [m.shape for m in found.defect_maps] == [SIZES[name] for name in sorted(SIZES)]
    monkeypatch.setattr(model, "resize", "squash")
    assert not np.allclose(
        predict(model, folder).table["defect_probability"], found.table["defect_probability"]
    )


def test_prediction_does_not_change_the_model(model: GAINMTL) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    predict(model, torch.rand(2, 3, 64, 64))
    assert model.training
    model.eval()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_strategy_without_a_localization_head(folder: Path) -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1")
    model.image_size = 64
    found = predict(model, folder)
    assert [m.shape for m in found.defect_maps] == [SIZES[name] for name in sorted(SIZES)]


@pytest.mark.parametrize("kind", [MemoryBank, ReverseDistillation])
def test_a_detector(kind: Any, folder: Path) -> None:
    torch.manual_seed(0)
    detector = kind("test_efficientnet")
    data = load("synthetic", image_size=64, train=8, val=6, test=8)
    if kind is ReverseDistillation:
        with pytest.raises(ValueError, match="needs finite threshold.*; fit the model"):
            predict(detector, image_of(folder / "a.png"))
    fit_detector(detector, data, epochs=1, accelerator="cpu", progress=False)
    images = torch.stack([data.test[i].image for i in range(8)])
    found, out = predict(detector, images, batch_size=8), detector_outputs(detector, images)
    table = found.table
    np.testing.assert_array_equal(table["defect_probability"], out.logits.double().sigmoid())
    flagged = (out.anomaly_score >= detector.threshold).numpy()
    assert ((table["verdict"] == "defective") == flagged).all()
    assert (flagged == (table["defect_probability"] >= table["threshold"])).all()
    assert set(table["threshold"]) == {0.5}
    for index in range(8):
        np.testing.assert_array_equal(found.defect_maps[index], out.defect_map[index, 0])
        np.testing.assert_array_equal(found.cams[index], out.anomaly_map[index, 0])
    shapes = [one.shape for one in predict(detector, folder).cams]
    assert shapes == [SIZES[name] for name in sorted(SIZES)]


def test_no_image_at_all(model: GAINMTL) -> None:
    found = predict(model, [])
    assert found.table.columns.equals(predict(model, torch.rand(1, 3, 64, 64)).table.columns)
    assert len(found.table) == len(found.defect_maps) == len(found.cams) == 0


@pytest.mark.parametrize("name", ["absent", "absent.png"])
def test_no_such_file_or_folder(model: GAINMTL, name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"image file or a folder .*{name}; there is no"):
        predict(model, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        predict(model, tmp_path)


def test_unreadable_file(model: GAINMTL, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(ValueError, match=r"broken\.png"):
        predict(model, tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 64, 64), r"expected images \(B, 3, H, W\), got \(1, 64, 64\)"),
        (torch.zeros(2, 1, 64, 64), r"got \(1, 64, 64\); repeat a grey channel"),
        (torch.full((1, 3, 64, 64), 255.0), r"values in \[0, 1\], got 255 to 255; don't"),
        (torch.full((1, 3, 64, 64), float("nan")), r"values in \[0, 1\]"),
    ],
)
def test_impossible_tensors(model: GAINMTL, images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(model, images)


def test_an_untrained_model(folder: Path) -> None:
    with pytest.raises(ValueError, match="got one without image_size; fit it"):
        predict(GAINMTL("test_efficientnet", "S1"), folder)
