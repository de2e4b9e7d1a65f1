"""Strategies as data: the loss terms of a system, their weights, and when they are active."""

from __future__ import annotations

import dataclasses
import difflib

from gainmtl.fostering import ZEROS
from gainmtl.losses import LossWeights
from gainmtl.metrics.sharpness import SPREADS

TERMS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(LossWeights))


@dataclasses.dataclass(frozen=True)
class Window:
    """The part of a run in which a term is active, as shares of the run in [0, 1].

    The weight is 0 before `start`, rises linearly to its full value over `warm_up`, and stays there
    to the end.
    """

    start: float = 0.0
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < 1 and 0 <= self.warm_up <= 1 - self.start):
            raise ValueError(
                f"window: expected 0 <= start < 1 and start + warm_up <= 1, got {self}"
            )

    @property
    def full(self) -> float:
        """The share of the run from which on the term has its full weight."""
        return self.start + self.warm_up

    def factor(self, progress: float) -> float:
        """The factor in [0, 1] of the weight at `progress`, the finished share of the run."""
        if progress < self.start:
            return 0.0
        if self.warm_up == 0:
            return 1.0
        return min(1.0, (progress - self.start) / self.warm_up)


ALWAYS = Window()
STAGED: dict[str, Window] = {
    "mining": Window(0.3),
    "localization": Window(0.0, 0.2),
    "consistency": Window(0.3),
    "counterfactual": Window(0.5),
    "fostering": Window(0.4, 0.3),
}
"""Default stages. Classifiers and guidance are active from the start, and localization rises from
there. Mining and consistency need usable maps, so they start at 30 % of the run; the counterfactual
starts at 50 %. Fostering rises from 40 % on: earlier, the cells that it would sharpen are still
random."""


LOCALIZATION_LOSSES = ("bce+dice", "bce", "dice")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """The loss terms of a system and its options; `GAINMTL` builds the heads that they need."""

    name: str
    weights: LossWeights
    windows: tuple[tuple[str, Window], ...] = ()
    """The window of each term that is not active from the start."""
    mask_fusion: float = 0.0
    """S6: the share of the ground-truth mask in the attention at the start of training. It falls
    linearly to 0 at `FUSION_END` of the run; in prediction it is 0."""
    staged: bool = True
    """Whether `windows` apply; else every term has its full weight from the start."""
    focal_gamma: float = 1.0
    """Exponent of the focal loss of both classifiers; 0 is cross-entropy."""
    localization_loss: str = "bce+dice"
    """Loss of the localization head, one of `LOCALIZATION_LOSSES`."""
    fostering_measure: str = "ce"
    """The measure of `metrics.relative_spread` that fostering lowers."""
    fostering_layer: int | None = None
    """The fostered map: `None` is the deciding head's evidence map, which needs no second
    derivative; a stride is Grad-CAM at the backbone's level of this stride."""
    fostering_zero: str = "verdict"
    """Zero of the fostered evidence map, one of `gainmtl.fostering.ZEROS`; without effect on the
    map of a layer."""
    fostering_normal: bool = False
    """Whether the maps of normal samples, their evidence for normal, are fostered too."""
    fostering_certain: bool = True
    """Whether a map is weighted by `gainmtl.fostering.certainty`."""
    copy_paste: float = 0.0
    """Probability of the exchange in `gainmtl.training.copy_paste`, per sample."""

    def __post_init__(self) -> None:
        unknown = [term for term, _ in self.windows if term not in TERMS]
        if unknown:
            raise ValueError(f"windows: expected terms among {', '.join(TERMS)}, got {unknown}")
        if not 0 <= self.focal_gamma < float("inf"):
            raise ValueError(f"focal_gamma: expected a number >= 0, got {self.focal_gamma}")
        if not 0 <= self.copy_paste <= 1:
            raise ValueError(f"copy_paste: expected a share in [0, 1], got {self.copy_paste}")
        choices = {"localization_loss": LOCALIZATION_LOSSES, "fostering_measure": SPREADS,
                   "fostering_zero": ZEROS}  # fmt: skip
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        if not self.weights.active():
            raise ValueError(f"strategy {self.name}: every loss weight is 0, nothing would train")
        if self.weights.consistency and not (self.has_attention and self.has_localization):
            raise ValueError(
                f"strategy {self.name}: consistency compares attention with localization and needs "
                "both; set positive weights of guidance and localization, or consistency=0"
            )

    @property
    def is_plain(self) -> bool:
        """Whether classification is the only term: no map is trained, so no fine grid is needed."""
        return self.weights.active() == ("classification",)

    @property
    def has_attention(self) -> bool:
        """Whether guided attention exists."""
        return self.has_attended_head or self.weights.guidance > 0

    @property
    def has_attended_head(self) -> bool:
        """Whether an attended head exists and decides; without its term nothing would train it."""
        return self.weights.attended_classification > 0

    @property
    def has_localization(self) -> bool:
        """Whether a localization head exists."""
        return self.weights.localization > 0

    @property
    def has_calibration(self) -> bool:
        """Whether the calibration `a cam + t` of the evidence map is learned."""
        return self.weights.cam_guidance > 0

    def weights_at(self, progress: float) -> LossWeights:
        """The weights at `progress`, the finished share of the run in [0, 1]."""
        if not self.staged:
            return self.weights
        windows = dict(self.windows)
        return LossWeights(
            **{
                name: value * windows.get(name, ALWAYS).factor(progress)
                for name, value in self.weights.asdict().items()
            }
        )

    def fusion_at(self, progress: float) -> float:
        """The share of the ground-truth mask in the attention of training at `progress`."""
        return self.mask_fusion * max(0.0, 1 - progress / FUSION_END)


FUSION_END = 0.7

