"""A slider, or menus, over pictures; they also work in the published page, without a kernel."""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

MAX_FRAMES = 40
MAX_BYTES = 1_000_000
COLOURS = 256


class Frame(NamedTuple):
    """One position of the slider."""

    picture: Any
    """A matplotlib `Figure` (it is closed), or an array (H, W) or (H, W, 3), float in [0, 1] or
    uint8."""
    caption: str
    """Shown below the picture."""
    alt: str
    """What the picture shows, for a reader who can't see it."""
    value: str
    """The slider's value, as "0.3" or "stride 16": shown beside the slider and announced."""


def to_image(picture: Any, dpi: int = 100) -> Image.Image:
    """`picture` as an RGB image."""
    if isinstance(picture, Figure):
        stream = io.BytesIO()
        look: dict[str, Any] = {"dpi": dpi, "facecolor": "white", "bbox_inches": "tight"}
        picture.savefig(stream, format="png", pil_kwargs={"compress_level": 1}, **look)
        plt.close(picture)  # or the notebook would show it a second time
        return Image.open(stream).convert("RGB")
    array = np.asarray(picture)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(
            "picture: expected a matplotlib figure or an array (H, W) or (H, W, 3), found shape "
            f"{array.shape}"
        )
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError(
                f"picture: expected finite values in [0, 1] or uint8, found {array.dtype} from "
                f"{np.min(array):.3g} to {np.max(array):.3g}; scale the picture first"
            )
        array = (array * 255).round().astype(np.uint8)
    return Image.fromarray(array).convert("RGB")


