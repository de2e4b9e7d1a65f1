"""Statistical figures: intervals, curves, heat maps, distributions, schedules and losses.

Most functions take a tidy table: one row per value that is drawn. NaN is not drawn. Each function
returns a matplotlib `Figure`, unshown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from seaborn import objects as so

from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find
from gainbook.render.theme import BLUE, CYCLE, GREY, LINES, MARKERS, VERMILION, WIDTH, wrap
from gainmtl.strategies import Strategy, get_strategy
from gainmtl.training.gradient_conflict import Conflict

so.Plot.config.theme.update(mpl.rcParams)  # the book's style in place of seaborn's default

BETTER, WORSE, NEITHER = "better", "worse", "neither"
_EFFECTS = {BETTER: (BLUE, "o", True), WORSE: (VERMILION, "D", True), NEITHER: (GREY, "s", False)}
"""Colour, marker and whether it is filled."""
Limits = tuple[float, float]


def intervals(
    table: pd.DataFrame,
    title: str,
    label: str,
    line: float | None = None,
    limits: Limits | None = None,
    width: float = WIDTH,
) -> Figure:
    """Values with their intervals: one line per `category`, in it the `series` side by side.

    Args:
        table: columns `category`, `series`, `value`, `ci_low`, `ci_high`, as
            `gainbook.lab.tables.series` returns them. Optional `is_open`: rows with open marks, for
            a second measure of the same series.
        title: names the quantity.
        label: of the horizontal axis.
        line: value of a vertical line, as 0 for differences or 0.5 for chance.
        limits: of the horizontal axis.
        width: inches.
    """
    if table.empty:
        raise ValueError("intervals: expected at least one value to draw, got an empty table")
    categories, series = (list(dict.fromkeys(table[key])) for key in ("category", "series"))
    height = 1.0 + len(categories) * max(0.36, 0.19 * len(series) + 0.06)
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    is_filled = ~table["is_open"].astype(bool) if "is_open" in table else True
    plot = so.Plot(
        table.assign(is_filled=is_filled).reset_index(drop=True),
        x="value", y="category", color="series", marker="series", fill="is_filled",
    )  # fmt: skip
    plot = _add_intervals(plot, "y", so.Dodge(by=["color"]))
    look = _look(series) | {"y": so.Nominal(order=categories)}
    plot.scale(fill=so.Nominal({True: True, False: False}), **look).on(axes).plot()
    axes.set(xlabel=label, ylabel="")
    axes.grid(axis="y", visible=False)
    if limits is not None:
        axes.set_xlim(limits)
    if line is not None:
        axes.axvline(line, color="0.3", lw=1, zorder=0)
    figure.suptitle(wrap(title, width), x=0.01, ha="left")
    _legend(figure, series)
    return figure


def effect(value: Value) -> str:
    """`BETTER` where the interval of a difference lies above 0, `WORSE` below, else `NEITHER`."""
    return BETTER if value.low > 0 else WORSE if value.high < 0 else NEITHER


def forest(
    lines: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[Value]]],
    title: str,
    across: int = 3,
) -> Figure:
    """Differences with their intervals, one line per step and one panel per measure.

    A disc is an interval above 0, a diamond one below, an open square one that contains 0. A value
    that was not measured leaves its place empty. Every panel has its own scale, symmetric about 0.

    Args:
        lines: names of the steps, from top to bottom.
        panels: by group and measure, one value per line.
        title: names what is subtracted from what.
        across: panels side by side.
    """
    measures = [(group, name) for group, inner in panels.items() for name in inner]
    if not lines or not measures:
        raise ValueError("forest: expected at least one line and one measure")
    wrong = [name for group, name in measures if len(panels[group][name]) != len(lines)]
    if wrong:
        raise ValueError(f"forest: expected {len(lines)} values of each measure, not so: {wrong}")
    table = pd.DataFrame(
        [
            (index, place, *value[:3], effect(value))
            for index, (group, name) in enumerate(measures)
            for place, value in enumerate(panels[group][name])
        ],
        columns=["panel", "line", "value", "ci_low", "ci_high", "effect"],
    )
    rows = sum(0.3 + 0.16 * line.count("\n") for line in lines)
    down = -(-len(measures) // across)
    figure = plt.figure(figsize=(WIDTH, 0.7 + (rows + 1.0) * down), layout="constrained")
    plot = so.Plot(table, x="value", y="line", color="effect", marker="effect", fill="effect")
    plot = _add_intervals(plot, "y").facet(col="panel", wrap=across).share(x=False)
    colour, marker, fill = (
        so.Nominal({name: look[part] for name, look in _EFFECTS.items()}) for part in range(3)
    )
    plot.scale(color=colour, marker=marker, fill=fill).on(figure).plot()
    for index, (axes, (group, name)) in enumerate(zip(figure.axes, measures, strict=True)):
        axes.set(xlabel="", ylabel="", ylim=(len(lines) - 0.5, -0.5))
        axes.set_yticks(range(len(lines)), lines)
        axes.set_title(name)
        if index == 0 or measures[index - 1][0] != group:
            _heading(axes, group, 1 + name.count("\n"))
        ends = table.loc[table["panel"] == index, ["value", "ci_low", "ci_high"]].abs().max().max()
        reach = 1.12 * np.nan_to_num(ends) or 1.0
        axes.set_xlim(-reach, reach)
        power = 10.0 ** np.floor(np.log10(0.8 * reach))
        tick = power * max(k for k in (1, 2, 5) if k * power <= 0.8 * reach)
        axes.set_xticks([-tick, 0, tick], [f"−{tick:g}", "0", f"{tick:g}"])
        axes.axvline(0, color="0.3", lw=1, zorder=0)
        axes.grid(axis="y", visible=False)
    figure.suptitle(wrap(title, WIDTH), x=0.01, ha="left")
    figure.supxlabel("difference; right of the line is better")
    return figure


def curves(
    table: pd.DataFrame,
    label: str,
    ylabel: str = "",
    *,
    title: str = "",
    limits: Limits | Mapping[str, Limits] | None = None,
    scales: tuple[str, str] = ("linear", "linear"),
    lines: Mapping[str, float] | None = None,
    starts: Mapping[str, float] | None = None,
    markers: bool = True,
    share_x: bool = True,
    across: int = 2,
    height: float = 2.4,
) -> Figure:
    """Lines over x, with a band where the table has intervals; one plot per panel.

    An undefined value leaves a gap. A panel with a negative value gets a line at 0.

    Args:
        table: columns `x` and `value`. Optional: `panel` and `series`; `ci_low` and `ci_high`, the
            ends of the band; `unit`, several lines of one series, as its folds. An `x` of text is
            drawn at even distances, in the order of the rows.
        label: of the horizontal axis.
        ylabel: of the vertical axes.
        title: names the quantity; with several panels each has its `panel` as title.
        limits: of the vertical axes, or by panel.
        scales: matplotlib's names of the horizontal and the vertical scale, as `("log", "linear")`.
        lines: by word, values that get a dotted horizontal line.
        starts: by word, places on x that get a dotted vertical line.
        markers: `False` distinguishes series by dashes, for curves of many points.
        share_x: whether all panels have the same horizontal axis.
        across: panels side by side.
        height: of one panel, inches.
    """
    if table.empty:
        raise ValueError("curves: expected at least one value to draw, got an empty table")
    table = table.assign(**{key: "" for key in ("panel", "series", "unit") if key not in table})
    panels, series = (list(dict.fromkeys(table[key])) for key in ("panel", "series"))
    ticks = None if pd.api.types.is_numeric_dtype(table["x"]) else list(dict.fromkeys(table["x"]))
    if ticks is not None:
        table = table.assign(x=table["x"].map(ticks.index))
    table = table.sort_values("x", kind="stable", ignore_index=True)
    unit = ["panel", "series", "unit"]
    gaps = table.groupby(unit, sort=False)["value"].transform(lambda value: value.isna().cumsum())
    table["stretch"] = table["unit"].astype(str) + gaps.astype(int).astype(str)
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    size = (WIDTH if across > 1 else 5.2, height * down + 0.7)
    figure = plt.figure(figsize=size, layout="constrained")
    look = _look(series, markers)
    plot = so.Plot(table, x="x", y="value", group="stretch", **dict.fromkeys(look, "series"))
    if {"ci_low", "ci_high"} <= set(table):
        plot = plot.add(so.Band(alpha=0.15), ymin="ci_low", ymax="ci_high", legend=False)
    plot = plot.add(so.Line(linewidth=1.6, pointsize=4.5), legend=False)
    plot = plot.facet(col="panel", order=panels, wrap=across).share(x=share_x, y=False)
    plot.scale(**look).on(figure).plot()
    for place, (axes, panel) in enumerate(zip(figure.axes, panels, strict=True)):
        is_last = not share_x or place + across >= len(panels)
        axes.set(xlabel=label if is_last else "", ylabel="", xscale=scales[0], yscale=scales[1])
        axes.set_title(wrap(str(panel) or title, size[0] / across - 0.4))
        if ticks is not None:
            axes.set_xticks(range(len(ticks)), ticks)
        elif scales[0] == "linear":
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=_is_whole(table["x"])))
        drawn = limits.get(panel) if isinstance(limits, Mapping) else limits
        if drawn is not None:
            axes.set_ylim(drawn)
        if (table.loc[table["panel"] == panel, "value"] < 0).any():
            axes.axhline(0, color="0.3", lw=0.8, zorder=0)
        _words(axes, lines or {}, starts or {}, is_first=place == 0)
    if len(panels) > 1 and title:
        figure.suptitle(wrap(title, size[0]), x=0.01, ha="left")
    figure.supylabel(ylabel)
    _legend(figure, series, markers, lines=True)
    return figure


def by_setting(
    table: pd.DataFrame,
    label: str,
    limits: Mapping[str, Limits] | None = None,
    chosen: str | None = None,
) -> Figure:
    """Values with intervals over settings, as shares or weights, at even distances.

    Args:
        table: columns `panel`, `setting` (text), `value`, `ci_low`, `ci_high`. Optional:
            `is_apart`, a setting that differs in more than the dial, drawn open and not joined to
            the others; `draws`, a sequence of the single values that `value` is the mean of.
        label: of the horizontal axis.
        limits: of a panel's vertical axis, by panel.
        chosen: the setting that is marked by a grey band.
    """
    if table.empty:
        raise ValueError("by_setting: expected at least one panel with values, got an empty table")
    panels, settings = (list(dict.fromkeys(table[key])) for key in ("panel", "setting"))
    is_apart = table["is_apart"].astype(bool) if "is_apart" in table else False
    table = table.assign(place=table["setting"].map(settings.index), is_apart=is_apart)
    table = table.reset_index(drop=True)
    letters = sum(1 + max(map(len, setting.split("\n"))) for setting in settings)
    across = min(3 if letters < 20 else 2, len(panels))  # so that the settings stay apart
    down = -(-len(panels) // across)
    figure = plt.figure(figsize=(WIDTH, 2.0 * down + 0.5), layout="constrained")
    apart = dict.fromkeys(("color", "marker", "fill"), "is_apart")
    plot = so.Plot(table, x="place", y="value", **apart)
    joined = table[~table["is_apart"]].dropna(subset="value")
    plot = plot.add(so.Line(linewidth=1.2, marker=""), data=joined, legend=False)
    plot = _add_intervals(plot, "x")
    look = {
        "color": so.Nominal({False: BLUE, True: GREY}),
        "marker": so.Nominal({False: "o", True: "s"}),
        "fill": so.Nominal({False: True, True: False}),
    }
    plot = plot.facet(col="panel", order=panels, wrap=across).share(y=False)
    plot.scale(**look).on(figure).plot()
    for axes, panel in zip(figure.axes, panels, strict=True):
        axes.set(xlabel="", ylabel="", xlim=(-0.5, len(settings) - 0.5))
        axes.set_xticks(range(len(settings)), settings)
        axes.set_title(wrap(str(panel), WIDTH / across - 0.4))
        axes.grid(axis="x", visible=False)
        rows = table[table["panel"] == panel]
        for place, draws in zip(rows["place"], rows.get("draws", ()), strict=False):
            if len(draws) > 1:
                axes.plot([place + 0.25] * len(draws), draws, "_", color=VERMILION, ms=7, mew=1.6)
        if limits is not None and panel in limits:
            axes.set_ylim(limits[panel])
        if chosen in settings:
            place = settings.index(chosen)
            axes.axvspan(place - 0.3, place + 0.3, color="0.92", lw=0, zorder=0)
    figure.supxlabel(label)
    return figure


def over_weight(
    rows: pd.DataFrame,
    systems: Mapping[float, System],
    panels: Mapping[str, tuple[str, str | None, Mapping[str, Any]]],
    label: str,
    chosen: float | None = None,
) -> Figure:
    """`by_setting` of systems that differ in one weight. A missing row leaves a gap.

    Args:
        rows: result rows.
        systems: by weight, in order.
        panels: metric, map and condition by title.
        label: of the horizontal axis.
        chosen: the weight that is marked by a grey band.
    """
    if not panels or len(systems) < 2:
        raise ValueError("over_weight: expected at least one measure and two weights")
    lines = []
    for title, (metric, map_name, condition) in panels.items():
        for weight, system in systems.items():
            try:
                ends = find(rows, system, metric, map_name, **condition)[:3]
            except LookupError:
                ends = (np.nan,) * 3
            lines.append((title, f"{weight:g}", *ends))
    table = pd.DataFrame(lines, columns=["panel", "setting", "value", "ci_low", "ci_high"])
    mark = None if chosen is None else f"{chosen:g}"
    return by_setting(table, label, chosen=mark)


def heat_maps(
    tables: Mapping[str, pd.DataFrame],
    label: str,
    limits: Limits = (-1.0, 1.0),
    colours: str = "RdBu",
) -> Figure:
    """Square tables as colours, side by side on one scale; NaN cells are hatched.

    Args:
        tables: by title; index and columns name the cells, alike in all tables.
        label: of the colour bar.
        limits: of the scale.
        colours: a matplotlib colour map.
    """
    if not tables:
        raise ValueError("heat_maps: expected at least one table")
    side = (WIDTH - 1.2) / len(tables)
    figure, grid = plt.subplots(
        1, len(tables), figsize=(WIDTH, side + 1.9), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    low, high = limits
    for axes, (title, table) in zip(grid[0], tables.items(), strict=True):
        axes.grid(visible=False)
        axes.patch.set(facecolor="0.93", hatch="///", edgecolor="0.8")
        sns.heatmap(
            table, vmin=low, vmax=high, cmap=colours, square=True, cbar=False, ax=axes,
            xticklabels=True, yticklabels=True,
        )  # fmt: skip
        axes.tick_params(labelsize=9, length=0)
        axes.set(xlabel="", ylabel="")
        axes.set_title(wrap(title, side))
    figure.colorbar(
        grid[0, 0].collections[0], ax=list(grid[0]), label=label, location="bottom", shrink=0.6,
        aspect=30,
    )  # fmt: skip
    return figure


def conflicts(conflicts: Mapping[str, Conflict], terms: Sequence[str]) -> Figure:
    """Cosines between the gradients of every pair of `terms`, one heat map per series.

    A term that is off or has no gradient is hatched.
    """
    names = {term: term.replace("_", " ") for term in terms}
    tables = {
        title: pd.DataFrame(one.cosines, index=one.terms, columns=one.terms)
        .reindex(index=terms, columns=terms)
        .rename(index=names, columns=names)
        for title, one in conflicts.items()
    }
    return heat_maps(tables, "cosine of two gradients")


def strip(
    table: pd.DataFrame, title: str, label: str, lines: Sequence[float] = (), width: float = WIDTH
) -> Figure:
    """Every value as a stroke, one line per `category`.

    Args:
        table: columns `category` and `value`.
        title: names the quantity and what the dashed lines are.
        label: of the horizontal axis.
        lines: values of dashed vertical lines, as thresholds.
        width: inches.
    """
    categories = list(dict.fromkeys(table["category"]))
    height = 0.42 * len(categories) + 1.0
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    # sns.stripplot would draw from numpy's global random stream.
    plot = so.Plot(table.reset_index(drop=True), x="value", y="category", color="category")
    plot = plot.add(so.Dash(width=0.6, linewidth=1.4, alpha=0.7), orient="y", legend=False)
    look = {"color": _look(categories)["color"], "y": so.Nominal(order=categories)}
    plot.scale(**look).on(axes).plot()
    for value in lines:
        axes.axvline(value, color="black", ls="--", lw=1)
    axes.set(xlabel=label, ylabel="")
    axes.grid(axis="y", visible=False)
    figure.suptitle(wrap(title, width), x=0.01, ha="left")
    return figure


def schedule(strategy: str | Strategy, epochs: int = 12, steps: int = 200) -> Figure:
    """The weight of every loss term of a strategy over the epochs."""
    plan = get_strategy(strategy)
    terms = plan.weights.active()
    progress = np.linspace(0, 1, steps, endpoint=False)
    figure, axes = plt.subplots(figsize=(WIDTH, 0.38 * len(terms) + 1.0), layout="constrained")
    for place, term in enumerate(terms):
        weights = np.array([getattr(plan.weights_at(p), term) for p in progress])
        full = getattr(plan.weights, term)
        axes.fill_between(
            progress * epochs, place + 0.38, place + 0.38 - 0.76 * weights / full,
            color=CYCLE[place % len(CYCLE)], alpha=0.75, lw=0,
        )  # fmt: skip
        axes.text(epochs * 1.01, place, f"{full:g}", va="center")
    axes.text(epochs * 1.01, -0.8, "weight", va="center", color="0.3")
    axes.set(xlim=(0, epochs), ylim=(len(terms) - 0.5, -0.5), xlabel="epochs done")
    axes.set_yticks(range(len(terms)), [term.replace("_", " ") for term in terms])
    axes.grid(visible=False)
    axes.set_title(f"{plan.name}: which term is on, and its weight")
    return figure


def losses(history: pd.DataFrame) -> Figure:
    """Every loss term of `fit`'s history over the epochs, unweighted, one small plot each.

    Epochs in which the term was off are left out; at full weight the line is thicker. The history
    of several folds is drawn as their mean, with a band from the lowest to the highest.
    """
    terms = [n.removeprefix("weight_") for n in history.columns if n.startswith("weight_")]
    terms = [term for term in terms if term in history.columns and history[term].notna().any()]
    if not terms:
        raise ValueError(
            "losses: expected columns `<term>` and `weight_<term>`; pass the history that `fit` "
            "returned"
        )
    across = min(3, len(terms))
    down = -(-len(terms) // across)
    figure, grid = plt.subplots(
        down, across, figsize=(WIDTH, 1.6 * down + 0.4), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    epochs = history.assign(epoch=history["epoch"] + 1)
    for place, axes in enumerate(grid.flat):
        if place >= len(terms):
            axes.set_visible(False)
            continue
        term, colour = terms[place], CYCLE[place % len(CYCLE)]
        weight = history[f"weight_{term}"].astype(float)
        for part, width in ((epochs, 1.0), (epochs[weight >= weight.max()], 2.6)):
            sns.lineplot(
                part, x="epoch", y=term, color=colour, lw=width, errorbar=("pi", 100), ax=axes
            )
        axes.set_title(term.replace("_", " "))
        axes.set(xlabel="", ylabel="", xlim=(0.5, epochs["epoch"].max() + 0.5))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("epoch")
    return figure


def _add_intervals(plot: so.Plot, orient: str, *moves: so.Move) -> so.Plot:
    """Ranges and dots; an open dot hides the range behind it."""
    along = "y" if orient == "x" else "x"
    ends = {f"{along}min": "ci_low", f"{along}max": "ci_high"}
    about: dict[str, Any] = {"orient": orient, "legend": False}
    plot = plot.add(so.Range(linewidth=1.4), *moves, **about, **ends)
    plot = plot.add(so.Dot(pointsize=6, color="white"), *moves, **about)
    return plot.add(so.Dot(pointsize=6), *moves, **about)


def _look(series: Sequence[str], markers: bool = True) -> dict[str, so.Nominal]:
    """Scales that give each series a colour, and a marker or a dash pattern."""

    def nominal(values: Sequence[str]) -> so.Nominal:
        return so.Nominal([values[i % len(values)] for i in range(len(series))], order=series)

    second = {"marker": nominal(MARKERS)} if markers else {"linestyle": nominal(LINES)}
    return {"color": nominal(CYCLE), **second}


def _legend(
    figure: Figure, series: Sequence[str], markers: bool = True, lines: bool = False
) -> None:
    """The series below the figure, unless there is only one."""
    if len(series) < 2:
        return
    handles = []
    for i in range(len(series)):
        dash = "" if not lines else "-" if markers else LINES[i % len(LINES)]
        marker = MARKERS[i % len(MARKERS)] if markers else ""
        handles.append(Line2D([], [], color=CYCLE[i % len(CYCLE)], marker=marker, ls=dash))
    letters = max(map(len, series)) + 5
    columns = max(1, min(len(series), int(figure.get_figwidth() / (0.08 * letters))))
    figure.legend(handles, series, loc="outside lower center", ncols=columns)


def _heading(axes: Axes, text: str, lines: int) -> None:
    """Bold words above a title of so many lines."""
    axes.annotate(
        text, (0, 1), xytext=(0, 9 + 14 * lines), xycoords="axes fraction",
        textcoords="offset points", fontweight="bold",
    )  # fmt: skip


def _words(
    axes: Axes, lines: Mapping[str, float], starts: Mapping[str, float], is_first: bool
) -> None:
    """Dotted lines: `lines` by value, `starts` by place on x. The first plot has their words."""
    for word, value in lines.items():
        axes.axhline(value, color="0.5", ls=":", lw=1.2)
        axes.text(
            1, value, word if is_first else "", color="0.35", ha="right", va="bottom", fontsize=9,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    for word, place in starts.items():
        axes.axvline(place, color="0.5", ls=":", lw=1.2)
        axes.text(
            place, 1.0, word if is_first else "", color="0.35", rotation=90, ha="right", va="top",
            fontsize=9, transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _is_whole(values: pd.Series) -> bool:
    return bool((values.dropna() % 1 == 0).all())
