"""A loss on maps, what the methods cost, and claims A7 and A8."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch04_maps.map_loss import (
    Cost,
    Practice,
    energy_outside,
    live_rows,
    method_costs,
    practise,
    slope_error,
)
from gainbook.chapters.ch04_maps.study import (
    JUDGED,
    STUDY,
    SYSTEM,
    cost_of_maps,
    resemblance_rows,
    shuffled_shares,
    trainable,
)
from gainbook.lab import results_file as runs
from gainbook.lab.study import judge_stored
from torch import Tensor

from gainmtl import metrics
from gainmtl.explanation.methods import METHODS, explain
from gainmtl.model import GAINMTL

Network = tuple[GAINMTL, Tensor, Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=8, width=8).eval()
    masks = torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:16, 8:16] = 1
    return model, torch.randn(2, 3, 32, 32), masks


def test_the_loss_is_the_energy_off_the_defect(network: Network) -> None:
    model, images, masks = network
    shown = explain(model, images, "grad_cam_plus_plus").map
    on_grid = metrics.oracle_map(masks, shown.shape[2:])
    inside = (shown * on_grid).sum((1, 2, 3)) / shown.sum((1, 2, 3))
    loss = energy_outside(model, images, masks, "grad_cam_plus_plus")
    assert loss.item() == pytest.approx(1 - inside.mean().item(), abs=1e-6)
    assert loss.requires_grad


@pytest.mark.parametrize("method", ["cam", "score_cam"])
def test_every_derivative_agrees_with_finite_differences(network: Network, method: str) -> None:
    model, images, masks = network
    assert slope_error(model, images[:1], masks[:1], method) < 0.01
    assert next(model.parameters()).dtype == torch.float32  # a copy was used


def test_practice_leaves_the_model_and_trains_a_copy(network: Network) -> None:
    model, images, masks = network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    practice = practise(model, images, masks, "cam", steps=2)
    assert practice.after < practice.before
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(practice.model.head.weight, model.head.weight)


def test_passes_are_counted(network: Network) -> None:
    model, images, _ = network
    costs = method_costs(model, images, ("cam", "grad_cam", "score_cam"), repeats=1)
    assert costs["cam"][:4] == (1, 0, 1, 0)
    assert costs["grad_cam"][:4] == (1, 0, 1, 1)
    assert costs["score_cam"].forward > 2
    assert costs["score_cam"].backward == costs["score_cam"].head_backward == 0
    assert costs["score_cam"].memory > costs["cam"].memory


def test_the_randomisation_check_becomes_rows(network: Network) -> None:
    model, images, _ = network
    rows = pd.DataFrame(runs.check_rows(resemblance_rows(model, images, "synthetic", stops=2)))
    shares = shuffled_shares(rows)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len(shares) == 3
    assert len(rows) == len(METHODS) * 4  # and the maps of two different parts
    assert set(rows["n"]) == {2}


PASSES = {"cam": (1, 0), "grad_cam": (1, 1), "grad_cam_plus_plus": (1, 1), "score_cam": (50, 0)}


def stored(
    trained: Sequence[str] = (),
    times: tuple[float, float, float] = (1.2, 1.2, 20.0),
    backward_of_cam: int = 0,
) -> pd.DataFrame:
    """Rows in which the methods `trained` pass both tests and the others keep their loss."""
    errors = dict.fromkeys(JUDGED, 1e-9)
    practices = {
        name: Practice(1.0, 0.8 if name in trained else 0.95, 1.0, None)  # type: ignore[arg-type]
        for name in JUDGED
    }
    seconds = dict(zip(JUDGED, (1.0, *times), strict=True))
    costs = {n: Cost(f, 0, 1, b, seconds[n], 1.0) for n, (f, b) in PASSES.items()}
    costs["cam"] = costs["cam"]._replace(head_backward=backward_of_cam)
    return pd.DataFrame(runs.check_rows(live_rows(SYSTEM, errors, practices, costs)))


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (["cam"], "confirmed"),
        (["cam", "grad_cam"], "refined"),
        (list(JUDGED), "refuted"),
        (["grad_cam"], "refuted"),
        ([], "refuted"),
    ],
)
def test_only_a_cam_can_be_trained_on(trained: list[str], expected: str) -> None:
    assert trainable(stored(trained)).verdict == expected


def test_a_wrong_derivative_fails_too() -> None:
    rows = stored(JUDGED)
    is_cam = rows["condition"].map(lambda condition: condition["method"] == "cam")
    others = (rows["metric"] == "slope_error") & ~is_cam
    assert trainable(rows.assign(value=rows["value"].where(~others, 0.5))).verdict == "confirmed"


@pytest.mark.parametrize(
    ("times", "backward_of_cam", "expected"),
    [
        ((1.2, 1.2, 20.0), 0, "confirmed"),
        ((1.0, 1.2, 20.0), 0, "refined"),
        ((1.2, 1.2, 5.0), 0, "refined"),
        ((1.2, 1.2, 20.0), 1, "refuted"),
        ((1.0, 1.0, 5.0), 1, "refuted"),
    ],
)
def test_the_cost_of_maps(
    times: tuple[float, float, float], backward_of_cam: int, expected: str
) -> None:
    rows = stored(times=times, backward_of_cam=backward_of_cam)
    assert cost_of_maps(rows).verdict == expected


def test_the_claims_are_judged_by_the_stored_live_part() -> None:
    file = runs.reference(STUDY.name)
    assert {claim.id: judge_stored(claim, file).verdict for claim in STUDY.claims} == {
        "A7": "refuted",
        "A8": "refined",
    }
    without = file._replace(rows=file.rows[file.rows["dataset"] != "synthetic"])
    assert {judge_stored(claim, without).verdict for claim in STUDY.claims} == {"not run"}
