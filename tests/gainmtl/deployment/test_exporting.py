"""Exported models: outputs as in torch for any batch, the description, and impossible exports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch

import gainmtl
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.scores import detector_outputs
from gainmtl.baselines.fcos import BoxDetector
from gainmtl.baselines.unet import UNet
from gainmtl.deployment import describe
from gainmtl.deployment.exporting import _check
from gainmtl.deployment.graph import Graph
from gainmtl.packaged_weights import PACKAGES
from gainmtl.runner import OnnxModel, OnnxOutputs

BACKBONE, SIZE = "test_efficientnet", 64


def draw(count: int, seed: int = 0) -> torch.Tensor:
    """Grey parts with a square spot of another brightness, (B, 3, S, S) uint8."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 130, (count, 3, SIZE, SIZE), generator=generator).byte()
    for image in images:
        row, column, value = torch.randint(0, 40, (3,), generator=generator).tolist()
        image[:, row : row + 20, column : column + 20] = 6 * value
    return images


def classifier(strategy: str, **options: Any) -> Any:
    return gainmtl.GAINMTL(BACKBONE, strategy, width=16, **options)


def of_types(strategy: str) -> Any:
    return classifier(strategy, num_classes=3, classes=("normal", "crack", "stain"))


def boxes() -> BoxDetector:
    model = BoxDetector(BACKBONE, width=32, convolutions=1)
    model.fcos.head.classification_head.cls_logits.bias.data.fill_(1.0)  # else no box is painted
    return model


def student() -> Any:
    return gainmtl.ReverseDistillation("test_resnet", balanced=True, flat_field=0.1)


MODELS: dict[str, Callable[[], Any]] = {
    "S1": lambda: classifier("S1"),
    "S5": lambda: classifier("S5"),
    "S1, types": lambda: of_types("S1"),
    "S2, types": lambda: of_types("S2"),
    "S5, types": lambda: of_types("S5"),
    "attention branch": lambda: gainmtl.AttentionBranchNetwork(BACKBONE, output_stride=8),
    "unet": lambda: UNet(BACKBONE, decoder=(16, 16, 8, 8, 8)),
    "boxes": boxes,
    "memory bank": lambda: gainmtl.MemoryBank(BACKBONE, size=50),
    "reverse distillation": student,
}


class Exported(NamedTuple):
    model: Any
    file: OnnxModel
    path: Path


QUICK = ("S5", "S1, types", "boxes", "memory bank")
"""An export takes about ten seconds; the others are tested by `make test-all`."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in MODELS
    ],
)
def exported(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Random weights, the batch statistics of a few images, and a threshold among the scores."""
    torch.manual_seed(0)
    model, images = MODELS[request.param](), draw(12, seed=1)
    scaled = images.float() / 255
    if isinstance(model, gainmtl.MemoryBank):
        # Of other images: near 0 the distance is a difference of large numbers.
        model.fill([draw(4, seed=2).float() / 255], 4)
    for _ in range(20):
        model.train()(model.preprocess(scaled))
    model.eval()
    if isinstance(model, Detector):
        model.balance([scaled])
        scores = detector_outputs(model, scaled).anomaly_score.double()
        model.set_scale(scores, between(scores))
    else:
        with torch.no_grad():
            logits = model(model.preprocess(scaled)).logits
        model.threshold = between(1 - logits.double().softmax(1)[:, 0])
    model.image_size = SIZE
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(path.parent))
        assert gainmtl.export(model, "~/model.onnx") == path
    return Exported(model, OnnxModel(path, threads=1), path)


def between(scores: torch.Tensor) -> float:
    """The middle of the two neighbours among the scores that are farthest apart."""
    ordered = scores.sort().values[2:-2]
    gap = int(ordered.diff().argmax())
    return float(ordered[gap : gap + 2].mean())


def in_torch(model: Any, images: torch.Tensor) -> OnnxOutputs:
    """By `predict`, which has other code than the graph."""
    found = gainmtl.predict(model, images.float() / 255)
    return OnnxOutputs(
        found.table["defect_probability"].to_numpy(),
        (found.table["verdict"] == "defective").to_numpy(),
        np.stack(found.defect_maps)[:, None],
        np.stack(found.cams)[:, None] if found.cams else None,
    )


@pytest.mark.parametrize("count", [1, 3, 12])
def test_outputs_are_those_of_torch(exported: Exported, count: int) -> None:
    images = draw(count, seed=1)
    wanted, found = in_torch(exported.model, images), exported.file(images.numpy())
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-5)
    assert found.verdict.tolist() == wanted.verdict.tolist()
    assert found.defect_map.shape == (count, 1, SIZE, SIZE)
    np.testing.assert_allclose(found.defect_map, wanted.defect_map, atol=1e-4)
    if wanted.evidence_map is None:
        assert found.evidence_map is None
    else:
        np.testing.assert_allclose(found.evidence_map, wanted.evidence_map, atol=1e-4, rtol=1e-4)
    if count == 12:  # else equal outputs would prove little
        assert set(found.verdict.tolist()) == {True, False}
        assert found.probability.std() > 0
        assert np.ptp(found.defect_map) > 0


