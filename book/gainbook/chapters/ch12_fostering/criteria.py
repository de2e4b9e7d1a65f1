"""The criteria of claims C1 to C7 about CAM fostering, and the project's own targets.

What counts as shown was written before the runs. The smallest interesting differences, which
separate *refuted* from *undecided*, came after them. Figures have 95 % intervals. Those of
fostering are of the beta that validation data chose, over or minus beta 0, on the same images.
`claims` takes them from result rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gainbook.lab.judge import (
    INTERESTING,
    RANKING_MARGIN,
    Judgement,
    Part,
    all_of,
    any_of,
    falls,
    gains,
    keeps,
    verdict,
)
from gainbook.lab.tables import Value

AUROC_MARGIN = 0.01
AREA_CLAIMED, DISPERSION_CLAIMED, DIFFERENCE_CLAIMED = 0.8, 6.0, 114 / 33
AREA_TARGET = 0.7
TIME_MARGIN, TIME_CLAIMED = 1.05, 1.4
ALIKE, UNLIKE = 0.9, 0.5
ROUTES_APART = 1e-5
_ENERGY = INTERESTING["positive_energy"]


def choose_beta(validation: Mapping[float, float]) -> float:
    """The largest beta whose validation AUROC is at most `AUROC_MARGIN` below that of beta 0."""
    return max(b for b, value in validation.items() if value >= validation[0.0] - AUROC_MARGIN)


def _without_interval(value: float) -> Value:
    return Value(value, math.nan, math.nan, None)


def _at_most(value: Value, bound: float) -> Part:
    """Does a ratio reach `bound` or less? By its value, with an interval below 1."""
    if value.value <= bound and value.high < 1:
        return True
    return False if value.low > bound else None


def _at_least(value: Value, bound: float) -> Part:
    """Does a ratio reach `bound` or more? By its value, with an interval above 1."""
    if value.value >= bound and value.low > 1:
        return True
    return False if value.high < bound else None


def judge_size(area: Value, dispersion: Value, relative: Value) -> Judgement:
    """C1: area -20 %, dispersion x 6, relative difference x 114/33; ratios to beta 0.

    Four parts: the area falls, the dispersion grows, and both reach their claimed size. A direction
    is shown by an interval on the claimed side of 1, a size by a value that reaches it as well.
    Both are excluded by an interval that falls short. The relative difference must reach its size,
    too, but counts for and against nothing else, because its formula is our guess.
    """
    parts = [
        _at_most(area, 1.0),
        _at_least(dispersion, 1.0),
        _at_most(area, AREA_CLAIMED),
        _at_least(dispersion, DISPERSION_CLAIMED),
    ]
    grows = _at_least(relative, DIFFERENCE_CLAIMED) or None
    figures = {
        "elliptic area, ratio": area,
        "dispersion, ratio": dispersion,
        "relative difference, ratio": relative,
    }
    return Judgement(verdict(parts, [grows]), figures)


def judge_cost(apart: float, analytic: float, second_order: float) -> Judgement:
    """C2: it needs second derivatives, and costs 83 % more time.

    *Confirmed* if the gradients of the two routes differ by more than 1e-5, or the analytic route
    takes 1.4 times as long as a step without fostering; *refuted* if neither holds and no route
    takes more than 5 % longer; *refined* if neither holds and a route does. Counts and medians of a
    clock: they have no interval.

    Args:
        apart: largest difference of the gradients, relative to the largest gradient.
        analytic: time of a step over that without fostering; `second_order` likewise, for an
            earlier layer.
    """
    claimed = any_of([apart > ROUTES_APART, analytic >= TIME_CLAIMED])
    figures = {
        "time of the analytic route": _without_interval(analytic),
        "time of the second-order route": _without_interval(second_order),
    }
    partly = [max(analytic, second_order) > TIME_MARGIN]
    return Judgement(verdict([claimed], partly=partly), figures)


def judge_weak(difference: Value) -> Judgement:
    """C3 on the tiles: it helps weak features above all.

    The gain in positive energy on the half of the defects that stand out least from their
    surroundings, minus the gain on the other half. *Shown* with an interval above 0, excluded with
    one below 0.02.
    """
    figures = {"gain on weak minus on strong features": difference}
    return Judgement(verdict([gains(difference, _ENERGY)]), figures)


def judge_weak_feature(energy: Value, over_strong: Value, auroc: Value) -> Judgement:
    """C3 on parts with a small faint feature beside a large clear one, both following the label.

    Of the chosen beta minus beta 0, seed by seed: the positive energy on the weak feature in images
    with both; that gain minus the one on the strong feature; the AUROC of images with the weak one
    alone. Each is *shown* with an interval above 0 and excluded with one below 0.02.
    """
    parts = [gains(energy, _ENERGY), gains(over_strong, _ENERGY), gains(auroc)]
    figures = {
        "energy on the weak feature": energy,
        "that gain minus the strong feature's": over_strong,
        "AUROC with the weak one alone": auroc,
    }
    return Judgement(verdict(parts), figures)


def judge_different(correlations: Mapping[str, Value]) -> Judgement:
    """C4: the three measures see fundamentally different things.

    Rank correlations of ce, ca and cd over the maps of beta 0, by pair. A pair is different if its
    correlation is below 0.5 in size, and not if its interval lies beyond. *Refuted* needs all
    three at 0.9 or above; pairs between the two refine the claim.
    """

    def different(value: Value) -> Part:
        if abs(value.value) < UNLIKE:
            return True
        return False if max(value.low, -value.high) >= UNLIKE else None

    partly = [abs(value.value) < ALIKE for value in correlations.values()]
    parts = [different(value) for value in correlations.values()]
    return Judgement(verdict(parts, partly=partly), dict(correlations))


def judge_accuracy(differences: Mapping[float, Value], chosen: float) -> Judgement:
    """C5: the best accuracy is at beta 0, and the loss at moderate beta is small.

    AUROC minus that of beta 0, by beta; *moderate* is the chosen beta. Two parts. *Best at 0* is
    shown if the largest beta loses (interval below 0) and no beta gains (interval above 0);
    excluded if one gains or the largest loses less than 0.02. *Small* is shown if the chosen beta's
    interval lies above -0.02, excluded if it lies below.
    """
    none_gains = not any(value.low > 0 for value in differences.values())
    best = all_of([falls(differences[max(differences)]), none_gains])
    small = keeps(differences.get(chosen, Value(0.0, 0.0, 0.0, None)), RANKING_MARGIN)
    figures = {f"AUROC at beta {b:g}": v for b, v in differences.items()}
    return Judgement(verdict([best, small]), figures)


def judge_expensive(area: float, dispersion: float) -> Judgement:
    """C6: area and dispersion are too costly as losses.

    Time of a training step with ca, and with cd, over that with ce. *Confirmed* if one takes 1.4
    times as long, *refuted* if neither takes more than 5 % longer, otherwise *refined*. Medians of
    a clock: they have no interval.
    """
    longest = max(area, dispersion)
    figures = {
        "time with ca over ce": _without_interval(area),
        "time with cd over ce": _without_interval(dispersion),
    }
    return Judgement(verdict([longest >= TIME_CLAIMED], partly=[longest > TIME_MARGIN]), figures)


def judge_branch(energy: Value, auroc: Value) -> Judgement:
    """C7: fostering improves an attention branch network that is level with a plain network.

    Differences with minus without fostering. *Shown* if the positive energy has an interval above 0
    and AUROC's lies above -0.02; an energy below 0.02, or an AUROC below -0.02, is excluded. The
    claim's own measure, ADCC on histology, is not ours.
    """
    figures = {"positive energy": energy, "AUROC": auroc}
    return Judgement(verdict([gains(energy, _ENERGY)], [keeps(auroc)]), figures)


def targets(
    area: Value, dispersion: Value, auroc: Value, energy: Value, pixel_ap: Value
) -> dict[str, tuple[Value, bool]]:
    """The project's own targets at the chosen beta: name to figure and whether it is met.

    Ratios of area and dispersion to beta 0, differences of the rest. Sizes are met by the value,
    *not worse* by an interval that does not lie below 0.
    """
    return {
        "elliptic area at most 0.7 of beta 0, by the value": (area, area.value <= AREA_TARGET),
        "dispersion at least 6 times, by the value": (
            dispersion,
            dispersion.value >= DISPERSION_CLAIMED,
        ),
        "AUROC lost at most 0.01, by the value": (auroc, auroc.value >= -AUROC_MARGIN),
        "positive energy not worse, by the interval": (energy, energy.high >= 0),
        "pixel AP not worse, by the interval": (pixel_ap, pixel_ap.high >= 0),
    }
