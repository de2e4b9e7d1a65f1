"""The confounder of board designs: who is trained on what, figures by hand, and the criterion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch03_reason import boards, boards_page
from gainbook.chapters.ch03_reason.boards import AS_IN_TRAINING, BALANCED, NEW, REVERSED
from gainbook.chapters.ch03_reason.study import BOARDS, judge_boards
from gainbook.lab.catalogue import PLAIN, S5, TEXTBOOK
from gainbook.lab.judge import CONFIRMED, REFUTED, UNDECIDED
from gainbook.lab.results_file import check_rows
from gainbook.lab.seed_study import figure, run_cell, seed_rows
from PIL import Image

GROUPS = (("10", "11"), ("20", "21"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 pairs of each of five designs, 256 x 256: a defect in one tile of four, on noise."""
    monkeypatch.setattr(boards, "GROUPS", GROUPS)
    monkeypatch.setattr(boards, "UNSEEN", "30")
    rng = np.random.default_rng(0)
    for design in ("10", "11", "20", "21", "30"):
        folder = tmp_path / f"group{design}"
        folder.mkdir()
        for number in range(12):
            template = rng.random((256, 256)) < 0.5
            row, column = divmod(number % 4, 2)
            y, x = 128 * row + 40, 128 * column + 40
            tested = template.copy()
            tested[y : y + 30, x : x + 30] ^= True
            for kind, bits in (("test", tested), ("temp", template)):
                Image.fromarray(bits).save(folder / f"{number}_{kind}.png")
            (folder / f"{number}.txt").write_text(f"{x - 2},{y - 2},{x + 32},{y + 32},1")
    return tmp_path


def settings(root: Path) -> dict[str, Any]:
    return {
        **boards.SETTINGS, "data_root": str(root), "image_size": 32, "tiles": 16, "test_tiles": 2,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1,
    }  # fmt: skip


@pytest.mark.parametrize("agreement", boards.AGREEMENTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_who_is_trained_on_what(root: Path, agreement: float, seed: int) -> None:
    data = boards.load_confounded(settings(root), agreement, seed)
    groups = {p: set(getattr(data, p).groups) for p in ("train", "val", "test")}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))  # no shared pair
    first, second = GROUPS if seed == 0 else GROUPS[::-1]
    counts: Counter[tuple[bool, bool]] = Counter()
    for part in (data.train, data.val):
        for design, label in zip(part.designs, part.labels, strict=True):  # type: ignore[attr-defined]
            assert design in (*first, *second)
            counts[design in first, bool(label)] += 1
    many = round(16 * agreement)
    expected = {(True, True): many, (False, False): many}
    expected |= {(True, False): 16 - many, (False, True): 16 - many}
    assert +counts == +Counter(expected)
    test: Any = data.test
    tested = Counter(
        ("30" if d == "30" else d in first, bool(k))
        for d, k in zip(test.designs, test.labels, strict=True)
    )
    assert set(tested) == {(g, k) for g in (True, False, "30") for k in (True, False)}
    assert set(tested.values()) == {2}
    other = boards.load_confounded(settings(root), 0.5, seed).test
    assert other.names == test.names  # type: ignore[attr-defined]


def test_too_many_test_tiles_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="expected at most 2, .* of 30; got 3"):
        boards.load_confounded({**settings(root), "test_tiles": 3}, 0.5, 0)


def table() -> pd.DataFrame:
    """A tile of each state and group of designs, and two of an unseen design."""
    names = ["00041/1", "00041/2", "13000/1", "13000/2", "20085/1", "20085/2"]
    return pd.DataFrame(
        {
            "group": names,
            "is_defective": [True, False] * 3,
            "defect_probability": [0.9, 0.8, 0.3, 0.1, 0.7, 0.2],
            "is_flagged": [True, True, False, False, True, False],
            "twin_is_normal": [False, False, True, True, True, True],
            "cam.iou": [0.5, np.nan, 0.1, np.nan, 0.4, np.nan],
        }
    )


def test_figures_by_hand() -> None:
    found = {
        (one["metric"], one["condition"]["boards"]): one["value"]
        for one in boards.figures_of(table(), seed=0)
    }
    # defects of 00041 against normals of 13000, and the opposite
    assert found["auroc", AS_IN_TRAINING] == 1
    assert found["auroc", REVERSED] == 0
    assert found["auroc", BALANCED] == 3 / 4
    assert found["false_alarm_rate", REVERSED] == 1
    assert found["false_alarm_rate", BALANCED] == 0.5
    assert found["flip_rate", BALANCED] == 0  # the one defect found stays with its twin
    assert found["flip_rate", NEW] == 1
    assert found["flip_rate", REVERSED] is None  # none was found
    assert found["iou", BALANCED] == pytest.approx(0.3)
    assert found["iou", NEW] == 0.4
    swapped = {
        (one["metric"], one["condition"]["boards"]): one["value"]
        for one in boards.figures_of(table(), seed=1)
    }
    assert swapped["auroc", AS_IN_TRAINING] == 0
    assert swapped["auroc", BALANCED] == 3 / 4


