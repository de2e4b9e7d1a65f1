"""8-bit convolutions: a smaller file, close outputs, and a description of what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import gainmtl
from gainmtl.datasets import load
from gainmtl.deployment import quantize
from gainmtl.runner import OnnxModel

SIZE = 64


@pytest.fixture(scope="module")
def images() -> Any:
    return load("synthetic", image_size=SIZE, train=20, val=4, test=4).train


@pytest.fixture(scope="module")
def file(images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_resnet", "S5", width=16).train()
    for _ in range(20):  # statistics of the batch norms
        model(model.preprocess(torch.stack([images[i].image for i in range(20)])))
    model.eval().image_size = SIZE
    return gainmtl.export(model, tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def small(file: Path, images: Any) -> Path:
    output = file.with_name("small.onnx")
    assert quantize(file, images, output, images=12) == output
    return output


def test_a_smaller_file_with_close_outputs(file: Path, small: Path, images: Any) -> None:
    assert small.stat().st_size < 0.5 * file.stat().st_size
    pixels = np.stack([(images[i].image * 255).round().byte().numpy() for i in range(20)])
    whole, rounded = OnnxModel(file)(pixels), OnnxModel(small)(pixels)
    difference = np.abs(whole.probability - rounded.probability)
    assert 0 < difference.max() < 0.05
    assert np.abs(whole.defect_map - rounded.defect_map).mean() < 0.02
    for count in (1, 3):
        again = OnnxModel(small)(pixels[:count])
        np.testing.assert_allclose(again.probability, rounded.probability[:count], atol=1e-6)


def test_weights_have_seven_bits_and_a_scale_per_channel(small: Path) -> None:
    graph = onnx.load(small).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    weights = [values for values in arrays.values() if values.dtype == np.int8 and values.ndim == 4]
    # A layer that is used twice has one array of weights.
    read = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    assert len(weights) == len(read) > 5
    assert all(name.endswith("_DequantizeLinear_Output") for name in read)
    assert all(-64 <= values.min() and values.max() <= 64 for values in weights)
    per_channel = [v for name, v in arrays.items() if name.endswith("_scale") and v.ndim == 1]
    assert max(len(values) for values in per_channel) > 1


def test_the_description_is_kept(file: Path, small: Path) -> None:
    before, after = OnnxModel(file).description, OnnxModel(small).description
    assert after.pop("precision") == "int8"
    assert after.pop("calibration_images") == 12
    assert before.pop("precision") == "float32"
    assert after == before


def test_impossible_calibrations(file: Path, images: Any, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    with pytest.raises(ValueError, match=r"expected at least one image, got 20 and images=0"):
        quantize(file, images, output, images=0)
    other: Any = load("synthetic", image_size=32, train=4, val=4, test=4).train
    with pytest.raises(ValueError, match=r"\(3, 64, 64\) as the model, got \(3, 32, 32\)"):
        quantize(file, other, output)
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        quantize(tmp_path / "absent.onnx", images, output)
    assert list(tmp_path.iterdir()) == []
