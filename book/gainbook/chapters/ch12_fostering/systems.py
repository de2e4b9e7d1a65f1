"""The systems of CAM fostering: the plain classifier and one weight after the other.

All have a stride of 4 and the reference protocol. The plain classifier is `catalogue.AVERAGED`: as
in the paper's network, its logit is the mean of its map. The log-mean-exp pooling of the other
chapters makes maps sharp by itself; it is compared as an alternative.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from gainbook.lab.catalogue import AVERAGED, GAIN, MASK_SHARES, PLAIN, SOFT, with_share
from gainbook.lab.systems import System
from gainmtl.baselines.attention_branch import ATTENTION_BRANCH
from gainmtl.strategies import Strategy, foster

BETAS = (0.0, 0.3, 1.0, 3.0, 10.0)
"""The sweep: weights of `relative_spread` in the loss, whose other term is the classification."""
MEASURES = ("ce", "ca", "cd")
"""The measures of spread that the loss can have."""
ROUNDS, EPOCHS = 3, 10
"""Most rounds of the attention branch network, and the epochs of each by the components profile."""
GENTLE = 1.0
"""The weight beside the chosen one where maps pool by log-mean-exp, those with masks among them:
they are sharp before fostering, and the weight is chosen for `AVERAGED`."""
SHARP = PLAIN._replace(label="plain, log-mean-exp")
"""`PLAIN` under a label that distinguishes it from `AVERAGED`."""
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
    """The `plain` classifier with fostering of weight `beta`; no masks in training."""
    if beta == 0:
        return plain
    more: dict[str, object] = {} if layer is None else {"layer": layer}
    weight = f"{measure}, beta {beta:g}" + ("" if layer is None else f", layer of stride {layer}")
    head = {AVERAGED.tag: "", PLAIN.tag: ", log-mean-exp"}.get(plain.tag, f", {plain.label}")
    return plain._replace(
        tag=plain.tag.replace("S1", f"S1-fostered-{_tag(measure, beta, layer)}", 1),
        strategy=foster("S1", beta, measure, layer),
        label=weight + head,
        about=(("beta", beta), ("measure", measure), *more.items()),
    )


def fostered_with_share(beta: float, share: float, draw: int = 0) -> System:
    """`catalogue.with_share`, masks for some of the tiles, with fostering of weight `beta`.

    Every defective sample is fostered, with a mask or without.
    """
    base = with_share(share, draw)
    if beta == 0:
        return base
    return base._replace(
        tag=f"GAIN-fostered-{_tag('ce', beta, None)}-masks{share:g}-draw{draw}-stride4",
        strategy=foster(GAIN, beta),
        label=f"{base.label}, beta {beta:g}",
        about=(("beta", beta), ("measure", "ce")),
    )


def branch(rounds: int = 1, epochs: int = EPOCHS) -> System:
    """The attention branch network, trained for `rounds` times the `epochs` of the others."""
    if rounds == 1:
        return BRANCH
    total = rounds * epochs
    return BRANCH._replace(
        tag=f"attention-branch-epochs{total}-stride4",
        label=f"{BRANCH.label}, {total} epochs",
        changes=(("epochs", total),),
        about=(("epochs", total),),
    )


def fostered_branch(beta: float, rounds: int = 1, epochs: int = EPOCHS) -> System:
    """`branch` with fostering of weight `beta` of the map of its deciding head."""
    base = branch(rounds, epochs)
    return base._replace(
        tag=base.tag.replace("branch", f"branch-fostered-{_tag('ce', beta, None)}", 1),
        strategy=foster(ATTENTION_BRANCH, beta),
        label=f"{base.label}, beta {beta:g}",
        about=(("beta", beta), ("measure", "ce"), *base.about),
    )


TILE_CLASSES = ("normal", "blowhole", "break", "crack", "fray", "uneven")
"""The magnetic tiles' defect types, as in `Data.types`."""


def fostered_types(beta: float) -> System:
    """`fostered(beta)` with the six classes of the magnetic tiles.

    The map that is fostered is that of the true type against normal.
    """
    base = fostered(beta)
    return base._replace(
        tag=base.tag.replace("S1", "S1-types", 1),
        label=f"{base.label}, six classes",
        classes=TILE_CLASSES,
    )


def unguarded(beta: float) -> Strategy:
    """Fostering as in the paper: from the first step, for right and wrong verdicts, and with the
    map's own zero."""
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
"""The paper's recipe as far as it is published: one rate for every layer, no decay."""


def paper_sweep(image_size: int) -> dict[float, System]:
    """The paper's two networks by its beta, 0 and 100, for one class of VOC against the rest.

    They classify the mean of the backbone's last map and have the map's own zero. The paper's term
    is `beta ce`, ours is divided by ln n, so its 100 is ours of 100 ln n. It is on from the first
    step and for wrong verdicts, too. Deviations: two classes instead of 20, faint maps have a
    smaller weight (`losses.fostering_loss`), and the learning rate falls.
    """
    cells = (image_size // 32) ** 2
    plain = System(
        "S1-stride32-paper", "S1", 32, "plain, the paper's setting", "paper", _PAPER,
        (("pooling", "mean"),),
    )  # fmt: skip
    sharp = plain._replace(
        tag="S1-fostered-stride32-paper",
        strategy=unguarded(PAPER_BETA * math.log(cells)),
        label=f"fostered, the paper's beta {PAPER_BETA:g}",
        about=(("beta", PAPER_BETA), ("measure", "ce")),
    )
    return {0.0: plain, PAPER_BETA: sharp}


def extras(
    beta: float, rounds: int = 1, epochs: int = EPOCHS, types: bool = True
) -> list[tuple[System, System]]:
    """Comparisons beyond the sweep, first minus second.

    Args:
        beta: the chosen weight of the sweep.
        rounds: as in `branch`, likewise `epochs`.
        types: whether the data's defect types are `TILE_CLASSES`.
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
        *((fostered_with_share(b, s), with_share(s, 0)) for s in MASK_SHARES for b in weights),
        *by_type,
        (network, AVERAGED),
        (fostered_branch(beta, rounds, epochs), network),
    ]


def _all_systems() -> tuple[System, ...]:
    weights, rounds = BETAS[1:], range(1, ROUNDS + 1)
    systems = [
        *(fostered(*place) for place in itertools.product(BETAS, MEASURES)),
        *(fostered(*place) for place in itertools.product(weights, ("ce",), (8, 16))),
        *(fostered(beta, plain=SHARP) for beta in BETAS),
        *(fostered_with_share(*place) for place in itertools.product(BETAS, MASK_SHARES, range(3))),
        *(fostered_types(beta) for beta in BETAS),
        *(branch(number) for number in rounds),
        *(fostered_branch(*place) for place in itertools.product(weights, rounds)),
    ]
    return tuple({system.tag: system for system in systems}.values())


ALL = _all_systems()
"""Every weight, measure, layer, share and draw of masks, and round: what a sweep over systems can
name by tag."""