def rows(plain: list[float], own: list[float]) -> pd.DataFrame:
    """Rows of two seeds: AUROC at the control 0.9, and at an agreement of 1 as given."""
    cells = BOARDS.cells(system=[PLAIN.tag, S5.tag], agreement=[0.5, 1.0], seed=[0, 1])

    def value(cell: Any) -> float:
        given = plain if cell["system"] == PLAIN.tag else own
        return 0.9 if cell["agreement"] == 0.5 else given[cell["seed"]]

    contents = [{"figures": [figure("auroc", value(c), boards=BALANCED)]} for c in cells]
    return pd.DataFrame(check_rows(seed_rows(BOARDS, cells, contents)))


def test_the_loss_is_against_the_same_seeds_control() -> None:
    found = rows([0.5, 0.7], [0.8, 0.9])
    own = found[found["metric"].isin([boards.LOSS, boards.KEPT])]
    values = {(r["system"], r["metric"]): r["value"] for r in own.to_dict("records")}
    assert values["S1", boards.LOSS] == pytest.approx(0.3)
    assert values["S5", boards.LOSS] == pytest.approx(0.05)
    # half of 0.4 and 0.2, minus 0.1 and 0
    assert values["S5", boards.KEPT] == pytest.approx(0.1)
    assert ("S1", boards.KEPT) not in values
    assert set(own["condition"].map(lambda c: c["agreement"])) == {1.0}


@pytest.mark.parametrize(
    ("own", "word"),
    [([0.80, 0.801], CONFIRMED), ([0.5, 0.501], REFUTED), ([0.5, 0.9], UNDECIDED)],
)
def test_the_criterion(own: list[float], word: str) -> None:
    assert judge_boards(rows([0.5, 0.501], own)).verdict == word


def test_without_a_loss_there_is_nothing_to_keep() -> None:
    assert judge_boards(rows([0.92, 0.921], [0.99, 0.991])).verdict == UNDECIDED


def test_the_pages_sentences_have_the_figures() -> None:
    cells = BOARDS.cells(agreement=[0.5, 1.0], seed=[0, 1])
    number = {system.tag: place for place, system in enumerate(boards.SYSTEMS)}
    contents = [
        {
            "figures": [
                figure(metric, start + 0.1 * number[c["system"]] + 0.01 * tests.index(test)
                       - 0.05 * (c["agreement"] == 1), boards=test)
                for metric, start in (("auroc", 0.5), ("flip_rate", 0.2), ("false_alarm_rate", 0.1))
                for tests in [(AS_IN_TRAINING, BALANCED, REVERSED, NEW)]
                for test in tests
            ]
        }
        for c in cells
    ]  # fmt: skip
    table = pd.DataFrame(seed_rows(BOARDS, cells, contents))
    lines = boards_page.opening(table).splitlines()
    assert lines[4].startswith("| textbook fine-tune | 0.45 [0.45, 0.45] | 0.46 [0.46, 0.46] | ")
    assert lines[6].startswith("| S5 | 0.75 [0.75, 0.75] | 0.76 [")
    assert lines[6].endswith("0.46 [0.46, 0.46] | 0.51 [0.51, 0.51] |")  # twins
    assert "0.050 [0.050, 0.050] for S1" in boards_page.lead(table)
    assert "is gone: 0.26 [0.26, 0.26] for S1, 0.46 [" in boards_page.lead(table)
    text = boards_page.notice(table)
    assert "AUROC of 0.55 [0.55, 0.55] (control 0.60 [0.60, 0.60]), on balanced ones 0.56" in text
    assert "S1 flags 0.18 [" in text
    lines = boards_page.answer(table).splitlines()
    assert lines[2].startswith("| textbook fine-tune | 0.45 [0.45, 0.45] | 0.46 [0.46, 0.46] | ")
    assert lines[-1].startswith("| S5 | 0.46 [0.46, 0.46] | 0.51 [")
    drawn = boards_page.frame(table)
    assert set(drawn["panel"]) == {BALANCED, NEW}
    assert len(drawn) == 2 * len(boards.SYSTEMS) * 2


def test_one_run(root: Path, tmp_path: Path) -> None:
    cell = BOARDS.cells(system=[TEXTBOOK.tag], agreement=[1.0], seed=[0])[0]
    content = run_cell(BOARDS, tmp_path / "runs", settings(root), cell)
    found = {(one["metric"], one["condition"]["boards"]) for one in content["figures"]}
    assert {("auroc", BALANCED), ("flip_rate", NEW), ("point_game", BALANCED)} <= found
    assert content["settings"]["data_root"] == root.name  # no path of a machine