def to_png(image: Image.Image) -> bytes:
    """PNG with a palette: about a third of the bytes without a visible difference."""
    stream = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def frame_html(frame: Frame, image: Image.Image, png: bytes) -> str:
    """A `<figure>`: unlike the `Image` widget it has an alternative text."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure class="frame"><img src="data:image/png;base64,{data}" '
        f'width="{image.width}" height="{image.height}" alt="{html.escape(frame.alt)}">'
        f"<figcaption>{html.escape(frame.caption)}</figcaption></figure>"
    )


def _pictures(
    frames: Sequence[Frame], labels: Sequence[str], dpi: int, max_bytes: int
) -> list[ipywidgets.HTML]:
    """The frames as widgets, after the checks of their number, words and size."""
    if not 2 <= len(frames) <= MAX_FRAMES:
        raise ValueError(
            f"expected 2 to {MAX_FRAMES} frames, found {len(frames)}; every frame is stored in the "
            "page, so keep the values whose pictures differ"
        )
    empty = [i for i, frame in enumerate(frames) if not all(map(str.strip, frame[1:]))]
    if empty or not all(map(str.strip, labels)):
        raise ValueError(
            "expected a label, and a caption, an alternative text and a value for every frame; "
            f"empty: {f'frames {empty}' if empty else 'the label'}"
        )
    images = [to_image(frame.picture, dpi) for frame in frames]
    pictures = [to_png(image) for image in images]
    total = sum(map(len, pictures))
    if total > max_bytes:
        raise ValueError(
            f"expected at most {max_bytes:,} bytes of pictures, found {total:,} in {len(frames)} "
            "frames; use fewer frames, smaller figures or a lower dpi"
        )
    return [
        ipywidgets.HTML(frame_html(frame, image, png))
        for frame, image, png in zip(frames, images, pictures, strict=True)
    ]


def frame_slider(
    frames: Sequence[Frame],
    label: str,
    *,
    start: int = 0,
    seconds: float = 0.7,
    dpi: int = 100,
    max_bytes: int = MAX_BYTES,
) -> ipywidgets.VBox:
    """A slider and a play button over `frames`, linked in the browser.

    All pictures are computed beforehand. Browser links (`jslink`) need no kernel, so the slider
    works in the published page and in a notebook. `book/_static/frame-slider.js` gives the buttons
    and the handle their names, and the handle the value that a screen reader announces.

    Args:
        frames: 2 to 40; pictures, captions, alternative texts and values.
        label: the quantity that the slider changes, shown before it.
        start: the frame shown first.
        seconds: per frame while it plays.
        dpi: of matplotlib figures.
        max_bytes: limit of all pictures together.

    Raises:
        ValueError: too few or too many frames, too many bytes, an empty label, caption,
            alternative text or value, or a picture of a wrong shape or range.
    """
    pictures = _pictures(frames, [label], dpi, max_bytes)
    if not 0 <= start < len(frames):
        raise ValueError(f"start: expected 0 to {len(frames) - 1}, found {start}")
    stack = ipywidgets.Stack(pictures, selected_index=start)
    last = len(frames) - 1
    slider = ipywidgets.SelectionSlider(
        options=[(frame.value, place) for place, frame in enumerate(frames)],
        value=start,
        description=label,
        tooltip=label,
        style={"description_width": "initial"},
        layout={"width": "auto", "flex": "1 1 16rem"},
    )
    play = ipywidgets.Play(
        value=start,
        max=last,
        interval=round(seconds * 1000),
        show_repeat=False,
        tooltip=f"play: {label}",
    )
    ipywidgets.jslink((play, "value"), (slider, "index"))
    ipywidgets.jslink((slider, "index"), (stack, "selected_index"))
    controls = ipywidgets.HBox([play, slider], layout={"flex_flow": "row wrap"})
    box = ipywidgets.VBox([controls, stack])
    box.add_class("frame-slider")
    return box


def frame_menus(
    frames: Mapping[tuple[str, ...], Frame],
    labels: Sequence[str],
    *,
    dpi: int = 100,
    max_bytes: int = MAX_BYTES,
) -> ipywidgets.VBox:
    """One menu per quantity over `frames`, linked in the browser as in `frame_slider`.

    A menu is a native list of choices, which the keyboard reaches and a screen reader announces.

    Args:
        frames: 2 to 40, one for every combination of the menus' choices; a key has one choice per
            menu. The first choice of each is shown first.
        labels: what each menu changes, shown before it.
        dpi: of matplotlib figures.
        max_bytes: limit of all pictures together.

    Raises:
        ValueError: a combination is missing, or as for `frame_slider`.
    """
    wrong = [key for key in frames if len(key) != len(labels)]
    choices = [] if wrong else [list(dict.fromkeys(one)) for one in zip(*frames, strict=True)]
    keys = list(itertools.product(*choices))
    missing = [key for key in keys if key not in frames]
    if wrong or missing:
        raise ValueError(
            f"expected a frame for every combination of {', '.join(labels)}; "
            + (f"keys of another length: {wrong[:3]}" if wrong else f"missing: {missing[:3]}")
        )
    pictures = _pictures([frames[key] for key in keys], labels, dpi, max_bytes)
    shown: dict[tuple[str, ...], Any] = dict(zip(keys, pictures, strict=True))
    menus = [
        ipywidgets.Dropdown(
            options=options, index=0, description=label, tooltip=label,
            style={"description_width": "initial"}, layout={"width": "auto", "flex": "1 1 14rem"},
        )
        for label, options in zip(labels, choices, strict=True)
    ]  # fmt: skip

    def nest(prefix: tuple[str, ...]) -> Any:
        """The picture of a whole key; of a part, a stack of what continues it."""
        if prefix in shown:
            return shown[prefix]
        level = len(prefix)
        stack = ipywidgets.Stack([nest((*prefix, one)) for one in choices[level]], selected_index=0)
        ipywidgets.jslink((menus[level], "index"), (stack, "selected_index"))
        return stack

    controls = ipywidgets.HBox(menus, layout={"flex_flow": "row wrap"})
    box = ipywidgets.VBox([controls, nest(())])
    box.add_class("frame-menus")
    return box
