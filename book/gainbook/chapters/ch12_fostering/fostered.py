"""The systems of CAM fostering: the plain classifier and one weight after the other.

All at a stride of 4 by the reference protocol. The plain classifier is `components.AVERAGED`, with
the head of the paper's network and of most others: log-sum-exp pooling, which the other chapters
use on this grid, makes maps sharp by itself, and is compared as such.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gainbook.lab.components import AVERAGED, GAIN, PLAIN, SOFT, with_share
from gainbook.lab.reference import System
from gainmtl.losses import LossWeights
from gainmtl.strategies import Strategy, foster

BETAS = (0.0, 0.3, 1.0, 3.0, 10.0)
"""The sweep: weights of `relative_spread` in the loss, whose other term is the classification."""

GENTLE = 1.0
"""The weight that is tried beside the chosen one where maps pool by log-sum-exp, those with masks
among them: they are sharp to begin with, and the weight is chosen for `AVERAGED`."""

SHARP = PLAIN._replace(label="plain, log-sum-exp")
"""By the name that tells it from `AVERAGED`."""

ATTENTION_BRANCH = Strategy(
    "attention branch", LossWeights(classification=1.0, attention_branch=1.0)
)
"""An attention branch network: two classifiers, weighed alike, and no mask."""
BRANCH = System(
    "attention-branch-stride4",
    ATTENTION_BRANCH,
    4,
    "attention branch network",
    options=AVERAGED.options,
)


def _tag(measure: str, beta: float, layer: int | None) -> str:
    return f"{measure}{beta:g}" + ("" if layer is None else f"-layer{layer}")


def fostered(
    beta: float, measure: str = "ce", layer: int | None = None, plain: System = AVERAGED
) -> System:
    """The `plain` classifier with fostering of weight `beta`; no masks anywhere."""
    if beta == 0:
        return plain
    more: dict[str, object] = {} if layer is None else {"layer": layer}
    own = f"{measure}, beta {beta:g}" + ("" if layer is None else f", layer of stride {layer}")
    head = {AVERAGED.tag: "", PLAIN.tag: ", log-sum-exp"}.get(plain.tag, f", {plain.label}")
    return plain._replace(
        tag=plain.tag.replace("S1", f"S1-fostered-{_tag(measure, beta, layer)}", 1),
        strategy=foster("S1", beta, measure, layer),
        label=own + head,
        about=(("beta", beta), ("measure", measure), *more.items()),
    )


def fostered_with_share(beta: float, share: float, draw: int = 0) -> System:
    """`components.with_share`, masks for some of the tiles, with fostering of weight `beta`.

    Every defective sample is fostered, with a mask or without.
    """
    base = with_share(share, draw)
    if beta == 0:
        return base
    strategy: Strategy = foster(GAIN, beta)
    return base._replace(
        tag=f"GAIN-fostered-{_tag('ce', beta, None)}-masks{share:g}-draw{draw}-stride4",
        strategy=strategy,
        label=f"{base.label}, beta {beta:g}",
        about=(("beta", beta), ("measure", "ce")),
    )


def branch(rounds: int = 1, epochs: int = 10) -> System:
    """The attention branch network, trained for so many times the `epochs` of all systems."""
    if rounds == 1:
        return BRANCH
    total = rounds * epochs
    return BRANCH._replace(
        tag=f"attention-branch-epochs{total}-stride4",
        label=f"{BRANCH.label}, {total} epochs",
        changes=(("epochs", total),),
        about=(("epochs", total),),
    )


def fostered_branch(beta: float, rounds: int = 1, epochs: int = 10) -> System:
    """`branch` with fostering of weight `beta` of the map that decides."""
    base = branch(rounds, epochs)
    return base._replace(
        tag=base.tag.replace("branch", f"branch-fostered-{_tag('ce', beta, None)}", 1),
        strategy=foster(ATTENTION_BRANCH, beta),
        label=f"{base.label}, beta {beta:g}",
        about=(("beta", beta), ("measure", "ce"), *base.about),
    )


TILE_CLASSES = ("normal", "blowhole", "break", "crack", "fray", "uneven")
"""The magnetic tiles' defect types, as `Data.types` gives them."""


def fostered_types(beta: float) -> System:
    """`fostered(beta)` that tells the six classes of the magnetic tiles apart.

    The map that is fostered is that of the true type against normal.
    """
    base = fostered(beta)
    return base._replace(
        tag=base.tag.replace("S1", "S1-types", 1),
        label=f"{base.label}, six classes",
        classes=TILE_CLASSES,
    )


def unguarded(beta: float) -> Strategy:
    """Fostering as the paper describes it: from the first step, whatever the verdict, and the map
    read from its own zero."""
    return dataclasses.replace(
        foster("S1", beta), fostering_zero="map", fostering_certain=False, windows=()
    )


PAPER_BETA = 100.0
_PAPER: tuple[tuple[str, Any], ...] = (
    ("backbone_rate", 1.0),
    ("freeze_stride", 0),
    ("freeze_statistics", False),
    ("weight_decay", 0.0),
    ("average_decay", 0.0),
)
"""What is known of the paper's recipe: every layer trains at one rate, nothing decays."""


def paper_sweep(image_size: int) -> dict[float, System]:
    """The paper's two networks by its beta, 0 and 100, for one class of VOC against the rest.

    On the backbone's last map, averaged; the map is read from its own zero. The paper's term is
    `beta ce`, ours is over ln n, so its 100 is ours of 100 ln n. It sharpens from the first step
    and whatever the verdict. Deviations: two classes instead of 20, faint maps count less
    (`losses.fostering_loss`), and the learning rate falls.
    """
    cells = (image_size // 32) ** 2
    plain = System(
        "S1-stride32-paper", "S1", 32, "plain, the paper's setting", "paper", _PAPER,
        (("pooling", "mean"),),
    )  # fmt: skip
    strategy = unguarded(PAPER_BETA * math.log(cells))
    sharp = plain._replace(
        tag="S1-fostered-stride32-paper",
        strategy=strategy,
        label=f"fostered, the paper's beta {PAPER_BETA:g}",
        about=(("beta", PAPER_BETA), ("measure", "ce")),
    )
    return {0.0: plain, PAPER_BETA: sharp}


def extras(
    beta: float, rounds: int = 1, epochs: int = 10, types: bool = True
) -> list[tuple[System, System]]:
    """What the sweep alone does not need, as pairs to compare, first minus second.

    `rounds` and `epochs` as in `branch`; `types`: the data's types are `TILE_CLASSES`.
    """
    by_type = [(fostered_types(beta), fostered_types(0.0))] if types else []
    network = branch(rounds, epochs)
    weights = tuple(dict.fromkeys((GENTLE, beta)))
    return [
        (SOFT, AVERAGED),
        (SHARP, AVERAGED),
        *((fostered(b, plain=SHARP), SHARP) for b in weights),
        (fostered(beta, "ca"), AVERAGED),
        (fostered(beta, "cd"), AVERAGED),
        *((fostered_with_share(b, s), with_share(s, 0)) for s in (0.05, 0.2) for b in weights),
        *by_type,
        (network, AVERAGED),
        (fostered_branch(beta, rounds, epochs), network),
    ]
