"""Notebook 15 on folders: regular ones, unusual ones and broken ones.

Its cells run in this process, since a kernel for each of so many cases would take minutes.
`test_notebooks.py` runs the same file through papermill.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import html
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch15_own_data.effects import LABELLED, MODEL, READING, TRAINING
from gainbook.chapters.ch15_own_data.own_data import RULES, export_for_the_line, parts_of
from gainbook.lab import results_file as runs
from matplotlib import pyplot as plt
from PIL import Image

import gainmtl
from gainmtl.runner import OnnxModel, predict_folder

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "15_your_own_data.ipynb"
TINY = {
    "image_size": 32, "epochs": 1, "batch_size": 4, "accelerator": "cpu", "weights": None,
    "backbone": "test_efficientnet", "dataset": "folder",
}  # fmt: skip


def run(output: Path, last: str | None = None, **parameters: Any) -> dict[str, Any]:
    """The notebook's variables after its cells, or after the first that holds the text `last`."""
    namespace: dict[str, Any] = {"__name__": "__main__", "display": lambda *shown: None}
    # `display`, `In` and the like are a kernel's own; the rest must be the notebook's.
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
        exec(compile("\n".join(lines), NOTEBOOK.name, "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", []):
            # A checkpoint's model has its own size and needs no training: those are refused.
            unused = {*MODEL, *TRAINING} if parameters.get("checkpoint") else {}
            tiny = {name: value for name, value in TINY.items() if name not in unused}
            namespace |= {"output_dir": str(output)} | tiny | parameters
        if last is not None and last in cell.source:
            break
    plt.close("all")
    return namespace


@pytest.fixture(autouse=True)
def no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.setattr(plt, "show", lambda: None)


def draw(path: Path, seed: int, size: tuple[int, int] = (40, 36), spot: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(90, 130, (size[1], size[0]), dtype=np.uint8)
    if spot:
        pixels[8:20, 10:24] = 250
    Image.fromarray(pixels).save(path)


def mark(path: Path, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(255, (10, 8, 24, 20))
    mask.save(path)


def make_folder(root: Path, normal: int = 12, defective: int = 6, masks: bool = True) -> Path:
    """images/{normal,defective} without a split."""
    for k in range(normal):
        draw(root / "images/normal" / f"gut {k}.png", k)
    for k in range(defective):
        draw(root / "images/defective" / f"nicht gut {k} 불량.png", 100 + k, spot=True)
        if masks:
            mark(root / "masks" / f"nicht gut {k} 불량.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """One whole run on a folder with odd images and a missing mask."""
    base = tmp_path_factory.mktemp("own")
    root = make_folder(base / "my parts ü")
    grey = Image.open(root / "images/normal/gut 0.png")
    grey.convert("RGBA").save(root / "images/normal/gut 0.png")
    sixteen = np.asarray(Image.open(root / "images/normal/gut 1.png")).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(root / "images/normal/gut 1.png")
    draw(root / "images/normal/gut 2.png", 2, size=(64, 20))
    (root / "masks/nicht gut 0 불량.png").unlink()
    mpl.use("agg")
    output = base / "out"
    return run(output, data_root=str(root)), root, output


OPEN = {"image_size": None, "epochs": None, "strategy": None}


def completed(output: Path, **parameters: Any) -> tuple[Any, str]:
    """The parameters after the open ones are chosen, and the sentences on them."""
    variables = run(output, "own_data.complete", **OPEN, **parameters)
    return variables["P"], variables["chosen"]


@pytest.mark.parametrize(
    ("size", "images", "masks", "expected"),
    [
        ((40, 36), (12, 6), True, (96, 40, "S5")),  # the smallest size and the most epochs
        ((40, 150), (60, 40), False, (160, 19, "S1")),  # 80 of 100 train: 1500 / 80 = 18.75
        ((500, 300), (300, 100), True, (224, 8, "S5")),  # 320: 4.7, and the fewest are 8
    ],
)
def test_open_parameters_follow_from_the_images(
    size: tuple[int, int], images: tuple[int, int], masks: bool, expected: Any, tmp_path: Path
) -> None:
    root = tmp_path / "parts"
    for kind, count in zip(("normal", "defective"), images, strict=True):
        for k in range(count):
            draw(root / "images" / kind / f"{kind}{k}.png", k, size)
    if masks:
        mark(root / "masks" / "defective3.png", size)
    chosen, text = completed(tmp_path / "out", data_root=str(root))
    assert (chosen.image_size, chosen.epochs, chosen.strategy) == expected
    for name, value in zip(OPEN, expected, strict=True):
        assert f"{name} {value}: " in text


def test_given_parameters_stay(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "parts")
    for given in ({"image_size": 64}, {"epochs": 3}, {"strategy": "S2"}):
        variables = run(tmp_path / "out", "own_data.complete", **OPEN | given, data_root=str(root))
        (name, value), chosen = *given.items(), variables["P"]
        assert getattr(chosen, name) == value
        assert f"{name} " not in variables["chosen"]
        assert None not in (chosen.image_size, chosen.epochs, chosen.strategy)


def test_the_sets_own_split_counts_its_training_images(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for part, count in (("train", 50), ("test", 100)):
        for kind in ("normal", "defective"):
            for k in range(count):
                draw(root / "images" / part / kind / f"{part}{kind}{k}.png", k)
    chosen, text = completed(tmp_path / "out", data_root=str(root))
    assert chosen.epochs == 15
    assert "100 images" in text
    assert completed(tmp_path / "out", data_root=str(root), folds=2)[0].epochs == 10  # 150


def test_the_open_parameters_of_the_built_in_parts(tmp_path: Path) -> None:
    chosen, _ = completed(tmp_path / "out", dataset="synthetic")
    assert (chosen.image_size, chosen.epochs, chosen.strategy) == (96, 4, "S5")


def read_csv(output: Path) -> list[dict[str, str]]:
    with (output / "verdicts.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_one_row_per_image(trained: Any) -> None:
    _, root, output = trained
    rows = read_csv(output)
    names = {p.relative_to(root).as_posix() for p in (root / "images").rglob("*.png")}
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert {row["true_label"] for row in rows} == {"normal", "defective"}
    for row in rows:
        over = float(row["defect_probability"]) >= float(row["threshold"])
        assert row["verdict"] == ("defective" if over else "normal")
        assert ("defective" in row["name"].split("/")) == (row["true_label"] == "defective")
        with (
            Image.open(output / row["map_file"]) as stored,
            Image.open(root / row["name"]) as image,
        ):
            assert stored.size == image.size
            assert stored.mode == "L"
    assert [row["name"] for row in rows if row["has_mask"] == "False"] == [
        "images/defective/nicht gut 0 불량.png"
    ]


def test_threshold_is_the_one_of_validation(trained: Any) -> None:
    names, _, output = trained
    model = gainmtl.load(output / "model.safetensors")
    scores = [
        float(row["defect_probability"])
        for row in read_csv(output)
        if (row["split"], row["true_label"]) == ("val", "normal")
    ]
    assert model.threshold == names["models"][0].threshold
    assert sum(score >= model.threshold for score in scores) <= 0.05 * len(scores)
    assert {float(row["threshold"]) for row in read_csv(output)} == {model.threshold}


def test_report_and_results(trained: Any) -> None:
    _, root, output = trained
    report = (output / "report.html").read_text("utf-8")
    assert "no usable mask" in report
    assert str(root) not in report
    results = runs.read_results(output / "results.json")
    pooled = results.rows[results.rows["fold"].isna()].set_index("metric")
    test = [row for row in read_csv(output) if row["split"] == "test"]
    right = np.mean([row["verdict"] == row["true_label"] for row in test])
    accuracy = pooled.loc["accuracy", "value"]
    assert accuracy == pytest.approx(right)
    assert str(root) not in (output / "results.json").read_text("utf-8")


def test_the_file_for_the_line_has_the_same_verdicts(trained: Any, tmp_path: Path) -> None:
    _, root, output = trained
    model, table = OnnxModel(output / "model.onnx"), tmp_path / "verdicts.csv"
    predict_folder(model, root / "images", table)
    on_line = pd.read_csv(table).set_index("name").add_prefix("line_")
    own = pd.read_csv(output / "verdicts.csv")
    both = own.set_index(own["name"].str.removeprefix("images/")).join(on_line, how="inner")
    assert len(both) == len(own) == len(on_line)
    assert both["verdict"].tolist() == both["line_verdict"].tolist()
    for column in ("defect_probability", "threshold", "peak", "defect_area"):
        np.testing.assert_allclose(both[column], both[f"line_{column}"], atol=2e-3)


def test_without_onnx_the_run_ends_with_advice(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, _, _ = trained
    monkeypatch.setitem(sys.modules, "onnx", None)
    text = export_for_the_line(names["models"][0], tmp_path / "model.onnx")
    assert text.startswith("No ONNX file was written. export needs")
    assert not (tmp_path / "model.onnx").exists()


def test_a_second_start_trains_nothing_and_has_the_same_figures(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, root, output = trained
    before = read_csv(output)
    from gainmtl.training.run import TrainingRun

    monkeypatch.setattr(TrainingRun, "train_epoch", lambda self: pytest.fail("trained again"))
    run(output, last="write_verdicts(", data_root=str(root))
    assert read_csv(output) == before


def test_a_model_judges_unlabelled_images(trained: Any, tmp_path: Path) -> None:
    _, _, output = trained
    for folder in ("a", "b"):
        draw(tmp_path / "new" / folder / "1.png", 3, size=(50, 30))
    out = tmp_path / "out"
    checkpoint = str(output / "model.safetensors")
    run(out, checkpoint=checkpoint, predict_root=str(tmp_path / "new"), dataset="synthetic")
    rows = read_csv(out)
    assert [row["name"] for row in rows] == ["a/1.png", "b/1.png"]
    assert {row["true_label"] for row in rows} == {""}
    assert len({row["map_file"] for row in rows}) == 2
    # Equal up to rounding: a processor may sum the images of a batch in another order.
    first, second = (float(row["defect_probability"]) for row in rows)
    assert first == pytest.approx(second, abs=1e-6)
    stored = gainmtl.load(checkpoint).threshold
    assert {float(row["threshold"]) for row in rows} == {stored}
    assert "2 unlabelled images" in (out / "report.html").read_text("utf-8")
    assert runs.read_results(out / "results.json").rows["metric"].tolist() == ["flagged_share"]


def test_a_model_is_tested_on_another_folder(trained: Any, tmp_path: Path) -> None:
    """The threshold is chosen anew, the weights and the image size are the model's."""
    _, _, output = trained
    root = make_folder(tmp_path / "parts", normal=10, defective=4, masks=False)
    checkpoint = str(output / "model.safetensors")
    names = run(
        tmp_path / "out", checkpoint=checkpoint, data_root=str(root),
        predict_root=str(root / "images/normal"),
    )  # fmt: skip
    old, new = gainmtl.load(checkpoint), gainmtl.load(tmp_path / "out/model.safetensors")
    assert all((a == b).all() for a, b in zip(old.parameters(), new.parameters(), strict=True))
    assert names["data"].image_size == old.image_size == 32
    rows = read_csv(tmp_path / "out")
    assert len([row for row in rows if row["split"] == "new"]) == 10
    passed = [r for r in rows if (r["split"], r["true_label"]) == ("val", "normal")]
    assert {row["verdict"] for row in passed} == {"normal"}
    report = html.unescape((tmp_path / "out/report.html").read_text("utf-8"))
    assert "can't be checked" in report
    stored = runs.read_results(tmp_path / "out/results.json")
    used = {name: stored.parameters[name] for name in (*MODEL, *TRAINING)}
    assert used == {
        "image_size": 32, "backbone": "test_efficientnet", "weights": None, "strategy": "S5",
        "resize": "squash", **dict.fromkeys(TRAINING),
    }  # fmt: skip
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()[:16]
    assert stored.provenance["checkpoint"] == {"name": "model.safetensors", "sha256": digest}
    assert stored.provenance["weights"] is None


def test_every_image_is_tested_once_over_folds(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "parts", normal=8, defective=4)
    run(tmp_path / "out", data_root=str(root), folds=2)
    rows = read_csv(tmp_path / "out")
    assert len(rows) == len({row["name"] for row in rows}) == 12
    assert {(row["split"], row["fold"]) for row in rows} == {("test", "0"), ("test", "1")}
    table = runs.read_results(tmp_path / "out/results.json").rows
    assert set(table["fold"].dropna()) == {0, 1}
    pooled = table[table["fold"].isna() & (table["metric"] == "accuracy")]
    assert pooled["n"].tolist() == [12]


@pytest.mark.parametrize("defective", [2, 4])
def test_very_small_sets_work(tmp_path: Path, defective: int) -> None:
    """With two defects one is trained on, one tested, and validation has none."""
    root = make_folder(tmp_path / "parts", normal=16, defective=defective)
    names = run(tmp_path / "out", last="choose_threshold", data_root=str(root))
    counts = names["data"].counts
    assert counts["test"]["defective"] >= 1
    assert counts["train"]["defective"] >= 1
    assert counts["val"]["normal"] >= 1
    assert 0 < names["models"][0].threshold < 1


def test_mvtec_folder_with_a_model(trained: Any, tmp_path: Path) -> None:
    """Its training part has no defect: nothing can be trained, but a model can be tested."""
    _, _, output = trained
    base = tmp_path / "bottle"
    for k in range(6):
        draw(base / "train/good" / f"{k}.png", k)
        draw(base / "test/good" / f"{k}.png", 10 + k)
        draw(base / "test/broken" / f"{k}.png", 20 + k, spot=True)
        mark(base / "ground_truth/broken" / f"{k}_mask.png")
    chosen = {"dataset": "mvtec", "data_root": str(tmp_path), "category": "bottle"}
    with pytest.raises(ValueError, match="0 defective and 5 normal"):
        run(tmp_path / "a", last="cross_validate(", **chosen)
    checkpoint = str(output / "model.safetensors")
    run(tmp_path / "b", last="write_verdicts(", checkpoint=checkpoint, **chosen)
    rows = read_csv(tmp_path / "b")
    assert {row["defect_type"] for row in rows} == {"normal", "broken"}
    names = run(tmp_path / "c", last="data.report()", **chosen, split="folds")
    assert names["data"].counts["train"]["defective"] > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, ("epochs", "found 0")),
        ({"image_size": 7}, ("image_size", "found 7")),
        ({"batch_size": 1}, ("batch_size", "found 1")),
        ({"strategy": "S9"}, ("strategy", "S1")),
        ({"seeds": [4, 1]}, ("one seed", "-p seeds 4")),
        ({"resize": "crop"}, ("resize", "squash", "pad")),
        ({"stratgy": "S1"}, ("stratgy", "did you mean strategy")),
        ({"max_false_alarms": 5}, ("max_false_alarms", "0.99")),
        ({"dataset": "synthetic"}, ("data_root", "-p dataset folder")),
        ({"dataset": "synthetic", "data_root": None, "predict_root": "x"}, ("-p checkpoint",)),
        ({"checkpoint": "model.pt"}, (".safetensors", "model.pt", "gainmtl.save")),
        ({"checkpoint": "m.safetensors", "folds": 3}, ("folds", "one model")),
        ({"predict_root": ".", "output_dir": "runs"}, ("output_dir", "predict_root")),
    ],
)
def test_impossible_parameters(tmp_path: Path, given: dict[str, Any], words: Any) -> None:
    given = {"data_root": str(tmp_path)} | given
    with pytest.raises(ValueError, match="parameters|strategy") as caught:
        run(tmp_path / "out", last="check_choices", **given)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dataset", "inside", "refused"),
    [
        ("folder", "images/runs", True),
        ("folder", "masks", True),
        ("folder", "runs", False),
        ("mvtec", "train/runs", True),
        ("mvtec", "bottle/val", True),
        ("mvtec", "bottle/test/runs", True),
        ("mvtec", "bottle/ground_truth/runs", True),
        ("mvtec", "bottle/runs", False),
        ("visa", "candle/Data/Images/runs", True),
        ("visa", "candle/Data/Masks", True),
        ("visa", "candle/test", True),
        ("visa", "runs", False),
        ("magnetic-tile", "runs", True),
        ("deep-pcb", "runs", True),
        ("folder", "link/runs", True),
    ],
)
def test_an_output_among_the_images(
    dataset: str, inside: str, refused: bool, tmp_path: Path
) -> None:
    root = tmp_path / "parts"
    (root / inside).parent.mkdir(parents=True)
    if inside.startswith("link"):
        (root / "images").symlink_to(root / "link")
    chosen = {"dataset": dataset, "data_root": str(root), "output_dir": str(root / inside)}
    chosen["checkpoint"] = "m.safetensors"  # so that nothing is chosen from the images
    message = "output_dir: lies in the images or masks of data_root"
    with pytest.raises(ValueError, match=message) if refused else contextlib.nullcontext():
        run(tmp_path / "out", last="check_choices", **chosen)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_checkpoint_of_a_detector(labelled: bool, tmp_path: Path) -> None:
    path = str(gainmtl.save(gainmtl.MemoryBank("test_efficientnet"), tmp_path / "bank"))
    root = str(make_folder(tmp_path / "parts"))
    given = {"data_root": root} if labelled else {"dataset": "synthetic", "predict_root": root}
    with pytest.raises(TypeError, match="checkpoint: expected .*, got MemoryBank; .* no anomaly"):
        run(tmp_path / "out", last=".to(own_data.device_of", checkpoint=path, **given)


