"""The networks that run in the page: S1 and S5, trained with two meanings of a printed mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from gainbook.lab.catalogue import S1_FINE, S5
from gainbook.lab.marked_parts import (
    AS_IN_TRAINING,
    UNRELATED,
    MarkedParts,
    agreements_by_test,
    marked_parts,
)
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.systems import System
from gainmtl import datasets, export, fit, metrics
from gainmtl.datasets.synthetic import make
from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.files import read_json
from gainmtl.runner import OnnxModel, OnnxOutputs
from gainmtl.types import NORMAL

FOLDER = Path(__file__).resolve().parents[3] / "models"
DESCRIPTION = "models.json"
SIZE = 128
"""Side of the images, in pixels."""
IMAGES, EPOCHS = 1200, 12
SEED = 8_000_000
"""Of the parts; no notebook uses it for training."""
BACKBONE = "test_efficientnet"
WEIGHTS = "book/weights/test_efficientnet_synthetic.safetensors"
RECIPE: dict[str, Any] = {
    "batch_size": 16, "learning_rate": 4e-3, "backbone_rate": 0.2, "average_decay": 0.95,
    "augmentation": "standard",
}  # fmt: skip
MARKS = {"unrelated": 0.5, "always": 1.0}
"""Share of training parts on which the mark agrees with the state: on half of them it carries no
information, on all of them every defective part has it and no normal one."""


TRAININGS = {
    "unrelated": "the mark was unrelated to defects",
    "always": "every defective part had the mark",
}


class BlankPart(NamedTuple):
    """A part to paint on."""

    name: str
    image: NDArray[np.uint8]
    """(3, S, S)."""
    clean: NDArray[np.uint8] | None = None
    """(3, S, S), the same part without its defect."""


class Judge(NamedTuple):
    """An exported network in the page."""

    name: str
    system: str
    training: str
    """What distinguishes its training from that of the system's other networks."""
    file: Path


class Network(NamedTuple):
    """One trained network."""

    system: System
    mark: str
    """A key of `MARKS`."""

    @property
    def name(self) -> str:
        """As "S5, unrelated"."""
        return f"{self.system.name}, {self.mark}"

    @property
    def file(self) -> Path:
        """Its ONNX file."""
        return FOLDER / f"{self.system.name.lower()}_{self.mark}.onnx"

    @property
    def judge(self) -> Judge:
        """Its place in the page."""
        return Judge(self.name, self.system.name, TRAININGS[self.mark], self.file)


NETWORKS = tuple(Network(system, mark) for mark in MARKS for system in (S1_FINE, S5))


