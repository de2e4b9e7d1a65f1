"""Figures: what stands in them, on one scale, small, opaque, and told apart without colour."""

from __future__ import annotations

import io
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.render import plots
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from gainmtl.strategies import get_strategy


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with mpl.rc_context(), plt.style.context({}):
        mpl.use("agg")
        plots.use_style()
        yield
    plt.close("all")


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def parts(count: int = 4, size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(count, 3, 12, 12, generator=generator)
    images = torch.nn.functional.interpolate(smooth, size=(size, size), mode="bilinear")
    masks = torch.zeros(count, 1, size, size)
    masks[:-1, :, 20:40, 30:60] = 1  # the last part is normal
    return images, masks


def test_panels_draw_every_map_on_the_scale_of_its_column() -> None:
    images, masks = parts(2)
    maps = torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.4)])
    figure = plots.panels(images, [plots.Column("map", maps)], masks, ["a", "b"])
    drawn = [axes.images[0] for axes in figure.axes[:4]]
    assert [d.get_clim() for d in drawn[1::2]] == [(0, 1), (0, 1)]  # not each map's own
    assert [float(np.asarray(d.get_array()).max()) for d in drawn[1::2]] == pytest.approx(
        [0.1, 0.4]
    )
    assert np.asarray(drawn[1].get_array()).shape == (4, 4)  # cells, not a smoothed picture
    assert figure.axes[0].get_ylabel() == "a"
    assert [axes.get_title() for axes in figure.axes[:2]] == ["image", "map"]


def test_masks_are_outlined_where_there_is_one_and_maps_cover_the_image() -> None:
    images, masks = parts(2)
    figure = plots.panels(images, [plots.Column("map", masks)], masks)
    defective, normal = figure.axes[0], figure.axes[2]
    assert len(defective.collections) == 2  # dark under light
    assert len(normal.collections) == 0
    top, left = 20, 30
    points = np.concatenate([p.vertices for p in defective.collections[0].get_paths()])
    assert points.min(0) == pytest.approx([left - 0.5, top - 0.5])
    assert figure.axes[1].images[0].get_extent() == [-0.5, 95.5, 95.5, -0.5]
    assert figure.axes[1].get_ylim() == (95.5, -0.5)


def test_evidence_diverges_from_white_at_zero_and_one_large_cell_does_not_set_the_scale() -> None:
    cam = torch.linspace(-2, 2, 4000).reshape(1, 1, 40, 100).clone()
    cam[0, 0, 0, 0] = 1000
    column = plots.evidence_column("evidence", cam)
    assert column.high == -column.low
    assert 1.9 < column.high < 2.1
    assert plots.evidence_column("evidence", cam, limit=3).high == 3
    assert plots.evidence_column("dead", torch.zeros(1, 1, 4, 4)).high == 1
    figure = plots.panels(torch.zeros(1, 3, 40, 100), [column])
    red, green, blue, _ = figure.axes[1].images[0].to_rgba(0.0)
    assert min(red, green, blue) > 0.95


def test_a_panel_is_small_and_opaque() -> None:
    images, masks = parts(4)
    noise = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    columns = [plots.evidence_column("evidence", noise - 0.5), plots.Column("defect map", noise)]
    written = png(plots.panels(images, columns, masks))
    assert len(written) < 150_000
    picture = np.asarray(Image.open(io.BytesIO(written)).convert("RGBA"))
    assert (picture[..., 3] == 255).all()
    assert (picture[0] == 255).all()  # a white margin, on a dark page too


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
    values = {c.get_label(): c[0].get_xdata().tolist() for c in axes.containers}
    assert values == {"S1": [0.9, 0.5], "S5": [0.95]}
    ends = {}
    for container in axes.containers:
        bars = container[2][0]
        assert isinstance(bars, LineCollection)
        ends[container.get_label()] = [seg[:, 0].tolist() for seg in bars.get_segments()]
    assert ends["S1"][0] == pytest.approx([0.8, 0.95])
    assert ends["S1"][1] == pytest.approx([0.3, 0.6])
    assert ends["S5"][0] == pytest.approx([0.95, 0.95])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["AUROC", "recall"]
    assert axes.get_xlim() == (0, 1)


def test_series_differ_in_marker_as_well_as_in_colour() -> None:
    axes = plots.intervals(interval_table(), "quality", "share").axes[0]
    lines = [container[0] for container in axes.containers]
    assert len({line.get_marker() for line in lines}) == 2
    assert len({line.get_color() for line in lines}) == 2


def test_only_differences_have_a_line_at_zero_and_an_empty_table_is_refused() -> None:
    with_line = plots.intervals(interval_table(), "difference", "", zero=True).axes[0]
    without = plots.intervals(interval_table(), "difference", "").axes[0]

    def verticals(axes: plt.Axes) -> list[float]:
        lines = [np.asarray(line.get_xdata(), float) for line in axes.lines]
        return [x[0] for x in lines if len(x) == 2 and x[0] == x[1] == 0]

    assert len(verticals(with_line)) == len(verticals(without)) + 1
    with pytest.raises(ValueError, match="empty table"):
        plots.intervals(interval_table().iloc[:0], "nothing", "")


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
    assert [axes.get_title() for axes in shown] == ["classification", "mining"]
    thin, thick = shown[1].lines
    assert thin.get_xdata().tolist() == [1, 2, 3]
    assert thick.get_xdata().tolist() == [3]
    assert thick.get_linewidth() > thin.get_linewidth()
    with pytest.raises(ValueError, match="no loss terms"):
        plots.losses(pd.DataFrame({"epoch": [0], "auroc": [0.5]}))


def test_colours_stay_apart_in_grey() -> None:
    """The first three series, the usual number, differ in lightness by more than 5 %."""
    light = sorted(
        float(np.dot(mpl.colors.to_rgb(colour), (0.2126, 0.7152, 0.0722)))
        for colour in plots.CYCLE[:3]
    )
    assert min(np.diff(light)) > 0.05


def test_colour_bars_are_no_meshes_of_thousands() -> None:
    """A colour bar as a vector mesh would weigh more than the maps."""
    images, masks = parts(1)
    figure = plots.panels(images, [plots.Column("map", masks)])
    meshes = [c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh)]
    assert all(np.asarray(mesh.get_array()).size <= 256 for mesh in meshes)