NO_ROOT = {"data_root": None, "predict_root": "new", "checkpoint": "m.safetensors"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"checkpoint": "m.safetensors", "image_size": 96}, "image_size"),
        ({"checkpoint": "m.safetensors", "resize": "pad"}, "resize"),
        ({"checkpoint": "m.safetensors", "backbone": "resnet18"}, "backbone"),
        ({"checkpoint": "m.safetensors", "learning_rate": 1e-3}, "learning_rate"),
        (NO_ROOT | {"dataset": "synthetic", "category": "01"}, "category"),
        (NO_ROOT | {"dataset": "folder"}, "dataset"),
        (NO_ROOT | {"dataset": "synthetic", "max_false_alarms": 0.1}, "max_false_alarms"),
        ({"dataset": "synthetic", "data_root": None, "resize": "pad"}, "resize"),
        ({"dataset": "synthetic", "data_root": None, "split": "folds"}, "split"),
    ],
)
def test_parameters_without_effect(tmp_path: Path, given: dict[str, Any], name: str) -> None:
    given = {"data_root": str(tmp_path)} | given
    with pytest.raises(ValueError, match=rf"\n  {name}: has no effect, because .*; leave it out"):
        run(tmp_path / "out", last="check_choices", **given)


def test_defaults_are_those_of_the_notebook() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    defaults: dict[str, Any] = {}
    exec(next(c for c in cells if "parameters" in c.metadata.get("tags", [])).source, defaults)
    defaults["seeds"] = (defaults["seeds"],)
    for group in (MODEL, TRAINING, LABELLED, READING):
        assert group == {name: defaults[name] for name in group}