_S1 = LossWeights(classification=1.0)
_S2 = dataclasses.replace(_S1, cam_guidance=0.3)
_S3 = LossWeights(
    classification=0.3, cam_guidance=0.3, attended_classification=1.0, guidance=0.5, mining=0.2
)
_S4 = dataclasses.replace(_S3, localization=1.0, consistency=0.2)
_S5 = dataclasses.replace(_S4, counterfactual=0.3)


def _staged(name: str, weights: LossWeights, mask_fusion: float = 0.0) -> Strategy:
    windows = tuple((term, STAGED[term]) for term in weights.active() if term in STAGED)
    return Strategy(name, weights, windows, mask_fusion)


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        _staged("S1", _S1),
        _staged("S2", _S2),
        _staged("S3", _S3),
        _staged("S4", _S4),
        _staged("S5", _S5),
        _staged("S6", _S5, mask_fusion=0.5),
    )
}

_COPY_PASTE = "-copy-paste"
_SHORT = {term.replace("_", "-"): term for term in TERMS}


def get_strategy(name: str | Strategy) -> Strategy:
    """A strategy by name: `"S1"` to `"S6"`, or one without some terms, such as `"S5-no-mining"`.

    Several terms may be left out: `"S5-no-mining-no-consistency"`. Without attention or without
    localization, consistency is left out too. `"S5-copy-paste"` is `with_copy_paste("S5")`.

    Raises:
        ValueError: an unknown strategy or term, or a term that the strategy does not have.
    """
    if isinstance(name, Strategy):
        return name
    if not isinstance(name, str):
        raise ValueError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
    if name.endswith(_COPY_PASTE):
        return with_copy_paste(name.removesuffix(_COPY_PASTE))
    base, *left_out = name.split("-no-")
    if base not in STRATEGIES:
        near = difflib.get_close_matches(base, STRATEGIES, n=3) or list(STRATEGIES)
        raise ValueError(f"strategy: expected one of {', '.join(near)}, got {name!r}")
    strategy = STRATEGIES[base]
    weights = strategy.weights
    for short in left_out:
        term = _SHORT.get(short)
        if term is None or getattr(weights, term) == 0:
            terms = [s for s, t in _SHORT.items() if getattr(strategy.weights, t) > 0]
            raise ValueError(
                f"strategy {name!r}: {base} has no term {short!r} to leave out; it has {terms}"
            )
        weights = dataclasses.replace(weights, **{term: 0.0})
    if not left_out:
        return strategy
    if not (weights.localization and (weights.guidance or weights.attended_classification)):
        weights = dataclasses.replace(weights, consistency=0.0)
    windows = tuple((term, w) for term, w in strategy.windows if getattr(weights, term) > 0)
    return dataclasses.replace(strategy, name=name, weights=weights, windows=windows)


def foster(
    strategy: str | Strategy, beta: float, measure: str = "ce", layer: int | None = None
) -> Strategy:
    """A strategy with CAM fostering of weight `beta`, named `<name>-fostered`.

    Raises:
        ValueError: an unknown strategy or measure, or a negative beta.
    """
    base = get_strategy(strategy)
    windows = tuple(pair for pair in base.windows if pair[0] != "fostering")
    return dataclasses.replace(
        base,
        name=f"{base.name}-fostered",
        weights=dataclasses.replace(base.weights, fostering=beta),
        windows=(*windows, ("fostering", STAGED["fostering"])),
        fostering_measure=measure,
        fostering_layer=layer,
    )


def with_copy_paste(strategy: str | Strategy, share: float = 0.5) -> Strategy:
    """A strategy that also trains on counterfactual images, named `<name>-copy-paste`.

    `share` as in `gainmtl.training.copy_paste.copy_paste`.

    Raises:
        ValueError: an unknown strategy, or a share outside [0, 1].
    """
    base = get_strategy(strategy)
    return dataclasses.replace(base, name=base.name + _COPY_PASTE, copy_paste=share)


STAGINGS = ("staged", "unstaged", "reversed", "no-warm-up")
"""The plans of `with_stages`."""


def with_stages(strategy: str | Strategy, staging: str) -> Strategy:
    """A strategy with the same terms and weights and another plan of its windows.

    - `"staged"`: the strategy unchanged.
    - `"unstaged"`: every term has its full weight from the first step.
    - `"reversed"`: the opposite order. A term that reached its full weight at `f` of the run now
      reaches it at `f_max - f`; its warm-up is shortened where it would start before 0.
    - `"no-warm-up"`: every term starts at the same time as before, with its full weight.

    Named `<name>-<staging>`, except for `"staged"`.

    Raises:
        ValueError: an unknown plan, or a strategy that has no stages to change.
    """
    base = get_strategy(strategy)
    if staging not in STAGINGS:
        raise ValueError(f"staging: expected one of {', '.join(STAGINGS)}, got {staging!r}")
    if staging == "staged":
        return base
    if not base.staged or not base.windows:
        raise ValueError(f"staging: {base.name} has no stages: every term is active from the start")
    windows = dict(base.windows)
    if staging == "unstaged":
        windows = {}
    elif staging == "no-warm-up":
        windows = {term: Window(window.start) for term, window in windows.items()}
    else:
        last = max(window.full for window in windows.values())
        windows = {}
        for term in base.weights.active():
            window = dict(base.windows).get(term, ALWAYS)
            # Rounded: the error of the float subtraction could move the start by one step.
            full = round(last - window.full, 9)
            start = max(0.0, round(full - window.warm_up, 9))
            windows[term] = Window(start, round(full - start, 9))
    kept = tuple((term, window) for term, window in windows.items() if window != ALWAYS)
    return dataclasses.replace(base, name=f"{base.name}-{staging}", windows=kept, staged=bool(kept))
