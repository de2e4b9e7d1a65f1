"""Gradient conflict: hand-computed values, a brute-force oracle, and no effect on the run."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gainmtl.datasets import load
from gainmtl.model import GAINMTL
from gainmtl.training.fitting import fit
from gainmtl.training.gradient_conflict import (
    Conflict,
    as_columns,
    conflict,
    cosines,
    flat_gradients,
    from_columns,
    measure,
    probe_batch,
)
from gainmtl.training.run import TrainingRun


def quadratics() -> tuple[list[torch.Tensor], list[nn.Parameter]]:
    """At (3, 4): `|w|^2 / 2` has gradient (3, 4), `(w_1 - 7)^2 / 2` (-4, 0), a constant none."""
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    return [w.square().sum() / 2, (w[0] - 7).square() / 2, torch.tensor(2.0)], [w]


def test_cosines_of_two_quadratic_losses() -> None:
    losses, parameters = quadratics()
    found = cosines(flat_gradients(losses, parameters))
    # (3, 4) . (-4, 0) / (5 * 4) = -0.6
    torch.testing.assert_close(found[:2, :2], torch.tensor([[1.0, -0.6], [-0.6, 1.0]]).double())
    assert found[2].isnan().all()
    assert found[:, 2].isnan().all()
    assert parameters[0].grad is None


def test_cosines_do_not_depend_on_positive_weights_or_unused_parameters() -> None:
    losses, parameters = quadratics()
    unreached = nn.Parameter(torch.ones(3))
    found = cosines(flat_gradients([losses[0], 10 * losses[1]], [*parameters, unreached]))
    assert found[0, 1].item() == pytest.approx(-0.6)
    assert flat_gradients(losses[:1], [*parameters, unreached]).tolist() == [[3, 4, 0, 0, 0]]


def test_the_cosine_of_a_term_with_the_weighted_sum_of_the_others() -> None:
    """Gradients (3, 4), (-4, 0) and (0, 1), weights 1, 2 and 8: the others of the first sum to
    (-8, 8), and its cosine with that is (-24 + 32) / (5 * 8 sqrt 2)."""
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    terms = {
        "a": w.square().sum() / 2,
        "b": (w[0] - 7).square() / 2,
        "c": w[1],
        "none": w.sum() * 0,
    }
    found = conflict(terms, {"a": 1.0, "b": 2.0, "c": 8.0, "none": 1.0}, [w])
    assert found.pulls.tolist() == [5, 8, 8, 0]
    assert found.with_others("a") == pytest.approx(8 / (40 * math.sqrt(2)))
    assert math.isnan(found.with_others("none"))
    assert math.isnan(found.with_others("absent"))
    # a-b -0.6, a-c 0.8, b-c 0
    np.testing.assert_allclose(sorted(found.pairs), [-0.6, 0, 0.8], atol=1e-12)
    assert found.conflicting_share == pytest.approx(1 / 3)
    assert found.mean_cosine == pytest.approx(0.2 / 3)


def test_a_sum_that_cancels_has_no_direction() -> None:
    w = nn.Parameter(torch.tensor([1.0]))
    found = conflict({"a": w[0], "b": w[0], "c": -w[0]}, {"a": 1.0, "b": 1.0, "c": 1.0}, [w])
    assert math.isnan(found.with_others("a"))
    alone = conflict({"a": w[0]}, {"a": 1.0}, [w])
    assert math.isnan(alone.conflicting_share)
    assert math.isnan(alone.with_others("a"))


def test_a_row_of_the_history_is_the_inverse_of_a_conflict() -> None:
    cosines = np.array([[1, -0.25, math.nan], [-0.25, 1, math.nan], [math.nan] * 3])
    given = Conflict(("guidance", "cam_guidance", "mining"), cosines, np.array([2.0, 0.5, 0.0]))
    row = {"epoch": 3.0, "cosine.other.guidance": math.nan, **as_columns(given)}
    back = from_columns(row)
    assert back.terms == given.terms
    np.testing.assert_array_equal(back.cosines, given.cosines)
    np.testing.assert_array_equal(back.pulls, given.pulls)


DATA = load("synthetic", image_size=64, train=24, val=12, test=4)


def test_the_probe_is_half_defective_and_deterministic() -> None:
    batch, again = probe_batch(DATA.train, 8), probe_batch(DATA.train, 8)
    assert batch.is_defective.tolist() == [True, False] * 4
    assert batch.name == again.name
    assert len(set(batch.name)) == 8
    assert torch.equal(batch.image, again.image)
    with pytest.raises(ValueError, match="probe: expected a whole number from 2"):
        probe_batch(DATA.train, 1)


def test_measuring_agrees_with_backward_one_term_at_a_time() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16, dropout=0.0)
    model.backbone.freeze(4)
    batch = probe_batch(DATA.train, 8)
    found = measure(model, batch, 1.0)
    gradients = {}
    for term in found.terms:
        # Each from the same start: a step moves the running means that the counterfactual uses.
        twin = copy.deepcopy(model).train()
        twin.training_step(batch, 1.0)[term].backward()
        free = [p for p in twin.backbone.parameters() if p.requires_grad]
        gradients[term] = torch.cat(
            [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in free]
        ).double()
    assert len(found.terms) == 8
    for i, a in enumerate(found.terms):
        for j, b in enumerate(found.terms[:i]):
            cosine = torch.cosine_similarity(gradients[a], gradients[b], 0).item()
            assert found.cosines[i, j] == pytest.approx(cosine, abs=1e-5)


def test_measuring_does_not_change_weights_statistics_or_random_numbers() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first = measure(model, probe_batch(DATA.train, 4), 1.0)
    second = measure(model, probe_batch(DATA.train, 4), 1.0)
    np.testing.assert_array_equal(first.cosines, second.cosines)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def train(output_dir: Path | None = None, probe: int = 0) -> tuple[GAINMTL, pd.DataFrame]:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16)
    history = fit(
        model, DATA, 3, output_dir, accelerator="cpu", seed=3, batch_size=8, progress=False,
        probe=probe,
    )  # fmt: skip
    return model, history


def test_training_is_the_same_bit_for_bit_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, without = train()
    probed, history = train(probe=4)
    for (name, a), b in zip(bare.state_dict().items(), probed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert bare.threshold == probed.threshold
    shared = [name for name in without if name != "seconds"]
    pd.testing.assert_frame_equal(history[shared], without[shared])
    assert not [name for name in without if name.startswith(("cosine.", "pull."))]
    # the first epoch has no counterfactual yet, the last has all eight terms
    assert len(from_columns(history.iloc[0].to_dict()).terms) == 7  # a third is done: mining is on
    assert len(from_columns(history.iloc[2].to_dict()).terms) == 8

    # Interrupted after the first epoch, without a probe even, and taken up with one.
    one = TrainingRun.train_epoch

    def stop(self: TrainingRun) -> dict[str, float]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return one(self)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    resumed, rest = train(tmp_path, probe=4)
    for a, b in zip(bare.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    later = [name for name in history if name.startswith(("cosine.", "pull."))]
    pd.testing.assert_frame_equal(rest.loc[1:, later], history.loc[1:, later])
    assert rest.loc[0, later].isna().all()