def spoil_size(root: Path) -> None:
    mark(root / "masks/nicht gut 1 불량.png", size=(39, 36))


def spoil_image(root: Path) -> None:
    (root / "images/normal/gut 3.png").write_bytes(b"\x89PNG nothing")


def spoil_end(root: Path) -> None:
    path = root / "images/normal/gut 3.png"
    path.write_bytes(path.read_bytes()[:-400])


def spoil_class(root: Path) -> None:
    shutil.rmtree(root / "images/defective")


def spoil_layout(root: Path) -> None:
    (root / "images/normal").rename(root / "images/good")


def spoil_all(root: Path) -> None:
    shutil.rmtree(root / "images")


def spoil_images(root: Path) -> None:
    for path in list(root.rglob("*.png")):
        path.unlink()


def spoil_groups(root: Path) -> None:
    (root / "images/groups.csv").write_text("image,group\nnormal/gut 1.png,a\n", "utf-8")


def spoil_masks(root: Path) -> None:
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_name(f"other {path.name}"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            spoil_size,
            ("masks/nicht gut 1 불량.png", "images/defective/nicht gut 1 불량.png", "39 x"),
        ),
        (spoil_image, ("gut 3.png", "can't be decoded")),
        (spoil_end, ("gut 3.png", "can't be decoded")),
        (spoil_class, ("all 12 are normal", "images/{train,test}")),
        (spoil_layout, ("images/good", "{normal,defective}")),
        (spoil_all, ("images/", "{normal,defective}")),
        (spoil_images, ("No images", "{normal,defective}")),
        (spoil_groups, ("groups.csv", "none")),
        (spoil_masks, ("masks", "matches")),
    ],
)
def test_broken_folders_are_refused_before_training(
    tmp_path: Path, spoil: Any, words: tuple[str, ...]
) -> None:
    root = make_folder(tmp_path / "parts")
    spoil(root)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        run(tmp_path / "out", last="data.report()", data_root=str(root))
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"folds": 9}, ("folds (9)", "found 6")),
        ({"dataset": "foldr"}, ("foldr", "folder")),
        ({"data_root": "nowhere"}, ("nowhere", "images/")),
        ({"data_root": None}, ("folder", "root")),
        ({"dataset": "mvtec"}, ("train/good",)),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, given: dict[str, Any], words: Any) -> None:
    root = make_folder(tmp_path / "parts")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        run(tmp_path / "out", last="data.report()", **({"data_root": str(root)} | given))
    assert all(word in str(caught.value) for word in words), caught.value


