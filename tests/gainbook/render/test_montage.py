"""Image panels: fixed scales, outlines, small and opaque files."""

from __future__ import annotations

import io
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from gainbook.render import montage, theme
from matplotlib import pyplot as plt
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image


@pytest.fixture(autouse=True)
def _theme() -> Iterator[None]:
    with mpl.rc_context(theme.STYLE):
        mpl.use("agg")
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
    figure = montage.panels(images, [montage.Column("map", maps)], masks, ["a", "b"])
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
    figure = montage.panels(images, [montage.Column("map", masks)], masks)
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
    column = montage.evidence_column("evidence", cam)
    assert column.high == -column.low
    assert 1.9 < column.high < 2.1
    assert montage.evidence_column("evidence", cam, limit=3).high == 3
    assert montage.evidence_column("dead", torch.zeros(1, 1, 4, 4)).high == 1
    figure = montage.panels(torch.zeros(1, 3, 40, 100), [column])
    red, green, blue, _ = figure.axes[1].images[0].to_rgba(0.0)
    assert min(red, green, blue) > 0.95


def test_a_panel_is_small_narrow_and_opaque() -> None:
    images, masks = parts(4)
    noise = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    columns = [
        montage.evidence_column("evidence", noise - 0.5), montage.Column("defect map", noise),
    ]  # fmt: skip
    written = png(montage.panels(images, columns, masks))
    assert len(written) < 150_000
    picture = np.asarray(Image.open(io.BytesIO(written)).convert("RGBA"))
    assert (picture[..., 3] == 255).all()
    assert (picture[0] == 255).all()  # a white margin, on a dark page too
    wide = montage.panels(images[:1], [montage.Column("map", noise[:1])] * 9)
    assert wide.get_figwidth() <= theme.WIDTH


def test_colour_bars_are_no_meshes_of_thousands() -> None:
    """A colour bar as a vector mesh would weigh more than the maps."""
    images, masks = parts(1)
    figure = montage.panels(images, [montage.Column("map", masks)])
    meshes = [c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh)]
    assert all(np.asarray(mesh.get_array()).size <= 256 for mesh in meshes)


def test_pictures_stand_in_lines_with_their_words_and_outlines() -> None:
    images, masks = parts(2)
    figure = montage.pictures(
        [[images[0], masks[0]], [images[1], None]], ["image", "map"], ["first", "second"],
        masks=[[masks[0], None], [masks[1], None]], marks=[[None, masks[0]], [None, None]],
        notes=[["a", "b"], ["c", ""]],
    )  # fmt: skip
    first, second, third, empty = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["image", "map", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["first", "", "second", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c", ""]
    assert np.asarray(first.images[0].get_array()).shape == (96, 96, 3)
    assert second.images[0].get_clim() == (0, 1)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    # The second part is normal: its mask has no border.
    assert [len(axes.collections) for axes in (first, second, third, empty)] == [2, 2, 0, 0]
    assert all(len(axes.get_xticks()) == 0 for axes in figure.axes)
    with pytest.raises(ValueError, match="at least one picture"):
        montage.pictures([[]])