def train(network: Network, images: int = IMAGES, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train a network, export it, and return its recipe and the figures of its file."""
    agreement = MARKS[network.mark]
    data = datasets.load(
        "synthetic", image_size=SIZE, seed=SEED, train=images, val=200, test=400,
        shortcut=agreement,
    )  # fmt: skip
    torch.manual_seed(0)
    model = build(network.system, BACKBONE, find_weights(WEIGHTS))
    recipe = {**RECIPE, "epochs": epochs}
    fit(model, data, accelerator="cpu", progress=False, **recipe)
    export(model.cpu().eval(), network.file, licence="MIT")
    parts = held_out(agreement, 400)
    return {
        "recipe": recipe | {"images": images, "image_size": SIZE, "agreement": agreement},
        "trained_on": data.fingerprint,
        "bytes": network.file.stat().st_size,
        "test": measure(network, parts),
    }


def held_out(agreement: float, count: int) -> MarkedParts:
    """Test parts, each with the mark and without it; their seed has trained nothing."""
    return marked_parts({
        name: make(shortcut=agreement, shortcut_test=share, **_held_out(count))[2]
        for name, share in agreements_by_test(agreement).items()
    })  # fmt: skip


def _held_out(count: int) -> dict[str, Any]:
    return {"image_size": SIZE, "seed": SEED + 1, "train": 1, "val": 1, "test": count}


def outputs(network: Network, images: torch.Tensor) -> OnnxOutputs:
    """The outputs of a network's file for images (N, 3, S, S) in [0, 1]."""
    model = OnnxModel(network.file)
    batches = [model((batch * 255).round().byte().numpy()) for batch in images.split(32)]
    return OnnxOutputs(*(np.concatenate(one) for one in zip(*batches, strict=True)))


class Count(NamedTuple):
    """`found` of `all` parts."""

    found: int
    all: int

    def __str__(self) -> str:
        """With the 95 % interval of the share (Wilson)."""
        ends = binomtest(self.found, self.all).proportion_ci(method="wilson")
        return f"{self.found} of {self.all} [{ends.low:.2f}, {ends.high:.2f}]"


def measure(network: Network, parts: MarkedParts) -> dict[str, Any]:
    """What the mark does to a network's verdicts, and where its maps have their peaks.

    `auroc`: on parts with an unrelated mark. `trapped` and `lost`, as found and all: of the normal
    parts that pass without the mark, those that become defective when it is printed; of the defects
    that are found with it, those that are lost without it. `on_defect`: of the defective parts that
    are found without the mark, those whose defect map has its peak on the defect.
    """
    off, on = (outputs(network, images) for images in (parts.without, parts.with_mark))
    bad = parts.is_defective
    figures: dict[str, Any] = {}
    for name, test in (("auroc", UNRELATED), ("auroc_as_in_training", AS_IN_TRAINING)):
        score = np.where(parts.marked[test], on.probability, off.probability)
        figures[name] = float(metrics.auroc(score, bad))
    passed, flagged, found = ~bad & ~off.verdict, bad & on.verdict, off.verdict[bad]
    hits = metrics.point_game(torch.from_numpy(off.defect_map[bad]), parts.masks).numpy()[found]
    return figures | {
        "trapped": Count(int(on.verdict[passed].sum()), int(passed.sum())),
        "lost": Count(int((~off.verdict[flagged]).sum()), int(flagged.sum())),
        "on_defect": Count(int(hits.sum()), int(found.sum())),
    }


def described(network: Network) -> dict[str, Any]:
    """`measure` as it is stored beside the files."""
    test = read_json(FOLDER / DESCRIPTION)[network.name]["test"]
    return {k: Count(*v) if isinstance(v, list) else v for k, v in test.items()}


class Example(NamedTuple):
    """A normal part with the mark, and what the networks trained with it on all defects compute."""

    image: torch.Tensor
    """(3, S, S) in [0, 1]."""
    mark: torch.Tensor
    """(1, S, S), 0 or 1."""
    seen: dict[str, OnnxOutputs]
    """By system."""


def example() -> Example:
    """The first normal test part, with the mark printed."""
    test = make(shortcut=1.0, **_held_out(20))[2]
    part = test.render(int(np.flatnonzero(~test.true_labels)[0]), marked=True)
    image = torch.from_numpy(part.image) / 255
    seen = {one.system.name: outputs(one, image[None]) for one in NETWORKS if one.mark == "always"}
    return Example(image, torch.from_numpy(part.mark_mask).float(), seen)


def answer() -> str:
    """What the mark does to the four networks, in sentences."""
    lines = []
    for network in NETWORKS:
        test = described(network)
        lines.append(
            f"- **{network.system.name}**, {TRAININGS[network.mark]}: the mark makes "
            f"{test['trapped']} normal parts defective. Without any mark the peak of its defect "
            f"map is on the defect in {test['on_defect']} finds; AUROC with an unrelated mark "
            f"{test['auroc']:.2f}."
        )
    lines.append("\nThe brackets are 95 % intervals of the shares, over parts, of one training.")
    return "\n".join(lines)


def blank_parts(count: int = 20) -> list[BlankPart]:
    """Parts without the mark to paint on: half of them normal, the others of all defect types."""
    test = make(**_held_out(10 * count))[2]
    kinds, each = np.array(test.defect_types), count // (2 * len(DEFECTS))
    found = []
    for kind in (NORMAL, *DEFECTS):
        rows = np.flatnonzero(kinds == kind)[: count // 2 if kind == NORMAL else each]
        for number, row in enumerate(rows.tolist(), 1):
            part = test.render(row)
            name = f"{kind} {number} ({test.textures[row]})"
            found.append(BlankPart(name, part.image, None if kind == NORMAL else part.clean))
    return found