def test_validation_without_a_normal_image(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for seed, (split, normal) in enumerate((("train", 3), ("val", 0), ("test", 2))):
        for k in range(normal):
            draw(root / "images" / split / "normal" / f"{k}.png", 10 * seed + k)
        for k in range(3):
            draw(root / "images" / split / "defective" / f"{k}.png", 10 * seed + k, spot=True)
    with pytest.raises(ValueError, match="no normal one"):
        run(tmp_path / "out", last="data.report()", data_root=str(root))


@pytest.mark.parametrize(
    "kind", ["absent", "no json", "weights only", "not safetensors", "foreign"]
)
def test_checkpoints_of_another_kind(trained: Any, tmp_path: Path, kind: str) -> None:
    _, root, output = trained
    path = tmp_path / "model.safetensors"
    if kind != "absent":
        shutil.copy(output / "model.safetensors", path)
    if kind not in ("absent", "no json"):
        shutil.copy(output / "model.json", path.with_suffix(".json"))
    if kind == "weights only":
        path.with_suffix(".json").write_text(json.dumps({"mean": [0.5] * 3}))
    if kind == "not safetensors":
        path.write_bytes(b"PK\x03\x04 pickled")
    if kind == "foreign":
        stored = json.loads(path.with_suffix(".json").read_text())
        stored["model"]["width"] = 32
        path.with_suffix(".json").write_text(json.dumps(stored))
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"^load: .*model\.(safetensors|json)"
    ):
        run(tmp_path / "out", last="data.report()", checkpoint=str(path), data_root=str(root))


def test_rules_name_what_the_parameters_cell_has() -> None:
    cell = next(
        cell
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    assert set(RULES) <= {line.split(":")[0] for line in cell.source.splitlines()}


def test_parts_follow_the_number_of_defective_groups(tmp_path: Path) -> None:
    root = make_folder(tmp_path, defective=3)
    names = run(tmp_path / "out", last="check_choices", data_root=str(root))
    assert parts_of(names["P"]) == 3
    names = run(tmp_path / "out", last="check_choices", data_root=str(root), folds=2)
    assert parts_of(names["P"]) == 2


def test_csv_is_what_pandas_reads(trained: Any) -> None:
    _, _, output = trained
    table = pd.read_csv(output / "verdicts.csv")
    assert table["defect_probability"].between(0, 1).all()
    assert table["peak_to_mask"].notna().sum() == 5