def test_an_images_outputs_do_not_depend_on_its_batch(exported: Exported) -> None:
    images = draw(12, seed=1)
    alone, together = exported.file(images[4:5].numpy()), exported.file(images.numpy())
    np.testing.assert_allclose(alone.probability, together.probability[4:5], atol=1e-6)
    np.testing.assert_allclose(alone.defect_map, together.defect_map[4:5], atol=1e-5)


def test_the_description(exported: Exported) -> None:
    model, found = exported.model, exported.file.description
    assert found == describe(model)
    assert found["classes"] == list(getattr(model, "classes", ("normal", "defective")))
    assert (found["image_size"], found["resize"], found["precision"]) == (SIZE, "squash", "float32")
    assert (exported.file.image_size, exported.file.resize) == (SIZE, "squash")
    assert len(found["mean"]) == len(found["std"]) == 3
    assert found["initial_weights"] is None
    assert found["licence"] is None
    if isinstance(model, Detector):
        assert (found["threshold"], found["score_threshold"]) == (0.5, model.threshold)
        assert found["kind"] == model.kind
    else:
        assert found["threshold"] == exported.file.threshold == model.threshold
        assert found["kind"] == (model.kind or "gainmtl")


def test_the_file_holds_no_path_of_this_machine(exported: Exported) -> None:
    content = exported.path.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(gainmtl.__file__).parent).encode() not in content


def test_names_and_types_of_the_graph(exported: Exported) -> None:
    graph = onnx.load(exported.path).graph
    (given,) = graph.input
    assert given.name == "images"
    kinds = [one.dim_param or one.dim_value for one in given.type.tensor_type.shape.dim]
    assert kinds[1:] == [3, SIZE, SIZE]
    assert isinstance(kinds[0], str)  # any number of images
    names = [output.name for output in graph.output]
    assert names[:3] == ["probability", "verdict", "defect_map"]
    assert names[3:] in ([], ["evidence_map"])


@pytest.fixture
def trained() -> Any:
    torch.manual_seed(0)
    model = classifier("S1").eval()
    model.image_size = SIZE
    return model


def test_the_licence_of_the_weights(trained: Any) -> None:
    assert describe(trained, "by agreement")["licence"] == "by agreement"
    package = next(iter(PACKAGES.values()))
    trained.backbone.initial_weights = f"sha256:{package.converted}"
    assert describe(trained)["licence"] == "apache-2.0"
    trained.backbone.initial_weights = f"sha256:{'0' * 64}"
    assert describe(trained)["licence"] is None
    trained.backbone.initial_weights = "imagenet"
    trained.backbone.timm.pretrained_cfg["license"] = "cc-by-nc-4.0"
    assert describe(trained)["licence"] == "cc-by-nc-4.0"


def test_impossible_exports(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"ends in \.onnx, got model\.pt"):
        gainmtl.export(trained, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="without image_size or finite threshold"):
        gainmtl.export(classifier("S1"), tmp_path / "model.onnx")
    bank = gainmtl.MemoryBank(BACKBONE)
    bank.image_size = SIZE
    with pytest.raises(ValueError, match="without image_size or finite threshold"):
        gainmtl.export(bank, tmp_path / "model.onnx")
    for name in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match="gainmtl.onnx"):
                gainmtl.export(trained, tmp_path / "model.onnx")
    with pytest.raises(TypeError, match=r"expected a model of class .*, got str; .*gainmtl\.load"):
        gainmtl.export("model.safetensors", tmp_path / "model.onnx")  # type: ignore[arg-type]
    trained.threshold = 1.5
    with pytest.raises(ValueError, match=r"threshold: expected a number in \[0, 1\], got 1\.5"):
        gainmtl.export(trained, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_outputs_is_refused(exported: Exported) -> None:
    graph, images = Graph(exported.model), draw(3)
    _check(exported.file, graph, images)
    for values in graph.parameters():
        values.data += 0.5
    with pytest.raises(ValueError, match="of the model's, found differences of"):
        _check(exported.file, graph, images)


@pytest.mark.slow
def test_weights_that_are_not_finite(trained: Any, tmp_path: Path) -> None:
    next(trained.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="fails for 3 images .Expected finite probabilities"):
        gainmtl.export(trained, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_torch_cannot_export(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained.forward
    monkeypatch.setattr(  # a branch that depends on the values of a tensor
        type(trained), "forward", lambda self, x: plain(x) if x.mean() > -1e9 else plain(-x)
    )
    with pytest.raises(ValueError, match=f"torch can't export {BACKBONE} "):
        gainmtl.export(trained, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
