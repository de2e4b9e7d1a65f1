"""Foreign files: nothing in them is run, names stay text, and lists of files open no other file."""

from __future__ import annotations

import ast
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from gainbook.chapters.ch14_active.features import Levels
from gainbook.chapters.ch14_active.own_labels import read_labels
from gainbook.chapters.ch14_active.own_page import listing
from gainbook.chapters.ch14_active.own_round import find_images, play_round
from PIL import Image

import gainmtl
from gainmtl import datasets
from gainmtl.report.cases import cases_of
from gainmtl.report.page import write_report
from gainmtl.report.verdicts import verdict_table

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    file for part in ("gainmtl", "book/gainbook", "tools") for file in (ROOT / part).rglob("*.py")
]
RUN_WHAT_THEY_READ = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "extractall", "unsafe_load", "full_load", "system"}
HOSTILE = "<img src=x onerror=alert(1)>"


def faults(source: str) -> list[str]:
    """What in a source may run a file's content or a text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [name for name in names if name.split(".")[0] in RUN_WHAT_THEY_READ]
        if not isinstance(node, ast.Call):
            continue
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        called = ast.unparse(node.func)
        if called in UNSAFE_CALLS or called.split(".")[-1] in UNSAFE_CALLS - {"eval", "compile"}:
            found.append(called)
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
            found.append(ast.unparse(node))
        if called == "yaml.load":
            found.append(called)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "eval(text)", "torch.load(path)",
     "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)",
     "subprocess.run(text, shell=True)", "yaml.load(text)", "archive.extractall(folder)"],
)  # fmt: skip
def test_an_unsafe_reader_is_found(source: str) -> None:
    assert faults(source)


def test_no_unsafe_reader_is_used() -> None:
    assert len(SOURCES) > 200
    found = {str(file): faults(file.read_text("utf-8")) for file in SOURCES}
    assert {file: words for file, words in found.items() if words} == {}


def draw(path: Path, seed: int, box: tuple[int, int, int, int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if box is None:
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    else:
        mask = Image.new("L", (32, 32))
        mask.paste(255, box)
        mask.save(path)


class Tags(HTMLParser):
    """Collects the handlers and sources of all tags, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.bad: list[tuple[str, object]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            inside = str(value).startswith(("data:", "#"))
            if name.startswith("on") or (name in ("src", "href") and not inside):
                self.bad.append((tag, name))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_names_of_files_and_classes_stay_text_in_the_pages(tmp_path: Path) -> None:
    for seed, split in ((0, "train"), (10, "test")):
        for k in range(3):
            draw(tmp_path / "images" / split / "normal" / f"{k}{HOSTILE}.png", seed + k)
            name = Path(split, f"defective/{HOSTILE}/{k}{HOSTILE}.png")
            draw(tmp_path / "images" / name, seed + k + 5)
            draw(tmp_path / "masks" / name, 0, (4, 5, 20, 25))
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_efficientnet", "S5").eval()
    model.image_size = 32
    data = datasets.load("folder", tmp_path, image_size=32, validation=0.4)
    cases = cases_of(data.test, "test")
    verdicts = verdict_table([model], cases, maps_dir=tmp_path / "out/maps")
    report = write_report(
        tmp_path / "report.html", [model], cases, verdicts, title=HOSTILE, rule=HOSTILE,
        facts={HOSTILE: HOSTILE},
    )  # fmt: skip
    images = find_images(tmp_path / "images")
    labels = read_labels(tmp_path / "labels.csv", images.names)
    rng = np.random.default_rng(0)
    cells = [rng.random((len(images.names), 2, n, n)).astype(np.float16) for n in (2, 1)]
    found = play_round(images, labels, {"plain": Levels(*cells)}, "random", 3, 0)
    for page in (Path(report).read_text("utf-8"), listing(images, labels, found, HOSTILE)):
        seen = Tags(page)
        assert seen.bad == []
        assert HOSTILE in seen.words


@pytest.mark.parametrize("outside", ["../secret.png", "/etc/passwd", "..\\secret.png"])
def test_lists_of_images_open_nothing_outside_their_folder(tmp_path: Path, outside: str) -> None:
    folder = tmp_path / "parts"
    draw(tmp_path / "secret.png", 0)
    for k in range(12):
        draw(folder / f"images/{'normal' if k < 6 else 'defective'}/{k}.png", k)
    rows = [f"{path.relative_to(folder / 'images')},g{path.stem}" for path in folder.rglob("*.png")]
    table = "\n".join(["image,group", *rows, f"{outside},g"]) + "\n"
    (folder / "images/groups.csv").write_text(table, encoding="utf-8")
    data = datasets.load("folder", folder, image_size=32)
    names = [name for part in (data.train, data.val, data.test) for name in part.names]
    assert sorted(Path(name).name for name in names) == sorted(f"{k}.png" for k in range(12))
    labels = tmp_path / "labels.csv"
    labels.write_text(f"image,label\n{outside},crack\n", encoding="utf-8")
    read = read_labels(labels, ["0.png"])
    assert (read.known, read.removed) == ({}, (outside.replace("\\", "/"),))
