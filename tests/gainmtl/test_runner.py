"""The runner: the pixels and maps of the training code, a table by hand, and no torch."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gainmtl import runner
from gainmtl.__main__ import main
from gainmtl.datasets import transforms
from gainmtl.runner import AHEAD, OnnxModel, predict_folder

SIZE, THRESHOLD = 8, 0.5
EXACT = torch.backends.cpu.get_cpu_capability().startswith("AVX")
"""Whether torchvision resizes uint8 in integers; elsewhere a pixel may differ by 1."""


def write_model(path: Path, **changes: Any) -> Path:
    """A model by hand: the map is the mean of the channels / 255, the probability its mean."""
    described = {"threshold": THRESHOLD, "image_size": SIZE, "resize": "squash", **changes}
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "channel"], ["defect_map"], keepdims=1),
        helper.make_node("ReduceMean", ["defect_map", "all"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["probability"], to=TensorProto.DOUBLE),
        helper.make_node("GreaterOrEqual", ["probability", "threshold"], ["verdict"]),
    ]
    constants: dict[str, Any] = {
        "scale": np.float32(255), "channel": [1], "all": [1, 2, 3], "threshold": float(THRESHOLD),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["B"]),
            helper.make_tensor_value_info("verdict", TensorProto.BOOL, ["B"]),
            helper.make_tensor_value_info("defect_map", TensorProto.FLOAT, ["B", 1, SIZE, SIZE]),
        ],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    if described["threshold"] is not None:
        helper.set_model_props(model, {runner.METADATA_KEY: json.dumps(described)})
    onnx.save(model, path)
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five grey images, of which two are bright; the fourth in the order can't be read."""
    greys = {"a.png": 0, "b.png": 255, "c.png": 51, "e.png": 204, "sub/f ü.png": 102}
    for name, grey in greys.items():
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 6), grey).save(path)
    (tmp_path / "parts/d.png").write_bytes(b"\x89PNG but no more")
    (tmp_path / "parts/notes.txt").write_text("no image")
    return tmp_path / "parts"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("seed", range(25))
def test_pixels_are_those_of_training(seed: int, mode: str) -> None:
    height, width, size = np.random.default_rng(seed).integers((1, 1, 8), (300, 300, 130))
    pixels = noise(seed, height, width, 3)
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    wanted = transforms.resize_pair(image, None, int(size), mode)[0].permute(1, 2, 0).numpy()
    found = runner.resize_pixels(pixels, int(size), mode)
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= (0 if EXACT else 1)


def test_resized_by_hand() -> None:
    # Twice as small: a triangle of 4 pixels with the weights 1, 3, 3, 1; at an edge 3, 3, 1.
    row = np.array([0, 70, 140, 240], np.uint8)
    pixels = np.broadcast_to(row[None, :, None], (4, 4, 3))
    assert runner.resize_pixels(pixels, 2)[0, :, 0].tolist() == [50, 173]  # 350 / 7, 1210 / 7
    assert (runner.resize_pixels(pixels, 4) == pixels).all()


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("original", [(20, 90), (64, 64), (400, 130), (1, 7)])
def test_maps_return_as_in_training(original: tuple[int, int], mode: str) -> None:
    values = np.random.default_rng(0).random((64, 64), np.float32)
    wanted = transforms.restore_map(torch.from_numpy(values)[None], original, mode)[0].numpy()
    found = runner.restore_map(values, original, mode)
    assert found.shape == original
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_kinds_of_files(tmp_path: Path) -> None:
    ramp = np.array([[0, 64, 128], [192, 254, 255]], np.uint8)
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert (runner.read_pixels(tmp_path / "deep.png") == ramp[..., None]).all()
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    clear.putpixel((1, 0), (10, 20, 30, 0))
    clear.save(tmp_path / "clear.png")
    assert runner.read_pixels(tmp_path / "clear.png").tolist() == [[[10, 20, 30], [0, 0, 0]]]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 128, 4, 9])
    palette.save(tmp_path / "palette.png")
    assert runner.read_pixels(tmp_path / "palette.png").tolist() == [[[128, 4, 9]]]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(ramp).save(tmp_path / "turned.png", exif=exif)
    assert (runner.read_pixels(tmp_path / "turned.png")[..., 0] == np.rot90(ramp, -1)).all()
    with pytest.raises(FileNotFoundError, match="no such file"):
        runner.read_pixels(tmp_path / "absent.png")


