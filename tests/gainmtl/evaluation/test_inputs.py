"""What `predict` takes: every form of a picture gives what the same picture in a file gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gainmtl.evaluation.prediction import predict
from gainmtl.model import GAINMTL
from gainmtl.types import Outputs

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S2")
    model.image_size = 64
    return model.eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a.png", lambda path: path),
        ("a.png", lambda path: str(path)),
        ("a.png", lambda path: [str(path)]),
        ("a.png", lambda path: (p for p in [path])),
        ("image 0", lambda path: Image.open(path)),
        ("image 0", lambda path: (Image.open(path),)),
        ("image 0", lambda path: PIXELS),
        ("image 0", lambda path: PIXELS[None]),
        ("image 0", lambda path: [PIXELS]),
        ("image 0", lambda path: TENSOR),
        ("image 0", lambda path: TENSOR[None]),
        ("image 0", lambda path: (tensor for tensor in [TENSOR])),
    ],
)
def test_a_picture_in_any_form(
    name: str, given: Callable[[Path], Any], model: GAINMTL, file: Path
) -> None:
    expected, found = predict(model, file.parent), predict(model, given(file))
    columns = expected.table.columns.drop("name")
    assert found.table[columns].equals(expected.table[columns])
    assert found.defect_maps[0].shape == (40, 56)
    np.testing.assert_array_equal(found.defect_maps[0], expected.defect_maps[0])
    assert found.table["name"].tolist() == [name]


@pytest.mark.parametrize(
    "kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8]
)
def test_tensors_of_any_type(kind: torch.dtype, model: GAINMTL) -> None:
    """The values k/8 are exact in every type; as uint8 they are 255 k/8, rounded."""
    eighths = torch.arange(9).repeat(3 * 64 * 64)[: 3 * 64 * 64].view(1, 3, 64, 64) / 8
    given = (eighths * 255).round().to(kind) if kind == torch.uint8 else eighths.to(kind)
    score = predict(model, given).table["defect_probability"][0]
    expected = predict(model, eighths).table["defect_probability"][0]
    assert score == pytest.approx(expected, abs=1e-3 if kind == torch.uint8 else 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_pil_pictures_of_any_mode(mode: str, model: GAINMTL, tmp_path: Path) -> None:
    grey = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    picture = grey if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    picture.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    expected, found = predict(model, tmp_path), predict(model, picture)
    assert found.table["defect_probability"].equals(expected.table["defect_probability"])


def test_a_pil_picture_is_turned_upright(model: GAINMTL, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    found = predict(model, Image.open(tmp_path / "a.png"))
    assert found.defect_maps[0].shape == (56, 40)
    np.testing.assert_array_equal(found.defect_maps[0], predict(model, tmp_path).defect_maps[0])


def test_pictures_of_unequal_sizes(model: GAINMTL, file: Path) -> None:
    """A picture of another size is resized as a file is, so each is judged as if it were alone."""
    given = [file, PIXELS[:30], TENSOR[:, :, :20], TENSOR.double() / 255, PIXELS[..., :1]]
    found = predict(model, given, batch_size=2)
    assert [m.shape for m in found.defect_maps] == [(40, 56), (30, 56), (40, 20), (40, 56),
                                                    (40, 56)]  # fmt: skip
    assert found.table["name"].tolist() == ["a.png", *(f"image {i}" for i in range(1, 5))]
    alone = [predict(model, one).table["defect_probability"][0] for one in given]
    np.testing.assert_allclose(found.table["defect_probability"], alone, atol=1e-6)


def test_unequal_tensors_for_a_model_without_a_size() -> None:
    model = GAINMTL("test_efficientnet", "S1")
    with pytest.raises(ValueError, match="one size for a model without image_size, got 40 x 20, "):
        predict(model, [TENSOR, TENSOR[:, :, :20]])


def test_a_generator_is_read_batch_by_batch(model: GAINMTL) -> None:
    read: list[int] = []
    seen: list[int] = []
    hook = model.register_forward_hook(lambda *_: seen.append(len(read)))
    predict(model, (read.append(i) or PIXELS for i in range(5)), batch_size=2)  # type: ignore[func-returns-value]
    hook.remove()
    assert seen == [2, 4, 5]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (7, TypeError, "expected a folder, a file, a PIL picture.*, got int"),
        ([None], TypeError, "one of them is of type NoneType"),
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"\(H, W, 3\), got \(3, 8, 9\); channels come"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"got \(8, 8, 4\)"),
        (np.zeros((8, 8), np.uint16), ValueError, r"uint8, or floating-point.*got torch\.uint16"),
        (np.zeros((8, 8), bool), ValueError, "uint8, or floating-point"),
        (np.full((8, 8), 255.0), ValueError, r"values in \[0, 1\], got 255 to 255"),
        ([torch.full((3, 8, 8), 255.0)], ValueError, r"values in \[0, 1\], got 255 to 255"),
        ([torch.full((3, 8, 8), torch.nan)], ValueError, r"values in \[0, 1\]"),
        (torch.zeros(3, 0, 8), ValueError, "images with pixels"),
        (Image.fromarray(np.zeros((8, 8), np.float32)), ValueError, "8 or 16 bits"),
    ],
)
def test_what_is_not_taken(images: Any, error: type[Exception], message: str, model: Any) -> None:
    with pytest.raises(error, match=message):
        predict(model, images)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8", None])
def test_batch_size(model: GAINMTL, size: Any) -> None:
    with pytest.raises(ValueError, match=f"batch_size: expected a whole number .*, got {size!r}"):
        predict(model, PIXELS, batch_size=size)


def test_an_error_in_the_middle_leaves_every_module_in_its_mode(model: GAINMTL) -> None:
    model.train()
    model.backbone.eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(TypeError):
        predict(model, [PIXELS, 7], batch_size=1)
    assert [module.training for module in model.modules()] == before
    model.eval()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_score_or_threshold_that_is_not_finite_is_no_verdict(
    bad: float, model: GAINMTL, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model.forward

    def broken(images: torch.Tensor) -> Outputs:
        out = forward(images)
        assert isinstance(out, Outputs)
        logits = out.logits.clone()
        logits[1] = bad
        return out._replace(logits=logits)

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", broken)
        with pytest.raises(ValueError, match=r"finite scores, found 1 of 3 .*\(index 1\)"):
            predict(model, [PIXELS] * 3)
    monkeypatch.setattr(model, "threshold", bad)
    with pytest.raises(ValueError, match=r"threshold: expected a number in \[0, 1\].* fit the mod"):
        predict(model, PIXELS)
