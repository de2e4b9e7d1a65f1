"""What is claimed of CAM fostering, and what would settle it: written before anything was measured.

Every function takes figures with their 95 % intervals and says "confirmed", "refined" (right in
direction, wrong in what follows or in size) or "refuted". Figures of fostering are of the beta that
`choose_beta` takes from validation data, over or minus beta 0, on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gainbook.lab.judge import Judgement
from gainbook.lab.reference import System
from gainbook.lab.tables import Value

AUROC_MARGIN = 0.01
AREA_CLAIMED, DISPERSION_CLAIMED, DIFFERENCE_CLAIMED = 0.8, 6.0, 114 / 33
AREA_TARGET = 0.7
TIME_MARGIN, TIME_CLAIMED = 1.05, 1.4
ALIKE, UNLIKE = 0.9, 0.5
ROUTES_APART = 1e-5


def choose_beta(rows: pd.DataFrame, systems: Mapping[float, System]) -> float:
    """The largest beta whose validation AUROC is at most `AUROC_MARGIN` below that of beta 0.

    Means over folds, from rows `validation_auroc`. Test data has no say. 0 if no other will do.
    """
    found = {}
    for beta, system in systems.items():
        chosen = rows[
            (rows["metric"] == "validation_auroc")
            & (rows["system"] == system.name)
            & rows["condition"].map(lambda given, wanted=system.condition: dict(given) == wanted)
        ]
        if len(chosen) != 1:
            raise LookupError(f"expected one validation AUROC of {system.tag}, found {len(chosen)}")
        found[beta] = float(chosen["value"].iloc[0])
    return max(beta for beta, value in found.items() if value >= found[0.0] - AUROC_MARGIN)


def judge_size(area: Value, dispersion: Value, relative: Value) -> Judgement:
    """C1: area -20 %, dispersion x 6, relative difference x 114/33; ratios to beta 0.

    *Confirmed* if all three reach what is claimed and their intervals leave 1 out on the claimed
    side; *refuted* if the interval of area or dispersion says that it did not move that way; else
    *refined*. The relative difference can't refute, because its formula is our guess.
    """
    moved = [area.high < 1, dispersion.low > 1]
    reached = [
        area.value <= AREA_CLAIMED,
        dispersion.value >= DISPERSION_CLAIMED,
        relative.value >= DIFFERENCE_CLAIMED and relative.low > 1,
    ]
    against = area.low >= 1 or dispersion.high <= 1
    verdict = "confirmed" if all(moved + reached) else "refuted" if against else "refined"
    figures = {
        "elliptic area, ratio": area,
        "dispersion, ratio": dispersion,
        "relative difference, ratio": relative,
    }
    return Judgement(verdict, figures)


def judge_cost(apart: float, analytic: float, second_order: float) -> Judgement:
    """C2: it needs second derivatives, and costs 83 % more time.

    `apart`, the largest difference of the two routes' gradients at the last layer, relative to the
    largest gradient; the others are times of a training step over that without fostering, the
    second-order one at an earlier layer.

    *Confirmed* if the routes differ by more than 1e-5 or the analytic one takes 1.4 times as long
    or longer; *refuted* if they agree and neither takes more than 5 % longer; else *refined*.
    """
    agree = apart <= ROUTES_APART
    cheap = [time <= TIME_MARGIN for time in (analytic, second_order)]
    verdict = "refined"
    if not agree or analytic >= TIME_CLAIMED:
        verdict = "confirmed"
    elif all(cheap):
        verdict = "refuted"
    nan = float("nan")
    figures = {
        "time of the analytic route": Value(analytic, nan, nan, None),
        "time of the second-order route": Value(second_order, nan, nan, None),
    }
    return Judgement(verdict, figures)


def judge_weak(difference: Value) -> Judgement:
    """C3: it helps weak features above all.

    The gain in positive energy on the half of the defects that stand out least from their
    surroundings, minus the gain on the other half. *Confirmed* if its interval lies above 0,
    *refuted* if it lies below, *refined* if it holds 0: then weak and strong gain alike.
    """
    verdict = "refined"
    if difference.low > 0:
        verdict = "confirmed"
    elif difference.high < 0:
        verdict = "refuted"
    return Judgement(verdict, {"gain on weak minus on strong features": difference})


def judge_weak_feature(energy: Value, over_strong: Value, auroc: Value) -> Judgement:
    """C3 where weak and strong are made: a small faint feature beside a large clear one.

    Of the chosen beta minus beta 0, seed by seed, both features following the label: positive
    energy on the weak feature in pictures with both; that gain minus the one on the strong
    feature; AUROC of pictures that show the weak one alone. *Confirmed* if all three intervals lie
    above 0: the weak feature gains, more than the strong, and the verdict with it. *Refuted* if the
    first or the last lies below 0: the weak feature loses. Else *refined*.
    """
    verdict = "refined"
    if min(energy.low, over_strong.low, auroc.low) > 0:
        verdict = "confirmed"
    elif energy.high < 0 or auroc.high < 0:
        verdict = "refuted"
    return Judgement(
        verdict,
        {
            "energy on the weak feature": energy,
            "that gain over the strong one's": over_strong,
            "AUROC with the weak one alone": auroc,
        },
    )


def judge_different(correlations: Mapping[str, Value]) -> Judgement:
    """C4: the three measures see fundamentally different things.

    Rank correlations of ce, ca and cd over the maps of beta 0, by pair. *Confirmed* if all are
    below 0.5 in size, *refuted* if all reach 0.9, else *refined*: some do and some don't.
    """
    sizes = [abs(value.value) for value in correlations.values()]
    verdict = "refined"
    if all(size < UNLIKE for size in sizes):
        verdict = "confirmed"
    elif all(size >= ALIKE for size in sizes):
        verdict = "refuted"
    return Judgement(verdict, dict(correlations))


def judge_accuracy(differences: Mapping[float, Value], chosen: float) -> Judgement:
    """C5: the best accuracy is at beta 0, and the loss at moderate beta is small.

    AUROC minus that of beta 0, by beta; *moderate* is the chosen beta. *Confirmed* if the largest
    beta loses (interval below 0), none gains (interval above 0) and the chosen one's lower end is
    above -0.02; *refuted* if one gains or the chosen one's upper end is below -0.02; else
    *refined*: no difference can be told from none.
    """
    small = 2 * AUROC_MARGIN
    gains = any(value.low > 0 for value in differences.values())
    moderate = differences.get(chosen, Value(0.0, 0.0, 0.0, None))
    verdict = "refined"
    if gains or moderate.high < -small:
        verdict = "refuted"
    elif differences[max(differences)].high < 0 and moderate.low > -small:
        verdict = "confirmed"
    return Judgement(verdict, {f"AUROC at beta {b:g}": v for b, v in differences.items()})


def judge_expensive(area: float, dispersion: float) -> Judgement:
    """C6: area and dispersion are too costly as losses.

    Time of a training step with ca, and with cd, over that with ce. *Confirmed* if one takes 1.4
    times as long, *refuted* if neither takes more than 5 % longer, else *refined*.
    """
    times = (area, dispersion)
    verdict = "refined"
    if max(times) >= TIME_CLAIMED:
        verdict = "confirmed"
    elif max(times) <= TIME_MARGIN:
        verdict = "refuted"
    nan = float("nan")
    names = ("time with ca over ce", "time with cd over ce")
    return Judgement(
        verdict, {k: Value(v, nan, nan, None) for k, v in zip(names, times, strict=True)}
    )


def judge_branch(energy: Value, auroc: Value) -> Judgement:
    """C7: fostering improves an attention branch network, one that is level with a plain network.

    Positive energy and AUROC, with minus without fostering. *Confirmed* if the energy's interval
    lies above 0 and AUROC's lower end above -0.02; *refuted* if the energy's interval lies below
    0; else *refined*. The claim's own measure, ADCC on histology, is not ours.
    """
    verdict = "refined"
    if energy.low > 0 and auroc.low > -2 * AUROC_MARGIN:
        verdict = "confirmed"
    elif energy.high < 0:
        verdict = "refuted"
    return Judgement(verdict, {"positive energy": energy, "AUROC": auroc})


def targets(
    area: Value, dispersion: Value, auroc: Value, energy: Value, pixel_ap: Value
) -> dict[str, tuple[Value, bool]]:
    """The project's own targets at the chosen beta: name to figure and whether it is met.

    Ratios of area and dispersion to beta 0, differences of the rest. *Not worse* means that the
    interval does not lie below 0.
    """
    return {
        "elliptic area at most 0.7 of beta 0": (area, area.value <= AREA_TARGET),
        "dispersion at least 6 times": (dispersion, dispersion.value >= DISPERSION_CLAIMED),
        "AUROC lost at most 0.01": (auroc, auroc.value >= -AUROC_MARGIN),
        "positive energy not worse": (energy, energy.high >= 0),
        "pixel AP not worse": (pixel_ap, pixel_ap.high >= 0),
    }
