"""The explorer's sentences, frames and panel show what the models compute."""

from __future__ import annotations

import html
from typing import Any

import pytest
import torch
from gainbook.chapters.ch16_explorer.changes import AS_IT_IS, ERASED, KEPT, chosen, parts_of
from gainbook.render.explorer import Explorer
from matplotlib import pyplot as plt

import gainmtl
from gainmtl.datasets import load
from gainmtl.metrics import positive_energy


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    torch.manual_seed(0)
    data: Any = load("synthetic", image_size=48, train=16, val=8, test=12)
    models = {}
    for name in ("S1", "S5"):
        models[name] = gainmtl.GAINMTL("test_efficientnet", name, output_stride=4).eval()
        models[name].image_size, models[name].threshold = 48, 0.5
    return Explorer(models, parts_of(data.test, chosen(data.test.defect_types, 1, 2)))


def test_sentences_are_those_of_predict(explorer: Explorer) -> None:
    part = next(iter(explorer.parts))
    image, mask = explorer.parts[part].changes[AS_IT_IS]
    out = gainmtl.predict(explorer.models["S5"], image[None])
    seen = explorer.look("S5", part, AS_IT_IS)
    assert seen.probability == pytest.approx(out.table["defect_probability"].iloc[0])
    assert torch.equal(seen.maps["evidence"], torch.from_numpy(out.cams[0]))
    assert mask is not None
    expected = positive_energy(torch.from_numpy(out.defect_maps[0])[None, None], mask[None])
    assert seen.inside == pytest.approx(float(expected))
    words = explorer.describe("S5", part, AS_IT_IS)
    assert f"probability is {seen.probability:.2f}, the threshold 0.50" in words
    assert ": normal." in explorer.describe("S5", part, AS_IT_IS, threshold=1)
    assert ": defective." in explorer.describe("S5", part, AS_IT_IS, threshold=0)
    assert "defect map's peak" not in explorer.describe("S5", part, ERASED)


def test_frames_of_every_choice(explorer: Explorer) -> None:
    frames = explorer.frames([AS_IT_IS, ERASED])
    defective = [name for name, part in explorer.parts.items() if ERASED in part.changes]
    assert len(frames) == 2 * len(defective) * 2
    assert all(frame.caption == explorer.describe(*key) for key, frame in frames.items())
    assert not plt.get_fignums()
    many = Explorer({str(k): model for k in range(6) for model in [explorer.models["S1"]]},
                    list(explorer.parts.values()))  # fmt: skip
    changes = [AS_IT_IS, ERASED, KEPT, ERASED]
    assert {key[1] for key in many.frames(changes)} == set(defective[:1])


def test_the_panel_follows_its_controls(explorer: Explorer) -> None:
    controls, widget = explorer.panel().children

    def shown() -> str:
        return html.unescape(widget.value)

    system, part, change, maps, threshold = controls.children
    assert explorer.describe("S1", part.value, AS_IT_IS, threshold.value) in shown()
    before = shown()
    change.value = KEPT
    assert explorer.describe("S1", part.value, KEPT, threshold.value) in shown()
    assert shown() != before
    threshold.value = 1.0
    assert ": normal." in shown()
    before = shown()
    maps.value = "both"
    assert shown() != before
    system.value = "S5"
    assert threshold.value == 0.5
    part.value = list(explorer.parts)[-1]  # a normal part
    assert change.options == (AS_IT_IS,)
    assert explorer.describe("S5", part.value, AS_IT_IS, 0.5) in shown()
