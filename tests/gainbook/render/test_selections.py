"""The scatter of a selection, its words, and a frame per combination."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from gainbook.chapters.ch01_models import page
from gainbook.lab.selection import select
from gainbook.render.selections import NAMED, describe, selection_figure, selection_frames
from matplotlib import pyplot as plt

FOUR = pd.DataFrame(
    {"name": list("ABCD"), "accuracy": [80.0, 84, 85, 83], "cost": [10.0, 20, 40, 30]}
)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("axis", ["linear", "log"])
def test_the_figure_draws_front_line_and_winner(axis: str) -> None:
    choice = select(FOUR, axis=axis)
    figure = selection_figure(FOUR, choice, "title", "cost", "accuracy")
    axes = figure.axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["dominated"] == [[30, 83]]
    assert drawn["front"] == [[10, 80], [20, 84], [40, 85]]
    assert drawn["winner"] == [[20, 84]]
    (x, y) = drawn["trend line"][-1]
    assert (x, y) == (pytest.approx(40), pytest.approx(float(choice.trend.at(40))))
    assert [text.get_text() for text in axes.texts] == ["A", "B", "C"]
    assert axes.get_xscale() == axis


def test_a_long_front_names_the_winner_alone() -> None:
    many = pd.DataFrame(
        {"name": [f"m{i}" for i in range(NAMED + 2)],
         "accuracy": [80 + i + (0.5 if i == 5 else 0) for i in range(NAMED + 2)],
         "cost": [1.0 + i for i in range(NAMED + 2)]}
    )  # fmt: skip
    choice = select(many, "weak")
    figure = selection_figure(many, choice, "title", "cost", "accuracy")
    assert [text.get_text() for text in figure.axes[0].texts] == [choice.winner]


def test_one_candidate_has_no_line() -> None:
    figure = selection_figure(FOUR[:1], select(FOUR[:1]), "title", "cost", "accuracy")
    assert {line.get_label() for line in figure.axes[0].lines} == {"front", "winner"}


def test_the_words() -> None:
    assert describe(select(FOUR)) == (
        "B wins, +1.50 points above the line of 3 candidates, 2.00 before the next."
    )
    assert describe(select(FOUR[:1])) == "A wins: nothing else is on the front."
    assert describe(select(FOUR[:2])) == ("No winner: A and B lie equally high above the line.")
    removed = describe(select(FOUR.assign(usable=[True, False, True, True])))
    assert removed.endswith("The loop removed 1 candidate that can't be used.")
    assert describe(select(FOUR[:1].assign(usable=False))).startswith("No winner: no candidate")


def test_a_frame_for_every_combination() -> None:
    tables = {"few": FOUR.assign(ms=[1.0, 2, 3, 4]), "untimed": FOUR}
    axes = {"cost": ("cost", "linear"), "ms": ("ms", "log")}
    conditions = {"all": lambda t: t, "small": lambda t: t[t["cost"] <= 20]}
    frames = selection_frames(tables, axes, conditions, dict.fromkeys(tables, "accuracy"))
    assert len(frames) == 8
    assert "B wins, +1.50" in frames["few", "cost", "all"].caption
    assert frames["few", "cost", "all"].alt.startswith("Scatter of 4 candidates, few, cost, all.")
    missing = frames["untimed", "ms", "all"]
    assert missing.caption == "No candidate has this figure under this condition."


def test_the_book_s_explorer_follows_the_conditions() -> None:
    times = pd.Series({"efficientad-s": 900.0, "stfpm-resnet18": 50.0, "patchcore-resnet18": 70.0})
    named, axes, conditions, labels = page.explorer(times)
    assert set(labels) == set(named)
    assert len(named) * len(axes) * len(conditions) <= 40
    few = {name: table for name, table in named.items() if name != "timm's models"}
    frames = selection_frames(few, dict(list(axes.items())[:1]), conditions, labels)
    small = [key for key in frames if key[2].startswith("at most 25 M")]
    assert len(small) == len(few)
    for key in small:
        part = named[key[0]]
        count = (part["parameters"] <= 25).sum()
        assert f"Scatter of {count} candidates" in frames[key].alt
