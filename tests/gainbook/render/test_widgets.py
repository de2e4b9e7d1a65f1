"""The slider and the menus over pictures: valid without a kernel, small, readable without eyes."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import ipywidgets
import numpy as np
import pytest
from gainbook.render.widgets import Frame, frame_menus, frame_slider, to_image, to_png
from ipywidgets.embed import embed_data
from matplotlib import pyplot as plt
from PIL import Image


@pytest.fixture(autouse=True)
def fresh_widgets() -> Iterator[None]:
    yield
    ipywidgets.Widget.close_all()
    plt.close("all")


def ramps(count: int, side: int = 16) -> list[Frame]:
    ramp = np.linspace(0, 1, side * side).reshape(side, side)
    return [
        Frame(np.clip(ramp + i / count, 0, 1), f"β = {i / count:.1f}", f"ramp {i}", f"{i / count}")
        for i in range(count)
    ]


def states(widget: ipywidgets.Widget) -> dict[str, dict[str, Any]]:
    return embed_data(views=[widget], state=None)["manager_state"]["state"]


def by_model(widget: ipywidgets.Widget, model: str) -> list[dict[str, Any]]:
    return [one["state"] for one in states(widget).values() if one["model_name"] == model]


def test_every_link_is_one_of_the_browser() -> None:
    box = frame_slider(ramps(5), "β")
    links = by_model(box, "LinkModel")
    play, slider = box.children[0].children
    ends = {(link["source"][0], link["source"][1], link["target"][1]) for link in links}
    assert ends == {
        (f"IPY_MODEL_{play.model_id}", "value", "index"),
        (f"IPY_MODEL_{slider.model_id}", "index", "selected_index"),
    }


def test_state_is_strict_json_and_complete() -> None:
    box = frame_slider(ramps(5), "β", start=2)
    stored = states(box)
    json.dumps(stored, allow_nan=False)
    mentioned = set(re.findall(r"IPY_MODEL_(\w+)", json.dumps(stored)))
    assert mentioned <= set(stored)
    assert by_model(box, "StackModel")[0]["selected_index"] == 2
    (slider,) = by_model(box, "SelectionSliderModel")
    assert slider["index"] == 2
    assert slider["_options_labels"] == ("0.0", "0.2", "0.4", "0.6", "0.8")  # not frame numbers
    assert slider["description"] == "β"
    assert by_model(box, "PlayModel")[0]["max"] == 4


def test_two_frames_may_have_the_same_value() -> None:
    frames = [frame._replace(value="same") for frame in ramps(2)]
    (slider,) = by_model(frame_slider(frames, "x", start=1), "SelectionSliderModel")
    assert slider["index"] == 1


def test_every_frame_has_its_caption_and_alternative_text() -> None:
    frames = [Frame(np.zeros((4, 4)), 'β = 0 & "off"', "<black>", "0"), *ramps(2)]
    pages = [one["value"] for one in by_model(frame_slider(frames, "β"), "HTMLModel")]
    assert len(pages) == 3
    assert any("β = 0 &amp; &quot;off&quot;</figcaption>" in page for page in pages)
    assert any('alt="&lt;black&gt;"' in page for page in pages)


def test_pictures_survive_the_way_into_the_page() -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[2:4, 3:6] = (255, 0, 0)
    box = frame_slider([Frame(picture, "a", "a", "a"), *ramps(1)], "x")
    page = box.children[1].children[0].value
    encoded = re.search(r"base64,([^\"]+)", page)
    assert encoded is not None
    stored = Image.open(io.BytesIO(base64.b64decode(encoded[1]))).convert("RGB")
    assert np.array_equal(np.asarray(stored), picture)
    assert 'width="8" height="6"' in page


def test_a_figure_is_closed_and_takes_few_bytes() -> None:
    figure, axes = plt.subplots(figsize=(4, 3))
    rng = np.random.default_rng(0)
    axes.imshow(rng.random((8, 8)), cmap="magma")
    image = to_image(figure)
    assert plt.get_fignums() == []
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    assert len(to_png(image)) < 0.75 * len(stream.getvalue())
    assert len(to_png(image)) < 12_000


@pytest.mark.parametrize("count", [0, 1, 41])
def test_too_few_or_too_many_frames(count: int) -> None:
    with pytest.raises(ValueError, match=f"expected 2 to 40 frames, found {count}"):
        frame_slider(ramps(count, 2), "x")


def test_too_many_bytes() -> None:
    with pytest.raises(ValueError, match="at most 100 bytes of pictures, found"):
        frame_slider(ramps(3), "x", max_bytes=100)


@pytest.mark.parametrize(
    ("frame", "label", "message"),
    [
        (Frame(np.zeros((2, 2)), "", "alt", "v"), "x", r"empty: frames \[2\]"),
        (Frame(np.zeros((2, 2)), "caption", " ", "v"), "x", r"empty: frames \[2\]"),
        (Frame(np.zeros((2, 2)), "caption", "alt", ""), "x", r"empty: frames \[2\]"),
        (Frame(np.zeros((2, 2)), "caption", "alt", "v"), "", "empty: the label"),
        (Frame(np.zeros((2, 2, 4)), "caption", "alt", "v"), "x", r"found shape \(2, 2, 4\)"),
        (Frame(np.full((2, 2), 1.5), "caption", "alt", "v"), "x", "from 1.5 to 1.5"),
        (Frame(np.full((2, 2), np.nan), "caption", "alt", "v"), "x", "finite"),
    ],
)
def test_what_cannot_be_shown_is_refused(frame: Frame, label: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_slider([*ramps(2), frame], label)


def test_start_outside() -> None:
    with pytest.raises(ValueError, match="start: expected 0 to 1, found 2"):
        frame_slider(ramps(2), "x", start=2)


def grid() -> dict[tuple[str, ...], Frame]:
    frames = ramps(6)
    keys = [(a, b) for a in ("x", "y") for b in ("1", "2", "3")]
    return dict(zip(keys, frames, strict=True))


def test_menus_show_the_picture_of_every_combination() -> None:
    """As the browser does: a link copies a menu's index to the stacks below it."""
    frames = grid()
    box = frame_menus(frames, ["letter", "number"])
    menus, shown = box.children[0].children, box.children[1]
    links = by_model(box, "LinkModel")
    for a, letter in enumerate(("x", "y")):
        for b, number in enumerate(("1", "2", "3")):
            index = dict(zip((f"IPY_MODEL_{menu.model_id}" for menu in menus), (a, b), strict=True))
            chosen = {link["target"][0]: index[link["source"][0]] for link in links}
            stack = shown
            while not isinstance(stack, ipywidgets.HTML):
                stack = stack.children[chosen[f"IPY_MODEL_{stack.model_id}"]]
            assert frames[letter, number].caption in stack.value
    assert {(link["source"][1], link["target"][1]) for link in links} == {
        ("index", "selected_index")
    }
    assert [menu.options for menu in menus] == [("x", "y"), ("1", "2", "3")]
    assert [menu.description for menu in menus] == ["letter", "number"]


def test_menus_need_every_combination() -> None:
    frames = grid()
    with pytest.raises(ValueError, match="keys of another length"):
        frame_menus(frames, ["letter"])
    del frames["y", "2"]
    with pytest.raises(ValueError, match=r"missing: \[\('y', '2'\)\]"):
        frame_menus(frames, ["letter", "number"])
    with pytest.raises(ValueError, match="at most 10 bytes"):
        frame_menus(grid(), ["letter", "number"], max_bytes=10)
