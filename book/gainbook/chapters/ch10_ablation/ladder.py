"""The ablation as data: the systems of the ladder S1 to S6, what each step changes, what to leave.

Read off the strategies, so that the table of the page can't say one thing and the code do another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from gainbook.lab.components import (
    AVERAGED,
    S1_COPY_PASTE,
    S1_LEAKING,
    S5_COPY_PASTE,
    S5_LEAKING,
    S5_MEAN,
)
from gainbook.lab.reference import S1_COARSE, S1_FINE, S1_OWN, S5_WITHOUT_TERM, System
from gainmtl.strategies import Strategy, get_strategy

MASK_TERMS = ("cam_guidance", "guidance", "localization", "counterfactual")
"""Terms that need a mask for the samples they teach; consistency and mining do without."""


def on_fine_grid(name: str) -> System:
    """A strategy by name at a stride of 4, in the folder that chapters share."""
    return System(f"{name}-stride4", name, 4, name.replace("-", " "))


S1 = S1_FINE._replace(label="S1")
S2, S3, S4, S5, S6 = (on_fine_grid(f"S{k}") for k in range(2, 7))
S4 = S4._replace(trained_as=S5_WITHOUT_TERM)
"""S5 without its counterfactual is S4, so the two chapters that ask about the term train it once,
in the folder `S5-no-counterfactual-stride4`. Rows call it S4."""
S3_NO_MINING = on_fine_grid("S3-no-mining")
S4_NO_CONSISTENCY = on_fine_grid("S4-no-consistency")
SIX = (S1, S2, S3, S4, S5, S6)
LADDER = (S1, S2, S3_NO_MINING, S3, S4_NO_CONSISTENCY, S4, S5, S6)
"""The six, with S3 and S4 taken apart."""
S1_AVERAGED = AVERAGED._replace(label="S1 averaged")
S5_AVERAGED = S5_MEAN._replace(label="S5 averaged")
S5_NO_MINING = on_fine_grid("S5-no-mining")
LATER = (S5_AVERAGED, S5_NO_MINING)
"""Asked after the ladder's first figures had been seen: what the head is worth to S5, and whether
mining, with which S3 came out below S3 without, holds S5 back too."""
STANDARDS = (S1_COARSE, S1_OWN, S1_AVERAGED)
"""S1 on the backbone's own grid, under the recipe of its own trials, and with the head of most
networks, whose verdict is its map's mean."""


class Step(NamedTuple):
    """One step of the ladder: what a system has that the one before it has not."""

    name: str
    system: System
    before: System

    @property
    def label(self) -> str:
        """For figures: the step and the two systems."""
        return f"{self.name}\n({self.system.label} − {self.before.label})"


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

LEFT_OUT = tuple(
    on_fine_grid(f"S5-no-{term}")
    for term in ("cam-guidance", "mining", "localization", "consistency", "counterfactual")
)
LEAVE_ONE_OUT = tuple(
    Step(system.name.removeprefix("S5-no-").replace("-", " "), S5, system) for system in LEFT_OUT
)
"""S5 minus S5 without a term: what the term is worth when all others are there."""
LEAKING = (S1_LEAKING, S5_LEAKING)
HONEST = (S1, S5)

COPY_PASTE = (S1_COPY_PASTE, S5_COPY_PASTE)
"""With counterfactual pictures besides: what they are worth to a verdict, without map terms and
with them."""
CANDIDATES = (S3, S4, S5, S6)
"""The systems that the targets may be reached by."""


def changes(strategy: str | Strategy, before: str | Strategy) -> list[str]:
    """What `strategy` has otherwise than `before`, in words: terms, weights, CBAM, use of the mask.

    CBAM is no term of the loss: the model puts it before an attention unless it is told otherwise,
    see `GAINMTL`.
    """
    new, old = get_strategy(strategy), get_strategy(before)
    found = []
    for term, weight in new.weights.asdict().items():
        was, name = getattr(old.weights, term), term.replace("_", " ")
        if weight and not was:
            found.append(f"+ {name} ({weight:g})")
        elif was and not weight:
            found.append(f"− {name}")
        elif weight != was:
            found.append(f"{name} {was:g} → {weight:g}")
    if new.has_attention and not old.has_attention:
        found.append("+ CBAM before the attention")
    elif old.has_attention and not new.has_attention:
        found.append("− CBAM before the attention")
    if new.mask_fusion != old.mask_fusion:
        found.append(
            f"+ true mask in the attention while training ({new.mask_fusion:g}, fading to none)"
        )
    if new.copy_paste != old.copy_paste:
        share = f" ({new.copy_paste:g})" if new.copy_paste else ""
        found.append(f"{'+' if share else '−'} counterfactual pictures{share}")
    return found


def needs_masks(strategy: str | Strategy) -> bool:
    """Whether somebody has to draw masks before it can be trained as it is meant to be."""
    plan = get_strategy(strategy)
    in_terms = any(getattr(plan.weights, term) for term in MASK_TERMS)
    return in_terms or plan.mask_fusion > 0 or plan.copy_paste > 0


def ladder_pairs() -> list[tuple[System, System]]:
    """What the page compares, later minus earlier, each pair once.

    All pairs of the six; the steps between; the candidates against the other readings of S1;
    S1 against each of those; S5 averaged against S5 and against S1 averaged; and S5 without mining
    against S5 and every reading of S1.
    """
    pairs = [(later, earlier) for earlier, later in itertools.combinations(SIX, 2)]
    pairs += [(step.system, step.before) for step in STEPS]
    pairs += [(system, S1) for system in LADDER if system is not S1]
    pairs += [(system, standard) for standard in STANDARDS for system in (*CANDIDATES, S1)]
    pairs += [(S5_AVERAGED, other) for other in (S5, S1_AVERAGED)]
    pairs += [(S5_NO_MINING, other) for other in (S5, S1, *STANDARDS)]
    return list({(a.tag, b.tag): (a, b) for a, b in pairs}.values())


def leave_one_out_pairs() -> list[tuple[System, System]]:
    """S5 minus S5 without each term, and minus S1."""
    return [(S5, S1), *((S5, system) for system in LEFT_OUT)]


def leaking_pairs() -> list[tuple[System, System]]:
    """Folds by image minus folds by tile, of each system; and S5 minus S1 under either."""
    return [*zip(LEAKING, HONEST, strict=True), (S5, S1), (LEAKING[1], LEAKING[0])]


def copy_paste_pairs() -> list[tuple[System, System]]:
    """With the pictures minus without, of each system; S5 minus S1, without, with and across."""
    return [*zip(COPY_PASTE, HONEST, strict=True), (S5, S1), COPY_PASTE[::-1], (COPY_PASTE[1], S1)]


PARTS: dict[str, str] = {
    "ladder": "10_ablation",
    "leave_one_out": "10_leave_one_out",
    "leaking": "10_leaking_split",
    "copy_paste": "10_copy_paste",
}
"""The parts of the reference run, and where the book keeps their results."""


def systems_of(part: str) -> Sequence[System]:
    """The systems that a part runs."""
    return {
        "ladder": (*STANDARDS, *LADDER, *LATER),
        "leave_one_out": (S1, S5, *LEFT_OUT),
        "leaking": (*HONEST, *LEAKING),
        "copy_paste": (*HONEST, *COPY_PASTE),
    }[part]


def pairs_of(part: str) -> list[tuple[System, System]]:
    """What a part compares."""
    return {
        "ladder": ladder_pairs,
        "leave_one_out": leave_one_out_pairs,
        "leaking": leaking_pairs,
        "copy_paste": copy_paste_pairs,
    }[part]()
