"""The study with frozen features: one cell is one arm on one draw, with all its figures.

Probe, memory bank, reverse distillation and hybrid have the same backbone, images and resolution.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gainbook.chapters.ch02_contrast.crossing import BANK, DISTILLATION, EQUAL, HYBRID, PROBE
from gainbook.chapters.ch02_contrast.detectors import detector_scores
from gainbook.chapters.ch02_contrast.draws import BOARDS, COMMON, TILES, LabelDraw, Rows, load_draw
from gainbook.chapters.ch02_contrast.features import FrozenFeatures, features_of, made_by
from gainbook.chapters.ch02_contrast.figures import recalls, verdict_figures
from gainbook.chapters.ch02_contrast.probe import hybrid_scores, probe_scores
from gainbook.lab.results_file import git_commit, portable
from gainbook.lab.run_system import find_weights
from gainbook.lab.seed_study import Cell, figure
from gainmtl.backbone import Backbone
from gainmtl.types import NORMAL

Figures = list[dict[str, Any]]
TAUGHT = 25
"""Defective parts of the questions that do not vary their number."""
CONTAMINATION = (0.01, 0.05, 0.1)
SIZES = ("fine", "middle", "large")
"""Thirds of the test's defects by marked area."""
SCORED = 100
"""Defective training parts that detectors score, for the choice of a hybrid's weight."""
FROZEN: dict[str, Any] = {
    **COMMON,
    "bank_size": 2000,
    "detector_epochs": 20,
    "cache": "runs/contrast/cache",
}
SETTINGS: dict[str, dict[str, Any]] = {
    BOARDS: {
        "data_root": BOARDS, **FROZEN, "counts": [1, 2, 5, 10, 25, 100, 400], "most": 400,
        "test_normal": 400, "test_type": 100, "tile": 160,
        "sides": [[128, 32], [256, 64], [512, 128]],
    },
    TILES: {
        "data_root": TILES, **FROZEN, "counts": [1, 2, 5, 10, 25, 40], "most": None,
        "test_normal": None, "test_type": None, "tile": 0,
        "sides": [[64, 64], [128, 128], [256, 256]],
    },
}  # fmt: skip
"""`sides`: of the whole picture and of the image that the network reads, a quarter of the board's
picture with `tile` 160, or all of a magnetic tile's."""


class Scorer(Protocol):
    """A draw, and the arms' scores on it."""

    @property
    def draw(self) -> LabelDraw: ...

    def scores(self, tag: str, defective: Rows) -> tuple[NDArray[np.float64], float]:
        """Scores (N,) of an arm that learns from these defective images; the detector's share."""
        ...


class Bench(NamedTuple):
    """A draw with its features, and the scores of a detector on it."""

    draw: LabelDraw
    features: FrozenFeatures
    score_detector: Callable[..., NDArray[np.float64]]
    """Tag, and contaminating images or None, to scores (N,)."""

    def scores(
        self, tag: str, defective: Rows, contamination: Rows | None = None
    ) -> tuple[NDArray[np.float64], float]:
        """Scores (N,) of an arm, and the detector's share in them."""
        draw, x = self.draw, self.features.vectors
        if tag in (BANK.tag, DISTILLATION.tag):
            return self.score_detector(tag, contamination), 1.0
        normal = draw.normal
        if contamination is not None and len(contamination):
            normal = np.concatenate([normal[: -len(contamination)], contamination])
        if tag == PROBE.tag:
            return probe_scores(x, normal, defective), 0.0
        detector = self.score_detector(BANK.tag, contamination)
        return hybrid_scores(x, normal, defective, draw.part_of[defective], draw.val, detector)


def make_bench(
    dataset: str, seed: int, settings: Mapping[str, Any], what: str, image_size: int, **options: Any
) -> Bench:
    """Draw `seed` with features and detector scores kept in files that `what` names."""
    draw = load_draw(dataset, settings["data_root"], seed, settings, image_size, **options)
    stem = f"{dataset}-{what}-{image_size}-draw{seed}"
    folder = Path(settings["cache"])
    backbone = Backbone(settings["backbone"], find_weights(settings["weights"]))
    features = features_of(backbone, draw.images, folder / f"{stem}-features.npz")
    rows = np.concatenate([draw.val, draw.test, *draw.parts[:SCORED]])

    about = f"{made_by(backbone)} {settings['bank_size']} {settings['detector_epochs']}"

    @functools.cache
    def score(tag: str, contaminated: int) -> NDArray[np.float64]:
        path = folder / f"{stem}-{tag}-{contaminated}.npz"
        wrong = contaminating(draw, contaminated)
        return detector_scores(tag, draw, rows, settings, path, wrong, about)

    return Bench(draw, features, lambda tag, rows: score(tag, 0 if rows is None else len(rows)))


def contaminating(draw: LabelDraw, count: int) -> Rows:
    """`count` images of the last defective parts of the order, which are never labelled before."""
    last = np.concatenate([np.zeros(0, np.int64), *draw.parts[::-1]])
    return last[:count]


def verdicts(bench: Bench, scores: NDArray[np.float64], **condition: Any) -> Figures:
    """`verdict_figures` of all test images."""
    draw = bench.draw
    return verdict_figures(scores[draw.val], scores[draw.test], draw.types[draw.test], **condition)


