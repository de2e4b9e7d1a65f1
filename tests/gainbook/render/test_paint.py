"""The page in which networks run: its data and scripts, and the page itself in a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gainbook.chapters.ch16_explorer import networks
from gainbook.render import paint

from tests.gainbook.render.browser import Browser, chromium

JUDGES = [network.judge for network in networks.NETWORKS]
PUBLISHED = {
    "module": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of the files in the package onnxruntime-web 1.30.0."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page as in the built book, with its scripts."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("book")
    static = root / paint.FOLDER
    shutil.copytree(paint.STATIC / "paint", static)
    parts = {"parts.js": paint.parts_script(JUDGES, networks.blank_parts())}
    for name, text in (paint.scripts(JUDGES) | parts).items():
        (static / name).write_text(text)
    (root / "notebooks").mkdir()
    html = paint.section(networks.example())
    page = f'<!doctype html><meta charset="utf-8"><meta name="viewport" content="{PHONE}">{html}'
    (root / "notebooks/page.html").write_text(page)
    return root


PHONE = "width=device-width, initial-scale=1"


def test_the_runtime_is_the_published_one() -> None:
    text = paint.scripts(JUDGES)["runtime.js"]
    data = json.loads(re.fullmatch(r"window\.paintRuntime = (.*);\n", text)[1])  # type: ignore[index]
    found = {
        name: hashlib.sha256(gzip.decompress(base64.b64decode(one))).hexdigest()
        for name, one in data.items()
    }
    assert found == PUBLISHED


def test_networks_and_site_keep_their_weight(book: Path) -> None:
    assert [n.name for n in networks.NETWORKS if n.file.stat().st_size > 1_000_000] == []
    assert sum(file.stat().st_size for file in book.rglob("*") if file.is_file()) < 15_000_000


def test_the_data_are_what_python_computes(book: Path) -> None:
    text = (book / paint.FOLDER / "parts.js").read_text()
    match = re.fullmatch(r"window\.paintParts = (.*);\n", text)
    assert match is not None
    data = json.loads(match[1])
    parts = networks.blank_parts()
    assert [part["name"] for part in data["parts"]] == [part.name for part in parts]
    assert len(parts) == 20
    images = torch.from_numpy(np.stack([part.image for part in parts])) / 255
    for network, stored in zip(networks.NETWORKS, data["networks"], strict=True):
        out = networks.outputs(network, images)
        expected = [one["probability"] for one in stored["expected"]]
        assert np.allclose(expected, out.probability, atol=1e-5)
        at, value = stored["expected"][3]["evidence"][7]
        assert out.evidence_map is not None
        assert abs(out.evidence_map[3].flat[at] - value) < 1e-4


def test_a_name_can_not_end_the_data(tmp_path: Path) -> None:
    part = networks.blank_parts()[0]._replace(name="</script><img src=x onerror=alert(1)>")
    paint.write_page(tmp_path / "own.html", JUDGES[:1], [part])
    assert "<img src=x" not in (tmp_path / "own.html").read_text()


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    part = networks.blank_parts()[0]
    small = part._replace(image=part.image[:, :64, :64])
    with pytest.raises(ValueError, match=r"of one size, found \[64, 128\] pixels"):
        paint.write_page(tmp_path / "own.html", JUDGES[:1], [small])


needs_browser = pytest.mark.skipif(chromium() is None, reason="needs Chromium ($CHROMIUM)")


@pytest.fixture(scope="module", params=[1280, 390])
def browser(
    request: pytest.FixtureRequest, book: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile"), request.param) as one:
        one.open(book / "notebooks/page.html")
        one.wait("document.querySelector('.paint').dataset.state === 'ready'")
        yield one


def press(browser: Browser, text: str) -> None:
    buttons = "[...document.querySelectorAll('.paint-controls button')]"
    browser.run(f"{buttons}.find((one) => one.textContent === {text!r}).click()")


VERDICTS = "[...document.querySelectorAll('.paint-verdict b')].map((one) => one.textContent)"


def press_and_see(browser: Browser, text: str, wanted: str) -> None:
    """Press a button and wait for the systems' verdicts, joined by commas."""
    press(browser, text)
    browser.wait(f"{VERDICTS}.join() === {wanted!r}")


@pytest.mark.slow
@needs_browser
def test_the_browser_computes_what_python_computes(browser: Browser) -> None:
    press(browser, "Compare with Python")
    found = json.loads(browser.wait("document.querySelector('.paint').dataset.checked"))
    assert found["count"] == 20 * len(JUDGES)
    assert found["verdicts"] == 0
    assert found["largest"] < 1e-3


@pytest.mark.slow
@needs_browser
def test_mouse_finger_keyboard_and_mark_change_the_verdict(browser: Browser) -> None:
    press_and_see(browser, "Clear", "S1: normal,S5: normal")
    canvas = "document.querySelector('.paint-part')"
    browser.run(f"{canvas}.scrollIntoView()")
    box = browser.run(f"(({{x, y, width}}) => [x, y, width])({canvas}.getBoundingClientRect())")
    x, y, width = box
    path = [(x + (0.3 + 0.02 * k) * width, y + (0.3 + 0.015 * k) * width) for k in range(21)]
    browser.mouse("mousePressed", *path[0])
    for place in path:
        browser.mouse("mouseMoved", *place)
    browser.mouse("mouseReleased", *path[-1])
    browser.wait(f"{VERDICTS}[1] === 'S5: defective'")
    press_and_see(browser, "Undo", "S1: normal,S5: normal")
    browser.touch("touchStart", path[0])
    for place in path[::3]:
        browser.touch("touchMove", place)
    browser.touch("touchEnd")
    browser.wait(f"{VERDICTS}[1] === 'S5: defective'")
    press_and_see(browser, "Undo", "S1: normal,S5: normal")
    browser.run(f"{canvas}.focus()")
    browser.key("keyDown", " ")
    for _ in range(8):
        browser.key("keyDown", "ArrowRight")
    browser.key("keyUp", " ")
    browser.wait(f"{VERDICTS}[1] === 'S5: defective'")
    press(browser, "Show the trap")
    browser.wait(f"{VERDICTS}[0] === 'S1: defective'")
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.errors() == []


@pytest.mark.slow
@needs_browser
def test_one_file_runs_alone(tmp_path: Path) -> None:
    paint.write_page(tmp_path / "own.html", JUDGES[:2], networks.blank_parts()[:2])
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "own.html")
        browser.wait("document.querySelector('.paint').dataset.state === 'ready'")
        assert browser.errors() == []
