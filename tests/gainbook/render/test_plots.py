"""Statistical figures: what is drawn where, and that nothing depends on colour alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from gainbook.lab import catalogue
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value
from gainbook.render import plots, theme
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gainmtl.strategies import get_strategy
from gainmtl.training.gradient_conflict import Conflict


@pytest.fixture(autouse=True)
def _theme() -> Iterator[None]:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with mpl.rc_context(theme.STYLE):
        mpl.use("agg")
        yield
    plt.close("all")
    # No figure draws from the global random stream.
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def dots(axes: Axes) -> list[tuple[str, list[float]]]:
    """Colour and position of every coloured dot, in drawing order."""
    return [
        (to_hex(colour).upper(), xy.tolist())
        for part in axes.collections
        if not isinstance(part, LineCollection | PolyCollection)
        for xy, colour in zip(part.get_offsets(), part.get_edgecolors(), strict=True)
        if to_hex(colour) != "#ffffff"  # the ground of an open dot
    ]


def ranges(axes: Axes, along: int) -> list[list[float]]:
    """The two ends of every interval, on the axis `along` which it lies."""
    parts = [part for part in axes.collections if isinstance(part, LineCollection)]
    return [segment[:, along].tolist() for part in parts for segment in part.get_segments()]


def curve_lines(axes: Axes) -> list[Line2D]:
    """The lines of the data: those that seaborn draws have a dash pattern of their own."""
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def interval_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "category": ["AUROC", "AUROC", "recall"],
            "series": ["S1", "S5", "S1"],
            "value": [0.9, 0.95, 0.5],
            "ci_low": [0.8, np.nan, 0.3],
            "ci_high": [0.95, np.nan, 0.6],
        }
    )


def test_intervals_draw_values_and_ends_and_leave_undefined_ends_out() -> None:
    figure = plots.intervals(interval_table(), "quality", "share", limits=(0, 1))
    axes = figure.axes[0]
    values = [(colour, xy[0]) for colour, xy in dots(axes)]
    assert sorted(values) == [(theme.BLUE, 0.5), (theme.BLUE, 0.9), (theme.ORANGE, 0.95)]
    assert sorted(ranges(axes, 0)) == [[0.3, 0.6], [0.8, 0.95]]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["AUROC", "recall"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first category is at the top
    assert axes.get_xlim() == (0, 1)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["S1", "S5"]
    places = sorted(xy[1] for _, xy in dots(axes))
    assert len(set(places)) == 3  # side by side within a category
    assert np.round(places).tolist() == [0, 0, 1]


def test_intervals_follow_rows_whose_index_repeats() -> None:
    table = pd.concat([interval_table()[:1], interval_table()[2:].set_axis([0])])
    assert len(dots(plots.intervals(table, "quality", "share").axes[0])) == 2


def test_open_marks_have_no_filling() -> None:
    table = interval_table().assign(is_open=[False, False, True])
    axes = plots.intervals(table, "quality", "share").axes[0]
    opacity = {
        xy[0]: face[3]
        for part in axes.collections[-3:]
        if not isinstance(part, LineCollection)
        for xy, face in zip(part.get_offsets().tolist(), part.get_facecolors(), strict=True)
    }
    assert opacity[0.5] == 0
    assert opacity[0.9] > 0


def test_series_differ_in_marker_as_well_as_in_colour() -> None:
    figure = plots.intervals(interval_table(), "quality", "share")
    handles = figure.legends[0].legend_handles
    assert len({line.get_marker() for line in handles}) == 2
    assert len({line.get_color() for line in handles}) == 2
    paths = [p.get_paths() for p in figure.axes[0].collections if len(p.get_offsets()) == 3][-1]
    assert len({path.vertices.tobytes() for path in paths}) == 2


def test_only_differences_have_a_line_at_zero_and_an_empty_table_is_refused() -> None:
    with_line = plots.intervals(interval_table(), "difference", "", line=0).axes[0]
    without = plots.intervals(interval_table(), "difference", "").axes[0]

    def verticals(axes: Axes) -> list[float]:
        lines = [np.asarray(line.get_xdata(), float) for line in axes.lines]
        return [x[0] for x in lines if len(x) == 2 and x[0] == x[1] == 0]

    assert len(verticals(with_line)) == len(verticals(without)) + 1
    with pytest.raises(ValueError, match="empty table"):
        plots.intervals(interval_table().iloc[:0], "nothing", "")


UP, DOWN, FLAT = Value(0.1, 0.05, 0.15, 9), Value(-0.1, -0.15, -0.05, 9), Value(0.0, -0.1, 0.1, 9)
UNKNOWN = Value(math.nan, math.nan, math.nan, None)


def test_effects_differ_in_colour_and_shape() -> None:
    assert [plots.effect(value) for value in (UP, DOWN, FLAT, UNKNOWN)] == [
        plots.BETTER, plots.WORSE, plots.NEITHER, plots.NEITHER,
    ]  # fmt: skip
    figure = plots.forest(["a", "b", "c"], {"verdict": {"m": [UP, DOWN, FLAT]}}, "t")
    (axes,) = figure.axes
    assert [colour for colour, _ in dots(axes)] == [theme.BLUE, theme.VERMILION, theme.GREY]
    top = axes.collections[-1]
    assert len({path.vertices.tobytes() for path in top.get_paths()}) == 3
    assert [face[3] > 0 for face in top.get_facecolors()] == [True, True, False]


def test_forest_panels_lines_and_scales() -> None:
    panels = {"verdict": {"a": [UP, DOWN], "b": [FLAT, UNKNOWN]}, "map": {"c": [UNKNOWN] * 2}}
    figure = plots.forest(["one", "two"], panels, "differences")
    assert titles(figure) == ["a", "b", "c"]
    headings = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert headings == [["verdict"], [], ["map"]]
    first = figure.axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == ["one", "two"]
    assert [xy for _, xy in dots(first)] == [[0.1, 0], [-0.1, 1]]
    assert ranges(first, 0) == [[0.05, 0.15], [-0.15, -0.05]]
    assert [len(ranges(axes, 0)) for axes in figure.axes] == [2, 1, 0]
    assert all(axes.get_ylim() == (1.5, -0.5) for axes in figure.axes)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low == -high


def test_a_forest_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        plots.forest([], {"a": {"b": []}}, "t")
    with pytest.raises(ValueError, match="expected 2 values"):
        plots.forest(["one", "two"], {"a": {"b": [UP]}}, "t")


def test_curves_leave_gaps_where_nothing_is_known() -> None:
    table = pd.DataFrame(
        {"x": [1, 2, 3], "value": [0.5, math.nan, -0.5], "ci_low": -1.0, "ci_high": 1.0}
    )
    both = pd.concat([table.assign(series="in stages"), table.assign(series="rest")])
    figure = plots.curves(
        both.assign(panel="Share"), "epochs done", starts={"mining": 1.5}, limits={"Share": (-1, 1)}
    )
    (axes,) = figure.axes
    assert titles(figure) == ["Share"]
    assert axes.get_xlabel() == "epochs done"
    assert axes.get_ylim() == (-1, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["in stages", "rest"]
    drawn = [(x.get_xdata().tolist(), x.get_ydata().tolist()) for x in curve_lines(axes)]
    assert sorted(drawn) == [([1], [0.5])] * 2 + [([3], [-0.5])] * 2  # no line across the gap
    bands = [part for part in axes.collections if isinstance(part, PolyCollection)]
    assert len(axes.patches) + len(bands) == 4
    at_zero = [line for line in axes.lines if list(line.get_ydata()) == [0, 0]]
    assert len(at_zero) == 1  # a value is negative
    assert [text.get_text() for text in axes.texts] == ["mining"]
    with pytest.raises(ValueError, match="empty table"):
        plots.curves(table[:0], "epoch")


def test_curves_put_words_at_even_distances_and_draw_a_line_per_unit() -> None:
    table = pd.DataFrame(
        {"x": ["none", "head"] * 2, "value": [1.0, 0.4, 0.9, 0.3], "unit": [0, 0, 1, 1]}
    )
    (axes,) = plots.curves(table, "shuffled", title="Left", lines={"chance": 0.5}).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["none", "head"]
    drawn = [line.get_ydata().tolist() for line in curve_lines(axes)]
    assert drawn == [[1.0, 0.4], [0.9, 0.3]]
    assert axes.get_title(loc="left") == "Left"
    assert [text.get_text() for text in axes.texts] == ["chance"]


def test_curves_without_markers_differ_in_dashes() -> None:
    table = pd.DataFrame({"x": [1.0, 10.0] * 2, "value": [1, 2, 3, 4], "series": list("aabb")})
    figure = plots.curves(table, "x", scales=("log", "log"), markers=False)
    (axes,) = figure.axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    looks = [
        [(to_hex(line.get_color()), line._unscaled_dash_pattern) for line in lines]
        for lines in (axes.lines, figure.legends[0].legend_handles)
    ]
    assert looks[0] == looks[1]
    assert looks[0][0][1] != looks[0][1][1]


def setting_table() -> pd.DataFrame:
    lines = [
        ("none", 0.2, math.nan, math.nan, (), True),
        ("5 %", 0.5, 0.4, 0.7, (0.45, 0.55), False),
        ("all", 0.8, 0.7, 0.9, (), False),
    ]
    columns = ["setting", "value", "ci_low", "ci_high", "draws", "is_apart"]
    return pd.DataFrame(lines, columns=columns)


def test_a_panel_per_measure_and_a_place_per_setting() -> None:
    table = pd.concat([setting_table().assign(panel=name) for name in ("AUROC", "IoU")])
    figure = plots.by_setting(table, "masks", {"IoU": (0, 1)}, chosen="all")
    first, second = figure.axes
    assert titles(figure) == ["AUROC", "IoU"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["none", "5 %", "all"]
    assert second.get_ylim() == (0, 1)
    line = first.lines[0]
    assert line.get_xdata().tolist() == [1, 2]  # a setting that stands apart is not joined
    assert line.get_ydata().tolist() == [0.5, 0.8]
    assert sorted(xy for _, xy in dots(first)) == [[0, 0.2], [1, 0.5], [2, 0.8]]
    assert sorted(ranges(first, 1)) == [[0.4, 0.7], [0.7, 0.9]]
    dashes = [one for one in first.lines if one.get_marker() == "_"]
    assert [list(one.get_ydata()) for one in dashes] == [[0.45, 0.55]]
    (band,) = first.patches
    assert band.get_x() < 2 < band.get_x() + band.get_width()
    with pytest.raises(ValueError, match="at least one panel"):
        plots.by_setting(table[:0], "masks")


def test_systems_over_a_weight_leave_a_gap_where_a_row_is_missing() -> None:
    systems = {0.0: catalogue.PLAIN, 2.0: catalogue.AVERAGED}
    rows = pd.DataFrame(
        [row("d", "S1", "auroc", 0.5, condition=catalogue.AVERAGED.condition,
             ci_low=0.4, ci_high=0.7)]
    )  # fmt: skip
    panels = {"AUROC": ("auroc", None, {}), "nothing": ("iou", "cam", {})}
    figure = plots.over_weight(rows, systems, panels, "weight", chosen=2.0)
    first, second = figure.axes
    assert titles(figure) == list(panels)
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0", "2"]
    assert [xy for _, xy in dots(first) if not math.isnan(xy[1])] == [[1, 0.5]]
    assert [xy for _, xy in dots(second) if not math.isnan(xy[1])] == []
    assert len(first.patches) == 1
    with pytest.raises(ValueError, match="two weights"):
        plots.over_weight(rows, {2.0: catalogue.AVERAGED}, panels, "weight")


def test_conflicts_put_each_term_in_its_place() -> None:
    cosines = np.array([[1, -0.5], [-0.5, 1]])
    conflict = Conflict(("mining", "guidance"), cosines, np.ones(2))
    figure = plots.conflicts({"in stages": conflict}, ["guidance", "localization", "mining"])
    (mesh,) = figure.axes[0].collections
    values = np.ma.filled(mesh.get_array(), np.nan).reshape(3, 3)
    assert values[0, 2] == values[2, 0] == -0.5
    assert values[0, 0] == values[2, 2] == 1
    assert np.isnan(values[1]).all()  # localization is off
    assert mesh.get_clim() == (-1, 1)
    assert figure.axes[0].patch.get_hatch()
    with pytest.raises(ValueError, match="at least one table"):
        plots.heat_maps({}, "cosine")


def test_a_strip_draws_every_value_once() -> None:
    table = pd.DataFrame({"category": ["bad", "good", "bad"], "value": [0.9, 0.1, 0.7]})
    (axes,) = plots.strip(table, "Probabilities", "p", lines=[0.5]).axes
    strokes = [stroke for part in axes.collections for stroke in part.get_segments()]
    assert sorted((x[0], x[1], round(y.mean())) for x, y in (one.T for one in strokes)) == [
        (0.1, 0.1, 1), (0.7, 0.7, 0), (0.9, 0.9, 0),
    ]  # fmt: skip
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["bad", "good"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.5, 0.5]]


def test_the_schedule_shows_the_weights_in_force() -> None:
    plan = get_strategy("S5")
    axes = plots.schedule("S5", epochs=10).axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == [term.replace("_", " ") for term in plan.weights.active()]
    band = axes.collections[names.index("counterfactual")]
    points = np.concatenate([path.vertices for path in band.get_paths()])
    place = names.index("counterfactual")
    before = points[points[:, 0] < 4.9]
    after = points[points[:, 0] > 5.1]
    assert np.ptp(before[:, 1]) == 0  # no height before half of the run
    assert after[:, 1].min() == pytest.approx(place - 0.38)
    assert [t.get_text() for t in axes.texts][place] == "0.3"


def test_losses_draw_the_terms_that_were_on_and_thicken_full_weight() -> None:
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "classification": [0.6, 0.4, 0.3],
            "weight_classification": [0.3, 0.3, 0.3],
            "mining": [np.nan, 0.2, 0.1],
            "weight_mining": [0.0, 0.1, 0.2],
            "weight_consistency": [0.0, 0.0, 0.0],  # never on
        }
    )
    figure = plots.losses(history)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert titles(figure)[:2] == ["classification", "mining"]
    assert len(shown) == 2
    thin, thick = shown[1].lines
    assert thin.get_xdata().tolist() == [2, 3]  # off in the first epoch
    assert thick.get_xdata().tolist() == [3]
    assert thick.get_linewidth() > thin.get_linewidth()
    with pytest.raises(ValueError, match="`weight_<term>`"):
        plots.losses(pd.DataFrame({"epoch": [0], "auroc": [0.5]}))


def test_losses_of_several_folds_are_their_mean_within_their_range() -> None:
    fold = pd.DataFrame({"epoch": [0, 1], "weight_mining": 1.0})
    history = pd.concat([fold.assign(mining=[0.4, 0.2]), fold.assign(mining=[0.6, 0.4])])
    (axes,) = plots.losses(history).axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.5, 0.3])
    points = np.concatenate([p.vertices for p in axes.collections[0].get_paths()])
    assert (points[:, 1].min(), points[:, 1].max()) == pytest.approx((0.2, 0.6))


def test_colours_stay_apart_in_grey() -> None:
    """The first three series, the usual number, differ in lightness by more than 5 %."""
    light = sorted(
        float(np.dot(mpl.colors.to_rgb(colour), (0.2126, 0.7152, 0.0722)))
        for colour in theme.CYCLE[:3]
    )
    assert min(np.diff(light)) > 0.05


def test_words_wrap_to_a_width() -> None:
    assert theme.wrap("evidence of S1, stride 16", 1.0).count("\n") >= 1
    assert theme.wrap("two\nlines", 6.0) == "two\nlines"
