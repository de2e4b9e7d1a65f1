"""The systems that several chapters share: one recipe, one grid, one part changed at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

from gainbook.lab.systems import System
from gainmtl.baselines.readout import DETECTION, SEGMENTATION
from gainmtl.losses import LossWeights
from gainmtl.strategies import STAGED, STRATEGIES, Strategy, with_copy_paste, with_stages

_FAST: tuple[tuple[str, Any], ...] = (
    ("augmentation", "standard"),
    ("weight_decay", 1e-2),
    ("learning_rate", 8e-3),
    ("backbone_rate", 0.1),
)
"""The trial `standard-fast`, the best of S1's own."""
TEXTBOOK = System(
    "textbook",
    Strategy("textbook", LossWeights(classification=1.0), focal_gamma=0.0),
    32,
    "textbook fine-tune",
    None,
    (
        ("learning_rate", 6e-4),
        ("backbone_rate", 1.0),
        ("freeze_statistics", False),
        ("freeze_stride", 0),
        ("average_decay", 0.0),
        ("weight_decay", 1e-2),
        ("batch_size", 16),
    ),
    (("dropout", 0.0),),
)
"""The baseline of every comparison: the backbone's own classifier, cross-entropy, one AdamW rate
for all layers, batch statistics as usual, the last weights."""
S1_COARSE = System("S1-stride32", "S1", 32, "S1, stride 32")
S1_FINE = System("S1-stride4", "S1", 4, "S1, stride 4")
S1_OWN = System("S1-stride4-own", "S1", 4, "S1, stride 4, own recipe", "own", _FAST)
S5 = System("S5-stride4", "S5", 4, "S5, stride 4")
S5_WITHOUT_TERM = System(
    "S5-no-counterfactual-stride4", "S5-no-counterfactual", 4, "S5 without the term, stride 4"
)


UNET = System("U-Net", SEGMENTATION, 1, "U-Net", kind="unet")
"""The stride is that of its map."""
FCOS = System("FCOS", DETECTION, 4, "detector", kind="detector")

ATTENTION = Strategy(
    "attention", LossWeights(classification=0.3, attended_classification=1.0, guidance=0.5)
)
"""Two classifiers with guided attention between them, and nothing else of S3."""
UNGUIDED = Strategy("unguided attention", dataclasses.replace(ATTENTION.weights, guidance=0.0))
"""The same attention taught by the label alone."""
MINING = Strategy(
    "mining", LossWeights(classification=1.0, mining=0.2), (("mining", STAGED["mining"]),)
)
"""GAIN's self-guidance: the classification stream and attention mining, no mask."""
GAIN = Strategy(
    "GAIN",
    dataclasses.replace(STRATEGIES["S2"].weights, mining=0.2),
    (("mining", STAGED["mining"]),),
)
"""GAIN with external supervision: classification, mining, and masks for the map."""
LOCALIZATION = Strategy("localization", LossWeights(localization=1.0))
"""The pyramid and the localization head alone: where, and no verdict."""
JOINT = Strategy(
    "joint",
    LossWeights(classification=1.0, localization=1.0),
    (("localization", STAGED["localization"]),),
)
"""One backbone for the verdict and the place."""


def _system(strategy: str | Strategy, label: str, tag: str | None = None, **more: object) -> System:
    name = strategy if isinstance(strategy, str) else strategy.name
    return System(f"{(tag or name).replace(' ', '-')}-stride4", strategy, 4, label, **more)  # type: ignore[arg-type]


PLAIN = _system("S1", "plain")
AVERAGED = _system("S1", "plain, averaged", "S1-mean", options=(("pooling", "mean"),))
"""The plain classifier whose verdict is its map's mean, the head of most networks."""
SOFT = _system("S1", "plain, soft log-mean-exp", "S1-lse1", options=(("pooling", "lse:1"),))
"""Between the two: log-mean-exp with r = 1 instead of 4."""
S5_MEAN = _system("S5", "S5, averaged", "S5-mean", options=(("pooling", "mean"),))
"""S5 with the head of `AVERAGED`: whether its verdict owes anything to the pooling."""
S1_COPY_PASTE = _system(with_copy_paste("S1"), "S1, copy-paste")
"""The plain classifier with the pictures of `S5_COPY_PASTE`: masks make them and teach no map."""
S5_COPY_PASTE = _system(with_copy_paste("S5"), "S5, copy-paste")
"""S5 that also learns from defects on sound tiles and from defective tiles without theirs."""
WITH_SE = _system("S1", "squeeze-and-excitation", "S1-se", options=(("refinement", "se"),))
WITH_CBAM = _system("S1", "CBAM", "S1-cbam", options=(("refinement", "cbam"),))
ATTENTION_BARE = _system(
    ATTENTION, "guided attention", "attention-bare", options=(("refinement", "none"),)
)
ATTENTION_CBAM = _system(ATTENTION, "CBAM, then guided attention")
ATTENTION_UNGUIDED = _system(
    UNGUIDED, "attention without masks", "attention-unguided", options=(("refinement", "none"),)
)

MINING_ALONE = _system(MINING, "mining alone")
SUPERVISION_ALONE = _system("S2", "supervision alone")
BOTH = _system(GAIN, "mining and supervision")

LOCALIZATION_ALONE = _system(LOCALIZATION, "localization alone")
TOGETHER = _system(JOINT, "both together")

MASK_SHARES = (0.05, 0.2)


def with_share(share: float, draw: int) -> System:
    """`BOTH` with masks for a share of the defective training groups; see `limit_masks`."""
    return BOTH._replace(
        tag=f"GAIN-masks{share:g}-draw{draw}-stride4",
        label=f"masks for {share:.0%} of the groups",
        masks=(("share", share), ("draw", draw)),
    )


def with_quality(quality: str) -> System:
    """`BOTH` with coarser masks; see `coarsen`."""
    return BOTH._replace(
        tag=f"GAIN-{quality}-stride4", label=f"{quality} masks", masks=(("quality", quality),)
    )


DARK = (0, 1, 2, 3)
BRIGHT = (4, 5, 6)
"""Exposures of the magnetic tiles: training uses the dark ones, the test both."""
PLAIN_DARK = _system("S1", "S1, dark exposures", "S1-dark", exposures=DARK)
S5_DARK = _system("S5", "S5, dark exposures", "S5-dark", exposures=DARK)

PROBE = 16
IN_STAGES = _system("S5", "in stages", "S5-staged", probe=PROBE)
"""S5 again, in a folder of its own, with the conflict of its loss terms measured."""
UNSTAGED = _system(with_stages("S5", "unstaged"), "all from the start", probe=PROBE)
REVERSED = _system(with_stages("S5", "reversed"), "in reverse", probe=PROBE)
NO_WARM_UP = _system(with_stages("S5", "no-warm-up"), "without warm-up", probe=PROBE)

S1_LEAKING = _system("S1", "S1, folds by image", "S1-leaking", split="leaking")
S5_LEAKING = _system("S5", "S5, folds by image", "S5-leaking", split="leaking")
"""The usual random split, reported under this name: photographs of one tile are in training and in
test."""
