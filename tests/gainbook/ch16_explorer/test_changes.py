"""Changes of a part, by hand, and the table of what stays defective."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch16_explorer import changes, live
from gainbook.chapters.ch16_explorer.changes import (
    AS_IT_IS,
    ELSEWHERE,
    ERASED,
    FOLLOWS,
    KEPT,
    MOVED,
    TWIN,
    Changed,
    Part,
    changes_of,
    chosen,
    parts_of,
    stay_table,
)
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from PIL import Image

import gainmtl
from gainmtl.datasets import load
from gainmtl.types import Sample


def sample(is_defective: bool = True, has_mask: bool = True) -> Sample:
    """A flat grey image, brighter in rows and columns 10 to 12."""
    image, mask = torch.full((3, 48, 48), 0.4), torch.zeros(1, 48, 48)
    if is_defective:
        image[:, 10:13, 10:13] = 0.9
        mask[:, 10:13, 10:13] = 1
    return Sample(image, is_defective, mask, has_mask, "stain", "g", "n")


def test_a_flat_part_by_hand() -> None:
    flat = torch.full((3, 48, 48), 0.4)
    found = changes_of(sample(), flat, flat)
    assert list(found) == [AS_IT_IS, ERASED, MOVED, ELSEWHERE, KEPT, TWIN]
    for name in (ERASED, TWIN):
        torch.testing.assert_close(found[name].image, flat, atol=1e-4, rtol=0)
        assert found[name].mask is None
    for name in (AS_IT_IS, ELSEWHERE, KEPT):
        torch.testing.assert_close(found[name].image, sample().image, atol=1e-4, rtol=0)
        assert torch.equal(found[name].mask, sample().mask)  # type: ignore[arg-type]
    moved = found[MOVED]
    assert moved.mask is not None
    assert moved.mask.sum() == 9
    assert (moved.mask * sample().mask).sum() == 0
    torch.testing.assert_close(moved.image, flat + 0.5 * moved.mask, atol=1e-4, rtol=0)


def test_without_a_mask_only_the_image_and_its_twin() -> None:
    flat = torch.full((3, 48, 48), 0.4)
    assert list(changes_of(sample(has_mask=False), flat, flat)) == [AS_IT_IS, TWIN]
    assert changes_of(sample(has_mask=False), flat)[AS_IT_IS].mask is None
    assert list(changes_of(sample(False), flat, flat)) == [AS_IT_IS]


def test_chosen_by_hand() -> None:
    labels = ["normal", "b", "a", "a", "normal", "b", "c"]
    assert chosen(labels, 1, 5) == [2, 1, 6, 0]
    assert chosen(labels, 2, 3) == [2, 3, 1, 0, 4]


def test_synthetic_parts_have_a_twin_and_boards_of_other_sets_their_own() -> None:
    data: Any = load("synthetic", image_size=48, train=16, val=8, test=12)
    rows = chosen(data.test.defect_types, 1, 2)
    parts = parts_of(data.test, rows)
    assert TWIN in parts[0].changes
    torch.testing.assert_close(parts[0].changes[TWIN].image, data.test.clean_image(rows[0]))
    assert list(parts[-1].changes) == [AS_IT_IS]


def test_what_stays_defective_is_counted_among_the_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that flags any pixel above 0.8, and whose map peaks at the brightest one."""

    def predict(model: object, images: torch.Tensor) -> Any:
        grey = images.mean(1)
        peaks = [divmod(int(one.argmax()), one.shape[1]) for one in grey]
        rows = [
            {"verdict": "defective" if one.max() > 0.8 else "normal", "peak_row": y,
             "peak_column": x}
            for one, (y, x) in zip(grey, peaks, strict=True)
        ]  # fmt: skip
        return type("Out", (), {"table": pd.DataFrame(rows)})

    monkeypatch.setattr(changes, "predict", predict)
    flat = torch.full((3, 48, 48), 0.4)
    found = changes_of(sample(), flat, flat)
    missed = Part("missed", "g", {AS_IT_IS: Changed(flat, None), ERASED: Changed(flat, None)})
    other = Part("other", "h", {AS_IT_IS: found[AS_IT_IS], ERASED: found[KEPT]})
    table = stay_table(None, [Part("found", "g", found), missed, other])
    assert table["group"].tolist() == ["g", "h"]
    first, second = table.drop(columns="group").to_dict("records")
    assert first == {
        AS_IT_IS: 1, ERASED: 0, TWIN: 0, MOVED: 1, FOLLOWS: 1, ELSEWHERE: 1, KEPT: 1,
    }  # fmt: skip
    assert {name for name, value in second.items() if value == value} == {AS_IT_IS, ERASED}
    assert live.share(table, ERASED).value == 0.5
    gap = live.share(table, ERASED, ELSEWHERE)
    assert (gap.value, gap.n) == (-1, 1)
    assert math.isnan(live.share(table.drop(columns=KEPT), KEPT).value)
    stays = {"S1": table}
    assert live.summary(stays).count("\n") == 7
    assert "finds 1 defects, too few to judge" in live.noticed(stays)
    many = pd.concat([table.iloc[:1].assign(group=str(k)) for k in range(10)])
    words = live.noticed({"S1": many}).replace("\N{MINUS SIGN}", "-")
    assert "is -1.00 [-1.00, -1.00]: its verdicts rest on the defect" in words
    assert "finds 2 of the defective parts" in live.answer(stays)[0]
    check_rows(live.rows(stays, "synthetic"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"checkpoints": ["a.safetensors"]}, "the parts are synthetic"),
        ({"dataset": "folder", "data_root": "x"}, "expected trained models for 'folder'"),
        ({"dataset": "fodler", "checkpoints": ["a.safetensors"]}, "got 'fodler'"),
    ],
)
def test_parameters_that_exclude_each_other(given: dict[str, Any], words: str) -> None:
    base = {"dataset": "synthetic", "checkpoints": None, "notebook": "16_explorer"}
    with pytest.raises(ValueError, match=words):
        live.check(Parameters(**{**base, **given}))


def test_the_checkpoint_of_a_detector(tmp_path: Path) -> None:
    path = gainmtl.save(gainmtl.MemoryBank("test_efficientnet"), tmp_path / "bank")
    chosen = Parameters(dataset="folder", data_root=".", seeds=(0,), checkpoints=[str(path)])
    with pytest.raises(TypeError, match="checkpoints: expected .*, got MemoryBank; "):
        live.systems_and_test(chosen)


def test_own_models_and_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for k in range(12):
        kind = "normal" if k < 6 else "defective"
        path = tmp_path / f"parts/images/{kind}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(path)
    files = []
    for name in ("S1", "S5"):
        model = gainmtl.GAINMTL("test_efficientnet", name)
        model.image_size, model.threshold = 32, 0.0
        files.append(str(gainmtl.save(model, tmp_path / name / "model")))
    base = {"dataset": "folder", "data_root": str(tmp_path / "parts"), "seeds": (0,)}
    models, test = live.systems_and_test(Parameters(**base, checkpoints=files))
    assert list(models) == ["S1, S1", "S5, S5"]
    stays = live.stays_of(models, test)
    assert list(stays["S1, S1"]) == ["group", AS_IT_IS]  # no masks, no twins
    assert live.summary(stays).count("\n") == 1
