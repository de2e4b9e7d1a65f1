"""The live part of chapter 02: a toy in the plane, and both arms on synthetic parts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainbook.chapters.ch02_contrast.crossing import BANK, HYBRID, PROBE, Arm
from gainbook.chapters.ch02_contrast.draws import SYNTHETIC, load_draw
from gainbook.chapters.ch02_contrast.features import features_of
from gainbook.chapters.ch02_contrast.frozen import Bench, by_count, by_type
from gainbook.lab.parameters import Parameters, refuse_together
from gainbook.lab.results_file import row
from gainbook.lab.run_system import find_weights
from gainmtl.anomaly import MemoryBank
from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.scores import anomaly_scores
from gainmtl.backbone import Backbone
from gainmtl.datasets.synthetic.textures import TEXTURES

Array = NDArray[np.float64]
SETTINGS: dict[str, Any] = {
    "normal": 100, "val": 100, "most": None, "test_normal": None, "test_type": None
}  # fmt: skip
COUNTS = [1, 2, 5, 10, 25]
RULES: dict[str, Any] = {"texture": list(TEXTURES), "bank_size": (int, 1, 100_000)}


class LiveContrast(NamedTuple):
    """The live comparison."""

    bench: Bench
    figures: dict[Arm, list[dict[str, Any]]]
    """Of each arm, as `gainbook.lab.seed_study.figure` keeps them."""

    def value(self, arm: Arm, metric: str, **condition: Any) -> float:
        """One figure.

        Raises:
            LookupError: the arm does not have it.
        """
        for one in self.figures[arm]:
            if (one["metric"], one["condition"]) == (metric, condition):
                return float("nan") if one["value"] is None else float(one["value"])
        raise LookupError(f"{arm.tag} has no {metric} with {condition}")


def check(p: Parameters) -> None:
    """Raise one `ValueError` for parameters that the live part can't run with."""
    problems = []
    if p.dataset != SYNTHETIC:
        problems.append(
            f"dataset: the live part is about synthetic parts, got {p.dataset!r}; the stored runs "
            "are repeated by tools/study.py"
        )
    if p.image_size % 32:
        problems.append(f"image_size: expected a multiple of 32, got {p.image_size}")
    refuse_together(p, problems)


def compare(p: Parameters) -> LiveContrast:
    """Probe, bank and hybrid on synthetic parts of one surface, with one seed."""
    draw = load_draw(
        SYNTHETIC, None, p.seeds[0], SETTINGS, p.image_size, textures=(p.texture,), train=260,
        val=220, test=300,
    )  # fmt: skip
    torch.manual_seed(p.seeds[0])
    features = features_of(Backbone(p.backbone, find_weights(p.weights)), draw.images, None)
    bank = MemoryBank(p.backbone, find_weights(p.weights), size=p.bank_size)
    normals = draw.training_data(draw.defective(0))
    fit_detector(bank, normals, accelerator="cpu", progress=False)
    scores = anomaly_scores(bank, draw.images)
    bench = Bench(draw, features, lambda tag, contamination: scores)
    counts = [n for n in COUNTS if n <= len(draw.parts)]
    arms = (PROBE, BANK, HYBRID)
    figures = {
        arm: by_count(bench, arm.tag, counts) + by_type(bench, arm.tag, counts) for arm in arms
    }
    return LiveContrast(bench, figures)


def recall_table(found: LiveContrast) -> pd.DataFrame:
    """The data of `plots.curves`: recall by arm and number of defective parts, by kind of type."""
    panels = {"types of training": "seen", "a type left out": "unseen"}
    lines = [
        (panel, arm.label, str(one["condition"]["defects"]), one["value"])
        for panel, types in panels.items()
        for arm, figures in found.figures.items()
        for one in figures
        if one["metric"] == "recall" and one["condition"].get("types") == types
        if "left_out" not in one["condition"]
    ]
    return pd.DataFrame(lines, columns=["panel", "series", "x", "value"])


def noticed(found: LiveContrast) -> str:
    """What to notice, with the run's figures."""
    last = max(one["condition"]["defects"] for one in found.figures[PROBE])
    about = {"defects": last}
    seen, new = (
        {arm: found.value(arm, "recall", types=t, **about) for arm in found.figures}
        for t in ("seen", "unseen")
    )
    return (
        f"With {last} defective parts the probe's recall is {seen[PROBE]:.2f} on types of training "
        f"and {new[PROBE]:.2f} on a type left out, a difference of "
        f"{new[PROBE] - seen[PROBE]:+.2f}; the bank's differ by {new[BANK] - seen[BANK]:+.2f}, "
        "and it used no defective part."
    )


def live_rows(found: LiveContrast) -> list[dict[str, Any]]:
    """Result rows of the live comparison."""
    return [
        row(SYNTHETIC, arm.name, one["metric"],
            float("nan") if one["value"] is None else one["value"],
            condition={**one["condition"], "live": True}, n=one["n"])
        for arm, figures in found.figures.items()
        for one in figures
    ]  # fmt: skip


class TypePictures(NamedTuple):
    """Test parts by defect type, as `montage.pictures` takes them: one column per type."""

    titles: list[str]
    images: list[list[Tensor]]
    masks: list[list[Tensor]]


def type_pictures(found: LiveContrast, each: int = 2) -> TypePictures:
    """The first test parts of every defect type, and their masks."""
    draw, kinds = found.bench.draw, found.bench.draw.kinds()
    rows = [draw.test[draw.types[draw.test] == kind][:each] for kind in kinds]
    samples = [[draw.images[one[line]] for one in rows] for line in range(min(map(len, rows)))]
    return TypePictures(
        [kind.replace("_", " ") for kind in kinds],
        [[sample.image for sample in line] for line in samples],
        [[sample.mask for sample in line] for line in samples],
    )


def toy_areas(
    normal: Array, known: Array, limits: tuple[float, float], cells: int = 161
) -> dict[str, NDArray[np.bool_]]:
    """(cells, cells) each: where a classifier and a detector call a point of the plane defective.

    The classifier's line is halfway between the means; the detector flags what is more than 1 away
    from all normal points.

    Args:
        normal, known: (n, 2) points: normal parts, and defects of training.
        limits: of both axes.
    """
    across, up = np.meshgrid(*[np.linspace(*limits, cells)] * 2)
    plane = np.stack([across.ravel(), up.ravel()], 1)
    distance = np.linalg.norm(plane[:, None] - normal, axis=2).min(1)
    weight, middle = known.mean(0) - normal.mean(0), (known.mean(0) + normal.mean(0)) / 2
    flagged = {
        "classifier: beyond the line": (plane - middle) @ weight > 0,
        "detector: far from normal parts": distance > 1,
    }
    return {name: one.reshape(across.shape) for name, one in flagged.items()}
