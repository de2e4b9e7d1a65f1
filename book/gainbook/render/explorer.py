"""One part, one system, one change: verdict, probability and map, as a figure or in a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
import torch

from gainbook.chapters.ch16_explorer.changes import AS_IT_IS, Part
from gainbook.render import montage
from gainbook.render.widgets import MAX_FRAMES, Frame, frame_html, to_image, to_png
from gainmtl import metrics
from gainmtl.evaluation.prediction import predict
from gainmtl.interface import DefectModel

MAPS = ("defect map", "evidence")
DPI, CELL = 72, 1.9
"""Resolution, and side of a picture in inches."""


class Seen(NamedTuple):
    """What a system computes of an image."""

    probability: float
    maps: dict[str, torch.Tensor]
    """(H, W) by name of `MAPS`; without the evidence, if the system has none."""
    inside: float
    """Share of the defect map's sum on the defect, in [0, 1]; NaN without a mask."""
    is_peak_inside: bool | None
    """Whether the defect map's peak lies on the defect; `None` without a mask."""


class Explorer:
    """Systems and parts to choose from.

    Args:
        models: trained systems by name.
        parts: to look at; their first change is the image as it is.
    """

    def __init__(self, models: Mapping[str, DefectModel], parts: Sequence[Part]) -> None:
        self.models, self.parts = dict(models), {part.name: part for part in parts}
        self._seen: dict[tuple[str, str, str], Seen] = {}

    def look(self, system: str, part: str, change: str) -> Seen:
        """The output of a system for a part after a change; computed once."""
        key = system, part, change
        if key not in self._seen:
            image, mask = self.parts[part].changes[change]
            out = predict(self.models[system], image[None])
            maps = zip(MAPS, (out.defect_maps, out.cams), strict=True)
            found = {name: torch.from_numpy(np.array(one[0])) for name, one in maps if len(one)}
            inside, is_peak = float("nan"), None
            if mask is not None:
                defect = found[MAPS[0]]
                inside = float(metrics.positive_energy(defect[None, None], mask[None]))
                is_peak = bool(mask[0].flatten()[defect.argmax()])
            probability = float(out.table["defect_probability"].iloc[0])
            self._seen[key] = Seen(probability, found, inside, is_peak)
        return self._seen[key]

    def describe(self, system: str, part: str, change: str, threshold: float | None = None) -> str:
        """Verdict, probability and place of the map in sentences; `None`: the stored threshold."""
        seen = self.look(system, part, change)
        limit = float(self.models[system].threshold if threshold is None else threshold)
        verdict = "defective" if metrics.is_flagged(seen.probability, limit) else "normal"
        words = (
            f"{system}, {part}, {change}: {verdict}. The defect probability is "
            f"{seen.probability:.2f}, the threshold {limit:.2f}."
        )
        if seen.is_peak_inside is not None:
            place = "on" if seen.is_peak_inside else "beside"
            words += (
                f" The defect map's peak lies {place} the defect, which has a share of "
                f"{seen.inside:.2f} of the map's sum."
            )
        return words

    def figure(self, system: str, part: str, change: str, maps: Sequence[str] = MAPS) -> Any:
        """The image after a change, with the defect outlined, and the system's maps."""
        image, mask = self.parts[part].changes[change]
        found = self.look(system, part, change).maps
        columns = [
            montage.Column(name, found[name][None, None], *self.scale(system, name))
            for name in maps
            if name in found
        ]
        masks = None if mask is None else mask[None]
        return montage.panels(image[None], columns, masks, cell=CELL)

    def scale(self, system: str, name: str) -> tuple[float, float]:
        """Ends of a map's scale, the same for all parts and changes of a system."""
        if name == MAPS[0]:
            return 0.0, 1.0
        maps = [self.look(system, part, AS_IT_IS).maps[name] for part in self.parts]
        column = montage.evidence_column(name, torch.stack(maps)[:, None])
        return column.low, column.high

    def frame(self, system: str, part: str, change: str) -> Frame:
        """`figure` and `describe` for menus without a kernel."""
        words = self.describe(system, part, change)
        picture = np.asarray(to_image(self.figure(system, part, change), dpi=DPI))
        return Frame(picture, words, words, change)

    def frames(self, changes: Sequence[str]) -> dict[tuple[str, ...], Frame]:
        """A frame for every system, every part that has all of the changes, and every change.

        Of the parts the first ones, so that there are at most `MAX_FRAMES`.
        """
        able = [p.name for p in self.parts.values() if set(changes) <= set(p.changes)]
        able = able[: MAX_FRAMES // (len(self.models) * len(changes))]
        return {
            (system, part, change): self.frame(system, part, change)
            for system in self.models
            for part in able
            for change in changes
        }

    def panel(self) -> ipywidgets.VBox:
        """Controls that compute what they show; they need a kernel."""
        menus = {
            "system": ipywidgets.Dropdown(options=list(self.models), description="system"),
            "part": ipywidgets.Dropdown(options=list(self.parts), description="part"),
            "change": ipywidgets.Dropdown(options=[AS_IT_IS], description="change"),
            "map": ipywidgets.Dropdown(options=[*MAPS, "both"], description="map"),
            "threshold": ipywidgets.FloatSlider(
                min=0, max=1, step=0.01, description="threshold", continuous_update=False
            ),
        }
        shown = ipywidgets.HTML()

        def value(name: str) -> Any:
            return menus[name].value

        def draw(*_: Any) -> None:
            key = value("system"), value("part"), value("change")
            if key[2] not in self.parts[key[1]].changes:
                return  # between a part and its own changes
            maps = MAPS if value("map") == "both" else (value("map"),)
            words = self.describe(*key, threshold=value("threshold"))
            image = to_image(self.figure(*key, maps=maps), dpi=DPI)
            shown.value = frame_html(Frame(None, words, words, key[2]), image, to_png(image))

        def of_part(*_: Any) -> None:
            before, changes = value("change"), list(self.parts[value("part")].changes)
            menus["change"].options = changes
            menus["change"].value = before if before in changes else AS_IT_IS
            draw()

        def of_system(*_: Any) -> None:
            menus["threshold"].value = float(self.models[value("system")].threshold)
            draw()

        for name, menu in menus.items():
            react = {"part": of_part, "system": of_system}.get(name, draw)
            menu.observe(react, names="value")
        of_part()
        of_system()
        controls = ipywidgets.HBox(list(menus.values()), layout={"flex_flow": "row wrap"})
        return ipywidgets.VBox([controls, shown])