def test_the_table_by_hand(
    model_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "verdicts.csv"
    found = predict_folder(OnnxModel(model_file), folder, output, tmp_path / "maps", batch_size=2)
    assert found == (6, 2, 1)
    assert "d.png" in capsys.readouterr().err
    rows = read(output)
    assert tuple(rows[0]) == runner.COLUMNS
    assert [row["name"] for row in rows] == ["a.png", "b.png", "c.png", "d.png", "e.png",
                                             "sub/f ü.png"]  # fmt: skip
    verdicts = ["normal", "defective", "normal", "unreadable", "defective", "normal"]
    assert [row["verdict"] for row in rows] == verdicts
    shares = [0, 1, 0.2, None, 0.8, 0.4]
    for row, share in zip(rows, shares, strict=True):
        if share is None:
            assert set(row.values()) == {"d.png", "unreadable", ""}
            continue
        assert float(row["defect_probability"]) == pytest.approx(share, abs=1e-6)
        assert float(row["peak"]) == pytest.approx(share, abs=1e-6)
        assert float(row["defect_area"]) == (share >= 0.5)
        assert (row["height"], row["width"], row["threshold"]) == ("6", "12", "0.5")
        with Image.open(output.parent / row["map_file"]) as stored:
            assert stored.size == (12, 6)
            assert stored.getextrema() == (round(255 * share),) * 2
    assert [path.name for path in output.parent.iterdir()] == ["verdicts.csv"]


def test_the_peak_is_at_its_place_in_the_original(model_file: Path, tmp_path: Path) -> None:
    pixels = np.zeros((24, 40), np.uint8)
    pixels[3:6, 30:35] = 255  # the centre of cell (1, 6) of 8 x 8
    (tmp_path / "parts").mkdir()
    Image.fromarray(pixels).save(tmp_path / "parts/a.png")
    predict_folder(OnnxModel(model_file), tmp_path / "parts", tmp_path / "v.csv")
    (row,) = read(tmp_path / "v.csv")
    assert 3 <= int(row["peak_row"]) < 6
    assert 30 <= int(row["peak_column"]) < 35
    assert row["map_file"] == ""


class Interrupted(OnnxModel):
    """Stops at a batch; `left` counts those before it."""

    left = 0
    images = 0

    def __call__(self, images: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.images += len(images)
        return super().__call__(images)


def stop_after(path: Path, batches: int) -> Interrupted:
    model = Interrupted(path)
    model.left = batches
    return model


def test_an_interrupted_run_continues(model_file: Path, folder: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "v.csv"
    predict_folder(OnnxModel(model_file), folder, whole)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(stop_after(model_file, 4), folder, output, batch_size=1)
    assert not output.exists()
    (partial,) = tmp_path.glob(".v.csv.*.part")
    assert len(read(partial)) == 5 - AHEAD  # one of the five files can't be read
    with partial.open("a", encoding="utf-8") as file:
        file.write("e.png,0.9")  # a row that was being written
    again = stop_after(model_file, 9)
    assert predict_folder(again, folder, output, batch_size=2) == (6, 2, 1)
    assert again.images == 2  # of the six
    assert output.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_finished_rows_stay_when_the_next_run_is_killed_at_its_first_write(
    model_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict_folder(stop_after(model_file, 4), folder, tmp_path / "v.csv", batch_size=1)
    (partial,) = tmp_path.glob(".v.csv.*.part")
    before = read(partial)
    assert before

    class Killed(csv.DictWriter):  # type: ignore[type-arg]
        def __init__(self, file: Any, *arguments: Any, **more: Any) -> None:
            if not isinstance(file, io.StringIO):
                raise KeyboardInterrupt
            super().__init__(file, *arguments, **more)

    monkeypatch.setattr(csv, "DictWriter", Killed)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(OnnxModel(model_file), folder, tmp_path / "v.csv", batch_size=1)
    assert read(partial) == before


def test_decoding_and_maps_overlap_with_the_model(
    model_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a stage waits for the one before to finish."""
    third_read, second_judged = threading.Event(), threading.Event()
    read_pixels, write_map = runner.read_pixels, runner._write_map

    def reading(path: Path) -> Any:
        if path.name == "c.png":
            third_read.set()
        return read_pixels(path)

    def writing(defect_map: Any, path: Path) -> None:
        assert path.name != "a.png.map.png" or second_judged.wait(60)
        write_map(defect_map, path)

    class Waiting(OnnxModel):
        calls = 0

        def __call__(self, images: NDArray[np.uint8]) -> Any:
            assert third_read.wait(60)  # while the first is judged
            self.calls += 1
            if self.calls == 2:
                second_judged.set()
            return super().__call__(images)

    monkeypatch.setattr(runner, "read_pixels", reading)
    monkeypatch.setattr(runner, "_write_map", writing)
    output, maps = tmp_path / "v.csv", tmp_path / "maps"
    assert predict_folder(Waiting(model_file), folder, output, maps, 1) == (6, 2, 1)
    assert [row["name"] for row in read(output)] == sorted(row["name"] for row in read(output))


@pytest.mark.parametrize("call", ["write", "mkdir", "replace"])
def test_a_failed_write_tells_what_to_do(
    call: str, model_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    places = {"write": (os, "fsync"), "mkdir": (Path, "mkdir"), "replace": (os, "replace")}
    with monkeypatch.context() as patched:
        patched.setattr(*places[call], full)
        with pytest.raises(OSError, match=r"Expected to write .*No space left.*\. Make room"):
            predict_folder(OnnxModel(model_file), folder, tmp_path / "v.csv", tmp_path / "maps")
    assert predict_folder(OnnxModel(model_file), folder, tmp_path / "v.csv") == (6, 2, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no such lock on this system")
def test_a_second_run_for_the_same_file_is_refused(
    model_file: Path, folder: Path, tmp_path: Path
) -> None:
    class Doubled(OnnxModel):
        def __call__(self, images: NDArray[np.uint8]) -> Any:
            with pytest.raises(OSError, match=r"no other run that writes .*v\.csv; found one"):
                predict_folder(OnnxModel(model_file), folder, tmp_path / "v.csv")
            return super().__call__(images)

    whole = tmp_path / "whole.csv"
    predict_folder(OnnxModel(model_file), folder, whole)
    predict_folder(Doubled(model_file), folder, tmp_path / "v.csv", batch_size=2)
    assert (tmp_path / "v.csv").read_bytes() == whole.read_bytes()


def test_rows_of_another_run_are_not_used(model_file: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "v.csv"
    with pytest.raises(KeyboardInterrupt):
        predict_folder(stop_after(model_file, 4), folder, output, batch_size=1)
    other = stop_after(write_model(tmp_path / "other.onnx", note="another digest"), 9)
    predict_folder(other, folder, output)
    assert other.images == 5
    (folder / "0 new.png").write_bytes((folder / "a.png").read_bytes())
    again = stop_after(model_file, 9)
    predict_folder(again, folder, output)
    assert again.images == 6  # the stored rows begin with another name


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images(model_file: Path, count: int) -> None:
    images = noise(count, count, 3, SIZE, SIZE)
    out = OnnxModel(model_file, threads=1)(images)
    np.testing.assert_allclose(out.probability, images.mean((1, 2, 3)) / 255, atol=1e-6)
    assert out.defect_map.shape == (count, 1, SIZE, SIZE)
    assert out.evidence_map is None


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 3, 8, 9), np.uint8), ((3, 8, 8), np.uint8), ((1, 3, 8, 8), np.float32)]
)
def test_images_of_another_form(model_file: Path, shape: tuple[int, ...], kind: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected images \(B, 3, 8, 8\) of type uint8; found"):
        OnnxModel(model_file)(np.zeros(shape, kind))


def test_a_probability_that_is_not_finite_is_no_verdict(model_file: Path) -> None:
    model = OnnxModel(model_file)
    outputs = [np.array([0.2, np.nan]), np.array([False, False]), np.zeros((2, 1, 8, 8))]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(plain, name)

        def run(self, names: Any, given: Any) -> Any:
            return outputs

    plain, model.session = model.session, Broken()
    with pytest.raises(ValueError, match="Expected finite probabilities"):
        model(noise(0, 2, 3, SIZE, SIZE))


def test_files_that_are_no_model(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        OnnxModel(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match=r"Expected an ONNX file; .*text\.onnx"):
        OnnxModel(tmp_path / "text.onnx")
    bare = write_model(tmp_path / "bare.onnx", threshold=None)
    with pytest.raises(ValueError, match=r"bare\.onnx have no entry 'gainmtl'"):
        OnnxModel(bare)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        OnnxModel(model_file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_no_output_replaces_what_is_no_table(
    model_file: Path, folder: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (model_file, folder / "b.png")}
    (tmp_path / "place").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for taken in (*before, tmp_path / "place", tmp_path / "pipe", Path()):
        with pytest.raises(ValueError, match=r"a table of verdicts to replace; found a"):
            predict_folder(OnnxModel(model_file), folder, taken)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "old.csv").write_text("")
    for _ in range(2):  # an empty file, then a table
        assert predict_folder(OnnxModel(model_file), folder, tmp_path / "old.csv").images == 6


def test_the_target_of_a_link_is_written(model_file: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "v.csv").symlink_to(tmp_path / "share/real.csv")
    predict_folder(OnnxModel(model_file), folder, tmp_path / "v.csv", tmp_path / "maps")
    assert (tmp_path / "v.csv").is_symlink()
    first = read(tmp_path / "share/real.csv")[0]
    assert (tmp_path / "share" / first["map_file"]).is_file()


@pytest.mark.parametrize("change", ["picture", "repaired", "map", "moved here"])
def test_what_changed_since_an_interruption_is_read_again(
    change: str, model_file: Path, folder: Path, tmp_path: Path
) -> None:
    maps, output = tmp_path / "maps", tmp_path / "v.csv"
    Image.new("L", (12, 6), 128).save(tmp_path / "new.png")
    for name in ("g.png", "h.png"):
        Image.new("L", (12, 6), 30).save(folder / name)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(stop_after(model_file, 6), folder, output, maps, batch_size=1)
    (partial,) = tmp_path.glob(".v.csv.*.part")
    assert [row["name"] for row in read(partial)][3] == "d.png"
    time.sleep(0.02)  # a tick of the file system's clock
    if change == "map":
        (maps / "b.png.map.png").unlink()
    elif change == "moved here":  # its own times are older than the interruption
        os.replace(tmp_path / "new.png", folder / "b.png")
    else:
        name = "b.png" if change == "picture" else "d.png"
        (folder / name).write_bytes((tmp_path / "new.png").read_bytes())
    counts = predict_folder(OnnxModel(model_file), folder, output, maps)
    whole = tmp_path / "again/v.csv"
    assert predict_folder(OnnxModel(model_file), folder, whole, maps) == counts
    assert [row["defect_probability"] for row in read(output)] == [
        row["defect_probability"] for row in read(whole)
    ]
    assert all((tmp_path / row["map_file"]).is_file() for row in read(output) if row["map_file"])


def test_maps_of_long_names(model_file: Path, tmp_path: Path) -> None:
    names = ["ü" * 120 + "1.png", "ü" * 120 + "2.png", "n" * 240]  # 245 bytes; as long as possible
    for grey, name in enumerate(names):
        path = tmp_path / "parts" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (12, 6), 100 * grey).save(path, format="PNG")
    output = tmp_path / "v.csv"
    predict_folder(OnnxModel(model_file), tmp_path / "parts", output, tmp_path / "maps")
    files = [tmp_path / row["map_file"] for row in read(output)]
    assert len(set(files)) == 2  # the third has no suffix of an image
    assert [int(np.asarray(Image.open(file)).max()) for file in files] == [0, 100]


def test_an_edited_description_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    described = {"threshold": 0.99, "image_size": SIZE, "resize": "squash"}
    helper.set_model_props(model, {runner.METADATA_KEY: json.dumps(described)})
    onnx.save(model, path)
    bright = np.full((1, 3, SIZE, SIZE), 200, np.uint8)
    with pytest.raises(ValueError, match=r"threshold 0\.99 of the description; the graph has"):
        OnnxModel(path)(bright)
    for broken in ({"threshold": 0.5}, {**described, "image_size": "large"}, []):
        helper.set_model_props(model, {runner.METADATA_KEY: json.dumps(broken)})
        onnx.save(model, path)
        with pytest.raises(ValueError, match="Expected threshold, image_size and resize"):
            OnnxModel(path)


def test_impossible_calls(model_file: Path, folder: Path, tmp_path: Path) -> None:
    model, output = OnnxModel(model_file), tmp_path / "v.csv"
    with pytest.raises(ValueError, match="at least 1, got 0"):
        predict_folder(model, folder, output, batch_size=0)
    with pytest.raises(ValueError, match="maps outside the folder"):
        predict_folder(model, folder, output, maps=folder / "sub" / "maps")
    for no_folder in ("", model_file):
        with pytest.raises(ValueError, match="a folder for the maps; found"):
            predict_folder(model, folder, output, maps=no_folder)
    with pytest.raises(ValueError, match="threads: expected 0 or more, got -3"):
        OnnxModel(model_file, threads=-3)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        predict_folder(model, tmp_path / "absent", output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"found none. Accepted suffixes: .* \.bmp"):
        predict_folder(model, tmp_path / "empty", output)
    assert not output.exists()


def test_the_command(
    model_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.csv"
    command = ["predict", str(model_file), str(folder), "-o", str(output), "--threads", "1"]
    assert main(command) == 1  # one file can't be read
    errors = capsys.readouterr().err
    assert "6 images: 2 defective, 3 normal, 1 unreadable" in errors
    assert "parts that are not read as images: 1 (notes.txt)." in errors
    (folder / "d.png").unlink()
    assert main(command) == 0
    assert len(read(output)) == 5
    assert main(["predict", str(tmp_path / "absent.onnx"), str(folder)]) == 2
    assert "absent.onnx" in capsys.readouterr().err


UNNEEDED = """
set(importlib.metadata.packages_distributions())
- {"numpy", "PIL", "onnxruntime", "gainmtl"}
- {name.split(".")[0] for name in sys.modules}  # what Python's own start imports
"""
COMMAND = """
import runpy

assert {{"torch", "pandas", "scipy", "onnx"}} <= HIDDEN
try:
    import torch
except ImportError:
    pass
else:
    raise AssertionError("torch is not hidden")
sys.argv = {0!r}
try:
    runpy.{1}({2!r}, run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
assert not HIDDEN & {{name.split(".")[0] for name in sys.modules}}
"""
RunHiding = Callable[[str, str, Path], None]


def test_the_line_needs_onnxruntime_numpy_and_pillow_alone(
    model_file: Path, folder: Path, tmp_path: Path, run_hiding: RunHiding
) -> None:
    (folder / "d.png").unlink()
    found = tmp_path / "v.csv"
    command = ["gainmtl", "predict", str(model_file), str(folder), "-o", str(found)]
    script = COMMAND.format(command, "run_module", "gainmtl")
    run_hiding(UNNEEDED, script, Path(runner.__file__).parents[1])
    assert len(read(found)) == 5


def test_the_file_works_without_the_package(
    model_file: Path, folder: Path, tmp_path: Path, run_hiding: RunHiding
) -> None:
    (folder / "d.png").unlink()
    line = tmp_path / "line"
    line.mkdir()
    shutil.copy(runner.__file__, line)
    command = ["runner.py", str(model_file), str(folder), "-o", "v.csv"]
    script = COMMAND.format(command, "run_path", "runner.py")
    run_hiding(f"({UNNEEDED}) | {{'gainmtl'}}", script, line)
    assert len(read(line / "v.csv")) == 5