def by_count(bench: Bench, tag: str, counts: list[int]) -> Figures:
    """How many defects: the figures by the number of defective training parts; 0 without any."""
    found: Figures = []
    for count in counts if tag == PROBE.tag else [0, *counts]:
        scores, weight = bench.scores(tag, bench.draw.defective(count))
        found += verdicts(bench, scores, defects=count)
        if tag == HYBRID.tag:
            found.append(figure("detector_share", round(weight, 4), defects=count))
    return found


def by_type(bench: Scorer, tag: str, counts: list[int]) -> Figures:
    """Types nobody has seen: recall on the type left out of training and on the others.

    Both are means over the types left out. Where fewer parts of other types exist than `counts`
    has, all of them are used.
    """
    draw, found = bench.draw, []
    types = draw.types[draw.test]
    normal = types == NORMAL
    for count in counts:
        every: dict[tuple[str, str], list[float]] = {}
        for kind in draw.kinds():
            parts = [rows for rows in draw.parts if kind not in draw.types[rows]]
            scores, _ = bench.scores(tag, draw.defective(min(count, len(parts)), kind))
            for name, chosen in (("unseen", types == kind), ("seen", ~normal & (types != kind))):
                values = recalls(scores[draw.val], scores[draw.test], chosen, normal)
                about: dict[str, Any] = {"defects": count, "left_out": kind, "types": name}
                for metric, value in values.items():
                    every.setdefault((metric, name), []).append(value)
                    if count == TAUGHT and (metric, name) == (EQUAL, "unseen"):
                        found.append(figure(metric, value, n=int(chosen.sum()), **about))
        for (metric, name), each in every.items():
            found.append(figure(metric, np.mean(each), defects=count, types=name))
    return found


def by_contamination(bench: Bench, tag: str) -> Figures:
    """Contaminated normals: a share of the normal training images is defective."""
    found: Figures = []
    for part in (0.0, *CONTAMINATION):
        wrong = contaminating(bench.draw, round(part * len(bench.draw.normal)))
        scores, _ = bench.scores(tag, bench.draw.defective(TAUGHT), wrong)
        found += verdicts(bench, scores, contamination=part, defects=TAUGHT)
    return found


def by_look(bench: Bench, tag: str) -> Figures:
    """Another look of the same part: the looks of training, and others."""
    draw = bench.draw
    scores, _ = bench.scores(tag, draw.defective(TAUGHT))
    same = np.isin(draw.looks[draw.test], np.unique(draw.looks[draw.normal]))
    found: Figures = []
    for name, chosen in (("same", same), ("other", ~same)):
        rows = draw.test[chosen]
        found += verdict_figures(
            scores[draw.val], scores[rows], draw.types[rows], look=name, defects=TAUGHT
        )
    return found


def by_size(
    bench: Bench, tag: str, side: int, image_size: int, sides: NDArray[np.float64], count: int
) -> Figures:
    """Resolution: recall by the defects' size with the whole picture read at `side` pixels.

    Args:
        image_size: side of the image that the network reads.
        sides: (N,) of the defects as a share of the image's side, alike for all resolutions.
    """
    draw = bench.draw
    scores, _ = bench.scores(tag, draw.defective(count))
    defect, normal = sides[draw.test], draw.types[draw.test] == NORMAL
    marked = defect > 0
    place = np.digitize(defect, np.quantile(defect[marked], [1 / 3, 2 / 3]))
    found = verdicts(bench, scores, side=side)
    for number, name in enumerate(SIZES):
        chosen = marked & (place == number)
        about: dict[str, Any] = {"side": side, "size": name}
        values = recalls(scores[draw.val], scores[draw.test], chosen, normal)
        for metric, value in values.items():
            found.append(figure(metric, value, n=int(chosen.sum()), **about))
        pixels = round(float(defect[chosen].mean()) * image_size, 2)
        found.append(figure("pixels", pixels, **about))
    return found


def resolutions(dataset: str, tag: str, seed: int, settings: Mapping[str, Any]) -> Figures:
    """`by_size` at all resolutions; the largest one's masks give the sizes."""
    options = {"tile": settings["tile"]} if settings["tile"] else {}
    given = {**settings, "most": settings["most"] and SCORED}
    found: Figures = []
    sides: NDArray[np.float64] | None = None
    for side, image_size in sorted(settings["sides"], reverse=True):
        bench = make_bench(dataset, seed, given, "sizes", image_size, **options)
        sides = bench.features.sides if sides is None else sides
        count = min(SCORED, len(bench.draw.parts))
        found += by_size(bench, tag, side, image_size, sides, count)
    return found


def measure(dataset: str, settings: Mapping[str, Any], place: Cell) -> dict[str, Any]:
    """All figures of one arm on one draw: the content of its file."""
    started, commit = time.process_time(), git_commit()
    tag, seed = place["arm"], place["seed"]
    bench = make_bench(dataset, seed, settings, "parts", settings["image_size"])
    found = by_count(bench, tag, settings["counts"]) + by_type(bench, tag, settings["counts"])
    if tag != DISTILLATION.tag:
        found += by_contamination(bench, tag)
        looks = make_bench(
            dataset, seed, settings, "looks", settings["image_size"], other_looks=True
        )
        found += by_look(looks, tag)
    if tag in (PROBE.tag, BANK.tag):
        found += resolutions(dataset, tag, seed, settings)
    return {
        "settings": portable(settings),
        "figures": found,
        "fingerprint": bench.draw.data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }
