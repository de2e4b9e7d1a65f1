"""The ladder S1 to S6: its systems, what each step changes, and what is compared with what.

Changes are read from the strategies that are trained, so the page's table and the code agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from gainbook.lab.catalogue import (
    AVERAGED,
    S1_COARSE,
    S1_COPY_PASTE,
    S1_FINE,
    S1_LEAKING,
    S1_OWN,
    S5_COPY_PASTE,
    S5_LEAKING,
    S5_MEAN,
    S5_WITHOUT_TERM,
)
from gainbook.lab.systems import System
from gainmtl.strategies import Strategy, get_strategy

MASK_TERMS = ("cam_guidance", "guidance", "localization", "counterfactual")
"""Terms that need a mask for the samples they teach; consistency and mining do without."""
Pairs = tuple[tuple[System, System], ...]
"""First minus second."""


def on_fine_grid(name: str) -> System:
    """A strategy by name at a stride of 4, in the folder that chapters share."""
    return System(f"{name}-stride4", name, 4, name.replace("-", " "))


S1 = S1_FINE._replace(label="S1")
S2, S3, S4, S5, S6 = (on_fine_grid(f"S{k}") for k in range(2, 7))
S4 = S4._replace(trained_as=S5_WITHOUT_TERM)
"""S5 without its counterfactual is S4, so the two chapters about the term train it once, in the
folder `S5-no-counterfactual-stride4`. Rows have the name S4."""
S3_NO_MINING = on_fine_grid("S3-no-mining")
S4_NO_CONSISTENCY = on_fine_grid("S4-no-consistency")
SIX = (S1, S2, S3, S4, S5, S6)
RUNGS = (S1, S2, S3_NO_MINING, S3, S4_NO_CONSISTENCY, S4, S5, S6)
"""The six, with S3 and S4 taken apart."""
S1_AVERAGED = AVERAGED._replace(label="S1 averaged")
S5_AVERAGED = S5_MEAN._replace(label="S5 averaged")
S5_NO_MINING = on_fine_grid("S5-no-mining")
LATER = (S5_AVERAGED, S5_NO_MINING)
"""Added after the first figures of the ladder: what the head contributes to S5, and whether mining,
with which S3 came out below S3 without, holds S5 back too."""
STANDARDS = (S1_COARSE, S1_OWN, S1_AVERAGED)
"""S1 on the backbone's own grid, with the recipe of its own trials, and with the head of most
networks, whose verdict is the mean of its map."""
COMPARED = (*STANDARDS, *RUNGS, *LATER)
CANDIDATES = (S3, S4, S5, S6)
"""The systems that may reach the targets."""


class Step(NamedTuple):
    """What a system has that another one lacks."""

    name: str
    system: System
    before: System

    @property
    def label(self) -> str:
        """For figures: the step and the two systems."""
        return f"{self.name}\n({self.system.label} − {self.before.label})"

    @property
    def pair(self) -> tuple[System, System]:
        """The two systems, later first."""
        return self.system, self.before


GRID_STEP = Step("grid, pooling, recipe", S1, S1_COARSE._replace(label="S1 coarse"))
STEPS = (
    Step("CAM guidance", S2, S1),
    Step("attention", S3_NO_MINING, S2),
    Step("mining", S3, S3_NO_MINING),
    Step("localization", S4_NO_CONSISTENCY, S3),
    Step("consistency", S4, S4_NO_CONSISTENCY),
    Step("counterfactual", S5, S4),
    Step("mask in the attention", S6, S5),
)
"""One change each, but for attention, which brings CBAM, its own head and guidance, and makes the
plain classification a side term."""
WHOLE_STEPS = tuple(
    Step(f"{before.label} to {after.label}", after, before)
    for before, after in itertools.pairwise(SIX)
)
FROM_S1 = tuple(Step(f"{system.label} − S1", system, S1) for system in RUNGS[1:])

LEFT_OUT = tuple(
    on_fine_grid(f"S5-no-{term}")
    for term in ("cam-guidance", "mining", "localization", "consistency", "counterfactual")
)
LEAVE_ONE_OUT = tuple(
    Step(system.name.removeprefix("S5-no-").replace("-", " "), S5, system) for system in LEFT_OUT
)
"""S5 minus S5 without a term: what the term contributes beside all others."""
LEAKING = (S1_LEAKING, S5_LEAKING)
HONEST = (S1, S5)
COPY_PASTE = (S1_COPY_PASTE, S5_COPY_PASTE)
"""With counterfactual pictures in training: without map terms and with them."""


def _once(pairs: Iterable[tuple[System, System]]) -> Pairs:
    return tuple({(a.tag, b.tag): (a, b) for a, b in pairs}.values())


LADDER_PAIRS = _once(
    [
        *((later, earlier) for earlier, later in itertools.combinations(SIX, 2)),
        *(step.pair for step in STEPS),
        *(step.pair for step in FROM_S1),
        *((system, standard) for standard in STANDARDS for system in (*CANDIDATES, S1)),
        *((S5_AVERAGED, other) for other in (S5, S1_AVERAGED)),
        *((S5_NO_MINING, other) for other in (S5, S1, *STANDARDS)),
    ]
)
"""All pairs of the six; the steps between; the candidates against the other readings of S1; S1
against each of those; S5 averaged and S5 without mining against S5 and readings of S1."""
LEAVE_ONE_OUT_PAIRS: Pairs = ((S5, S1), *(step.pair for step in LEAVE_ONE_OUT))
LEAKING_PAIRS: Pairs = (*zip(LEAKING, HONEST, strict=True), (S5, S1), (LEAKING[1], LEAKING[0]))
"""Folds by image minus folds by tile, of each system; S5 minus S1 under either."""
COPY_PASTE_PAIRS: Pairs = (
    *zip(COPY_PASTE, HONEST, strict=True),
    (S5, S1),
    (COPY_PASTE[1], COPY_PASTE[0]),
    (COPY_PASTE[1], S1),
)
"""With the pictures minus without, of each system; S5 minus S1, without, with and across."""


def changes(strategy: str | Strategy, before: str | Strategy) -> list[str]:
    """The differences of `strategy` to `before` in words: terms, weights, CBAM, use of the mask.

    CBAM is no term of the loss: `GAINMTL` puts it before an attention unless the option
    `refinement` differs.
    """
    new, old = get_strategy(strategy), get_strategy(before)
    words = []
    for term, weight in new.weights.asdict().items():
        was, name = getattr(old.weights, term), term.replace("_", " ")
        if weight and not was:
            words.append(f"+ {name} ({weight:g})")
        elif was and not weight:
            words.append(f"− {name}")
        elif weight != was:
            words.append(f"{name} {was:g} → {weight:g}")
    if new.has_attention and not old.has_attention:
        words.append("+ CBAM before the attention")
    elif old.has_attention and not new.has_attention:
        words.append("− CBAM before the attention")
    if new.mask_fusion != old.mask_fusion:
        words.append(
            f"+ true mask in the attention while training ({new.mask_fusion:g}, fading to none)"
        )
    if new.copy_paste != old.copy_paste:
        share = f" ({new.copy_paste:g})" if new.copy_paste else ""
        words.append(f"{'+' if share else '−'} counterfactual pictures{share}")
    return words


def needs_masks(strategy: str | Strategy) -> bool:
    """Whether its training needs masks drawn by people."""
    plan = get_strategy(strategy)
    in_terms = any(getattr(plan.weights, term) for term in MASK_TERMS)
    return in_terms or plan.mask_fusion > 0 or plan.copy_paste > 0
