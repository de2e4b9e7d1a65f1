"""A hundred bad inputs: each ends in a sentence with what was expected, what was found, what to do.

pytest tests/robustness/test_bad_inputs.py
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gainbook.lab.parameters import check_parameters
from PIL import Image
from safetensors.torch import save_file

import gainmtl
from gainmtl import datasets
from gainmtl.datasets import Data
from gainmtl.runner import OnnxModel, predict_folder, read_pixels

Bad = Callable[["Place"], object]
RAW = (KeyError, IndexError, AttributeError, AssertionError, UnicodeError)
"""Errors that show where the code failed and not what is wrong."""


WANTED = re.compile(r"[Ee]xpected|needs|[Gg]ive |Leave it out|[Rr]estore|a recipe has|written by")
FOUND = re.compile(
    r"found|got|holds|has |is |but |can't|No |does not|there is no|unknown|another|system reports"
)


class Place:
    """A folder with good parts, a model and its data, for one test to spoil."""

    def __init__(self, root: Path, model: gainmtl.GAINMTL, data: Data) -> None:
        self.root, self.model, self.data = root, model, data
        self.parts = root / "parts"

    def load(self, name: str = "folder", **options: Any) -> Data:
        return datasets.load(name, self.parts, **{"image_size": 32, **options})

    def write(self, name: str, content: bytes | str = b"") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def fit(self, **options: Any) -> object:
        settings = {"epochs": 1, "accelerator": "cpu", "progress": False, **options}
        return gainmtl.fit(self.model, self.data, **settings)

    def predict(self, images: Any, **options: Any) -> object:
        return gainmtl.predict(self.model, images, **options)


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture(scope="module")
def trained() -> tuple[gainmtl.GAINMTL, Data]:
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_efficientnet", "S1", width=16).eval()
    data = datasets.load("synthetic", image_size=32, train=16, val=8, test=4)
    model.image_size, model.resize, model.threshold = 32, data.resize, 0.5
    return model, data


@pytest.fixture
def place(tmp_path: Path, trained: tuple[gainmtl.GAINMTL, Data]) -> Place:
    for k in range(12):
        kind = "normal" if k < 6 else "defective"
        picture(tmp_path / f"parts/images/{kind}/{k}.png")
        if k >= 6:
            mask = Image.new("L", (32, 32))
            mask.paste(255, (4, 4, 9, 9))
            (tmp_path / "parts/masks/defective").mkdir(parents=True, exist_ok=True)
            mask.save(tmp_path / f"parts/masks/defective/{k}.png")
    return Place(tmp_path, *trained)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
DAMAGED: dict[str, bytes] = {
    "empty": b"", "text": b"no image at all", "cut": PNG, "html": b"<html>404</html>",
    "jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 80,
}  # fmt: skip
CASES: dict[str, Bad] = {}


def read_damaged(place: Place, content: bytes, reader: str) -> object:
    name = "parts/images/defective/6.png" if reader == "load" else "bad.png"
    path = place.write(name, content)
    if reader == "load":
        return [sample.image for sample in place.load().train]  # type: ignore[attr-defined]
    if reader == "predict":
        return place.predict(path)
    return read_pixels(path)


for kind, content in DAMAGED.items():
    for reader in ("load", "predict", "runner"):
        CASES[f"{kind} file, {reader}"] = lambda p, c=content, r=reader: read_damaged(p, c, r)


def float_tiff(place: Place) -> object:
    path = place.root / "bad.tif"
    Image.fromarray(np.zeros((20, 20), np.float32)).save(path)
    return place.predict(path)


def other_mask(place: Place, make: Callable[[Path], object]) -> object:
    make(place.parts / "masks/defective/7.png")
    return place.load()


def groups(place: Place, text: str) -> object:
    place.write("parts/images/groups.csv", text)
    return place.load()


def remove(place: Place, pattern: str) -> object:
    for path in place.parts.glob(pattern):
        path.unlink()
    return place.load()


def tensors(place: Place, values: dict[str, torch.Tensor]) -> Path:
    path = place.root / "weights.safetensors"
    save_file(values, path)
    return path


def stored(place: Place, spoil: Callable[[Path, Path], object]) -> object:
    path = gainmtl.save(place.model, place.root / "saved/model")
    spoil(path, path.with_suffix(".json"))
    return gainmtl.load(path)


def foreign(place: Place) -> object:
    return stored(place, lambda weights, _: save_file({"a": torch.ones(1)}, weights))


def other_run(place: Place, **options: Any) -> object:
    place.fit(output_dir=place.root / "run")
    return place.fit(**{"output_dir": place.root / "run", **options})


def notebook(place: Place, **changed: Any) -> object:
    given: dict[str, Any] = {
        "dataset": "synthetic", "data_root": None, "image_size": 64, "backbone": "resnet18",
        "weights": None, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "folds": 2,
        "seeds": 0, "accelerator": "cpu", "devices": 1, "precision": "32-true",
        "output_dir": "runs/x",
    }  # fmt: skip
    return check_parameters({**given, **changed}, "10_ablation")


@functools.cache
def exported(model: gainmtl.GAINMTL) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return gainmtl.export(model, Path(folder) / "m.onnx").read_bytes()


def verdicts(place: Place, **options: Any) -> object:
    path = place.write("m.onnx", exported(place.model))
    given = {"folder": place.parts / "images", "output": place.root / "v.csv", **options}
    return predict_folder(OnnxModel(path), **given)


nan = float("nan")
CASES |= {
    "floating-point TIFF": float_tiff,
    # masks
    "mask of another size": lambda p: other_mask(p, lambda m: picture(m, "L", (20, 32))),
    "mask that is text": lambda p: other_mask(p, lambda m: m.write_text("mask")),
    "empty mask file": lambda p: other_mask(p, lambda m: m.write_bytes(b"")),
    # folders and layouts
    "no such folder": lambda p: datasets.load("folder", p.root / "absent"),
    "a file as folder": lambda p: datasets.load("folder", p.write("file")),
    "no root": lambda p: datasets.load("folder"),
    "unknown data set": lambda p: datasets.load("fodler", p.parts),
    "another layout": lambda p: p.load("mvtec"),
    "visa without its tree": lambda p: p.load("visa"),
    "tiles without their tree": lambda p: p.load("magnetic-tile"),
    "boards without their tree": lambda p: p.load("deep-pcb"),
    "no normal image": lambda p: remove(p, "images/normal/*"),
    "no defective image": lambda p: remove(p, "images/defective/*"),
    "no image": lambda p: remove(p, "images/*/*"),
    "too few parts": lambda p: remove(p, "images/defective/[789].png"),
    "category of none": lambda p: p.load(category="bottle"),
    "fold too high": lambda p: p.load(fold=9),
    "negative fold": lambda p: p.load(fold=-1),
    "one fold": lambda p: p.load(folds=1),
    "too many folds": lambda p: p.load(folds=100),
    "size 0": lambda p: p.load(image_size=0),
    "negative size": lambda p: p.load(image_size=-32),
    "fractional size": lambda p: p.load(image_size=32.5),
    "unknown resize": lambda p: p.load(resize="stretch"),
    "unknown split": lambda p: p.load(split="random!"),
    "validation 1": lambda p: p.load(validation=1.0),
    "groups without columns": lambda p: groups(p, "a,b\n1,2\n"),
    "groups of some images": lambda p: groups(p, "image,group\nnormal/0.png,a\n"),
    "two groups of one image": lambda p: groups(p, "image,group\nnormal/0.png,a\nnormal/0.png,b\n"),
    "empty groups": lambda p: groups(p, ""),
    # images to predict
    "missing image": lambda p: p.predict(p.root / "absent.png"),
    "missing image in a list": lambda p: p.predict([p.root / "absent.png"]),
    "empty folder": lambda p: p.predict(p.write("e/x.txt").parent),
    "values above 1": lambda p: p.predict(torch.full((1, 3, 32, 32), 7.0)),
    "NaN pixels": lambda p: p.predict(torch.full((1, 3, 32, 32), nan)),
    "negative pixels": lambda p: p.predict(-torch.ones(1, 3, 32, 32)),
    "one dimension": lambda p: p.predict(torch.rand(32)),
    "five dimensions": lambda p: p.predict(torch.rand(1, 1, 3, 32, 32)),
    "two channels": lambda p: p.predict(torch.rand(1, 2, 32, 32)),
    "an array of texts": lambda p: p.predict(np.array([["a"]])),
    "complex numbers": lambda p: p.predict(np.ones((8, 8), complex)),
    "a number": lambda p: p.predict(3),
    "None": lambda p: p.predict(None),
    "batch size 0": lambda p: p.predict(p.parts / "images", batch_size=0),
    "batch size 2.5": lambda p: p.predict(p.parts / "images", batch_size=2.5),
    "a path as model": lambda p: gainmtl.predict("m.safetensors", p.parts),  # type: ignore[arg-type]
    "a path to explain": lambda p: gainmtl.explain(p.model, "x.png"),  # type: ignore[arg-type]
    # data
    "all data to evaluate": lambda p: gainmtl.evaluate(p.model, p.data),  # type: ignore[arg-type]
    "a part to fit": lambda p: gainmtl.fit(p.model, p.data.train),  # type: ignore[arg-type]
    # models
    "unknown backbone": lambda p: gainmtl.GAINMTL("resnet_18"),
    "unknown strategy": lambda p: gainmtl.GAINMTL("test_efficientnet", "S9"),
    "no name for normal": lambda p: gainmtl.GAINMTL(
        "test_efficientnet", "S1", num_classes=3, classes=("a", "b", "c")
    ),
    "no channels": lambda p: gainmtl.GAINMTL("test_efficientnet", "S5", width=0),
    "missing weights": lambda p: gainmtl.GAINMTL("test_efficientnet", "S1", "absent.safetensors"),
    "pickled weights": lambda p: gainmtl.GAINMTL("test_efficientnet", "S1", str(p.write("w.pth"))),
    "empty weights": lambda p: gainmtl.GAINMTL(
        "test_efficientnet", "S1", str(p.write("w.safetensors"))
    ),
    "other weights": lambda p: gainmtl.GAINMTL(
        "test_efficientnet", "S1", str(tensors(p, {"a": torch.ones(2)}))
    ),
    "packaged weights of none": lambda p: gainmtl.GAINMTL("resnet18", "S1", "package"),
    "missing model": lambda p: gainmtl.load(p.root / "absent"),
    "cut model": lambda p: stored(p, lambda w, d: w.write_bytes(w.read_bytes()[:200])),
    "empty model": lambda p: stored(p, lambda w, d: w.write_bytes(b"")),
    "model without description": lambda p: stored(p, lambda w, d: d.unlink()),
    "cut description": lambda p: stored(p, lambda w, d: d.write_text(d.read_text()[:90])),
    "description without keys": lambda p: stored(p, lambda w, d: d.write_text("{}")),
    "description that is a list": lambda p: stored(p, lambda w, d: d.write_text("[1]")),
    "weights of another model": foreign,
    # training
    "unknown argument": lambda p: p.fit(learning_rat=1e-3),
    "negative rate": lambda p: p.fit(learning_rate=-1.0),
    "rate that is NaN": lambda p: p.fit(learning_rate=nan),
    "rate as text": lambda p: p.fit(learning_rate="1e-3"),
    "negative seed": lambda p: p.fit(seed=-1),
    "seed beyond 64 bits": lambda p: p.fit(seed=2**70),
    "accelerator without its package": lambda p: p.fit(accelerator="tpu"),
    "no epochs": lambda p: p.fit(epochs=0),
    "batch of 0": lambda p: p.fit(batch_size=0),
    "unknown precision": lambda p: p.fit(precision="8-bit"),
    "unknown accelerator": lambda p: p.fit(accelerator="abacus"),
    "too many devices": lambda p: p.fit(accelerator="cuda", devices=99),
    "unknown augmentation": lambda p: p.fit(augmentation="wild"),
    "unknown keep": lambda p: p.fit(keep="worst"),
    "false alarms of 2": lambda p: p.fit(max_false_alarms=2.0),
    "output that is a file": lambda p: p.fit(output_dir=p.write("file")),
    "output below a file": lambda p: p.fit(output_dir=p.write("file") / "run"),
    "run of another seed": lambda p: other_run(p, seed=5),
    "run of other epochs": lambda p: other_run(p, epochs=2),
    "detector without epochs": lambda p: gainmtl.fit_detector(
        gainmtl.ReverseDistillation("test_efficientnet"), p.data, epochs=0
    ),
    # notebooks
    "epochs 0": lambda p: notebook(p, epochs=0),
    "epochs as text": lambda p: notebook(p, epochs="many"),
    "size 31": lambda p: notebook(p, image_size=1),
    "a misspelt backbone": lambda p: notebook(p, backbone=18),
    "rate 0": lambda p: notebook(p, learning_rate=0.0),
    "rate as a word": lambda p: notebook(p, learning_rate="fast"),
    "no seeds": lambda p: notebook(p, seeds=[]),
    "a seed as text": lambda p: notebook(p, seeds="a"),
    "output as number": lambda p: notebook(p, output_dir=2024),
    "negative batch": lambda p: notebook(p, batch_size=-8),
    "unknown dataset type": lambda p: notebook(p, dataset=5),
    "fold list": lambda p: notebook(p, folds=[1, 2]),
    # export and the line
    "untrained export": lambda p: gainmtl.export(
        gainmtl.GAINMTL("test_efficientnet", "S1"), p.root / "m.onnx"
    ),
    "missing ONNX file": lambda p: OnnxModel(p.root / "absent.onnx"),
    "empty ONNX file": lambda p: OnnxModel(p.write("m.onnx")),
    "text as ONNX file": lambda p: OnnxModel(p.write("m.onnx", "model")),
    "no folder to judge": lambda p: verdicts(p, folder=p.root / "absent"),
    "folder without images": lambda p: verdicts(p, folder=p.write("e/x.txt").parent),
    "batches of 0": lambda p: verdicts(p, batch_size=0),
    "maps among the images": lambda p: verdicts(p, maps=p.parts / "images/maps"),
}  # fmt: skip


def test_there_are_a_hundred() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_input_ends_in_a_sentence(name: str, place: Place) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        CASES[name](place)
    error = caught.value
    words = " ".join(str(error).split())
    assert not isinstance(error, RAW), repr(error)
    assert type(error).__module__ == "builtins", repr(error)
    assert len(words) > 30, repr(error)
    assert WANTED.search(words), words
    assert FOUND.search(words), words
