"""The scatter of a selection: candidates, front, trend line, winner; one frame per menu choice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gainbook.lab.selection import Choice, select
from gainbook.render.theme import BLUE, GREY, ORANGE, VERMILION, WIDTH, wrap
from gainbook.render.widgets import Frame

NAMED = 9
"""Longest front whose candidates are all named in the figure; of a longer one the winner alone."""


def selection_figure(
    table: pd.DataFrame, choice: Choice, title: str, xlabel: str, ylabel: str
) -> Figure:
    """Candidates (grey), the front (blue), its trend line, and the winner (a red star).

    The axis of the cost is that of the trend line, linear or logarithmic.

    Args:
        table: columns `name`, `accuracy`, `cost`.
        choice: of `gainbook.lab.selection.select` on that table.
        title: names the table and the condition.
        xlabel: the cost, with its unit.
        ylabel: the accuracy, with its unit.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 3.9), layout="constrained")
    is_log = choice.trend.axis == "log"
    front, won = choice.front, choice.front["name"] == choice.winner
    out = table[~table["name"].isin(front["name"])]
    if len(out):
        label = "dominated, or removed by the loop" if choice.rejected else "dominated"
        axes.plot(out["cost"], out["accuracy"], "o", color=GREY, ms=3.5, alpha=0.5, mew=0,
                  label=label)  # fmt: skip
    axes.plot(front["cost"], front["accuracy"], "s", color=BLUE, ms=5, label="front")
    if len(front) > 1:
        low, high = front["cost"].min(), front["cost"].max()
        along = np.geomspace(low, high, 100) if is_log else np.linspace(low, high, 100)
        axes.plot(along, choice.trend.at(along), "--", color=ORANGE, lw=1.5, label="trend line")
    if won.any():
        star = front[won].iloc[0]
        axes.plot(star["cost"], star["accuracy"], "*", color=VERMILION, ms=14, label="winner")
    if is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.1)
    axes.autoscale_view()  # the names are placed by the limits
    for one in (front if len(front) <= NAMED else front[won]).to_dict("records"):
        place = axes.transData.transform((one["cost"], one["accuracy"]))
        is_right = axes.transAxes.inverted().transform(place)[0] > 0.55
        axes.annotate(
            one["name"].split(".")[0], (one["cost"], one["accuracy"]), fontsize=8,
            xytext=(-6 if is_right else 6, -9), textcoords="offset points",
            ha="right" if is_right else "left",
            fontweight="bold" if one["name"] == choice.winner else "normal",
        )  # fmt: skip
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(loc="lower right", fontsize=8)
    figure.suptitle(wrap(title, WIDTH), x=0.01, ha="left")
    return figure


def describe(choice: Choice) -> str:
    """The outcome of a selection in one or two sentences, with its numbers."""
    size = len(choice.front)
    if choice.winner is not None and size == 1:
        text = f"{choice.winner} wins: nothing else is on the front."
    elif choice.winner is not None:
        best = choice.front.loc[choice.front["name"] == choice.winner, "residual"].iloc[0]
        text = (
            f"{choice.winner} wins, {best:+.2f} points above the line of {size} candidates, "
            f"{choice.margin:.2f} before the next."
        )
    elif choice.tied:
        text = f"No winner: {' and '.join(choice.tied)} lie equally high above the line."
    else:
        text = "No winner: no candidate is left."
    if choice.rejected:
        many = len(choice.rejected)
        text += f" The loop removed {many} candidate{'s' * (many > 1)} that can't be used."
    return text


Condition = Callable[[pd.DataFrame], pd.DataFrame]


def selection_frames(
    named: Mapping[str, pd.DataFrame],
    axes: Mapping[str, tuple[str, str]],
    conditions: Mapping[str, Condition],
    ylabels: Mapping[str, str],
) -> dict[tuple[str, ...], Frame]:
    """A frame for every combination of table, axis and condition, by their words.

    Args:
        named: candidate tables by words.
        axes: column of the cost and "linear" or "log", by words. Where a table lacks the column,
            the frame states that it was not measured.
        conditions: which candidates take part, by words.
        ylabels: label of the accuracy, by the words of the table.
    """
    frames: dict[tuple[str, ...], Frame] = {}
    for name, axis, limit in itertools.product(named, axes, conditions):
        column, scale = axes[axis]
        table = named[name]
        table = table.assign(cost=table.get(column, np.nan))
        part = conditions[limit](table.dropna(subset=["cost"])).reset_index(drop=True)
        key, title = (name, axis, limit), f"{name}; {limit}"
        if part.empty:
            figure, axis_of = plt.subplots(figsize=(WIDTH, 3.9), layout="constrained")
            axis_of.set_axis_off()
            words = "No candidate has this figure under this condition."
            axis_of.text(0.5, 0.5, words, ha="center")
            figure.suptitle(wrap(title, WIDTH), x=0.01, ha="left")
        else:
            choice = select(part, axis=scale)
            words = describe(choice)
            figure = selection_figure(part, choice, title, axis, ylabels[name])
        alt = f"Scatter of {len(part)} candidates, {name}, {axis}, {limit}. {words}"
        frames[key] = Frame(figure, words, alt, ", ".join(key))
        plt.close(figure)
    return frames
