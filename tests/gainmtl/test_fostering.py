"""CAM fostering: both routes, the fostered maps and samples, and training with it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gainmtl import losses, metrics
from gainmtl.datasets import load
from gainmtl.fostering import Tally, certainty, layer_map, opponents, true_map, true_score
from gainmtl.io import strategy_from_dict, strategy_to_dict
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import STRATEGIES, Strategy, foster, get_strategy
from gainmtl.training.fitting import fit
from gainmtl.types import Batch

BACKBONE = "test_efficientnet"
MakeBatch = Callable[..., Batch]


def build(strategy: str | Strategy, **arguments: object) -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL(BACKBONE, strategy, **arguments)  # type: ignore[arg-type]


def test_the_spread_is_0_for_one_cell_and_1_for_equal_cells() -> None:
    for grid in ((4, 4), (8, 5)):
        dot = torch.zeros(1, 1, *grid)
        dot[..., 1, 2] = 2.0
        for measure in ("ce", "ca", "cd"):
            assert float(metrics.relative_spread(dot, measure)) == pytest.approx(0, abs=1e-6)
            even = float(metrics.relative_spread(torch.ones(1, 1, *grid), measure))
            assert even == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="expected one of ce, ca, cd, got 'rd'"):
        metrics.relative_spread(torch.ones(1, 1, 4, 4), "rd")
    with pytest.raises(ValueError, match="at least 2 x 2 cells, got 1 x 9"):
        metrics.relative_spread(torch.ones(1, 1, 1, 9))


def test_cd_is_the_entropy_of_second_order() -> None:
    maps = torch.rand(3, 1, 4, 4)
    p = (maps / maps.sum((1, 2, 3), keepdim=True)).flatten(1)
    expected = -p.square().sum(1).log() / math.log(16)
    torch.testing.assert_close(metrics.relative_spread(maps, "cd"), expected)
    assert bool((metrics.relative_spread(maps, "ce") >= expected).all())


def test_the_loss_is_a_mean_over_fostered_maps_that_have_not_vanished() -> None:
    half = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    maps = torch.stack([torch.ones(2, 2), half, -half, half])[:, None].requires_grad_()
    fostered = torch.tensor([True, True, True, False])
    loss = losses.fostering_loss(maps, fostered)
    assert float(loss.detach()) == pytest.approx((1 + 0.5) / 2)
    (gradient,) = torch.autograd.grad(loss, maps)
    assert bool(gradient.isfinite().all())
    assert gradient[2:].abs().sum() == 0
    nobody = losses.fostering_loss(maps, torch.zeros(4, dtype=torch.bool))
    assert float(nobody.detach()) == 0
    assert float(torch.autograd.grad(nobody, maps)[0].abs().sum()) == 0


def test_the_map_of_the_true_class_against_its_opponent() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 1.0, 2.0]])
    labels = torch.tensor([2, 0])
    cams = torch.arange(6.0).reshape(2, 3, 1, 1)
    assert opponents(logits, labels).tolist() == [0, 2]  # normal, and the likelier defect
    assert true_score(logits, labels).tolist() == [1, 3]
    assert true_map(cams, logits, labels).flatten().tolist() == [2 - 0, 3 - 5]
    bias = torch.tensor([1.0, 10.0, 100.0])
    from_verdict = true_map(cams, logits, labels, bias).flatten().tolist()
    assert from_verdict == [2 - 0 + 99, 3 - 5 - 99]


@pytest.mark.parametrize("pooling", ["mean", "lse", "topk"])
def test_with_the_bias_a_correctly_classified_defect_has_a_positive_cell(pooling: str) -> None:
    model = build("S1", output_stride=8, pooling=pooling).eval()
    images = torch.rand(16, 3, 64, 64)
    with torch.no_grad():
        output = model.classify(model.features(model.preprocess(images))).output
        model.head.bias[1] -= (output.logits[:, 1] - output.logits[:, 0]).median()
        output = model.classify(model.features(model.preprocess(images))).output
    labels = torch.ones(16, dtype=torch.long)
    gone = metrics.vanished(true_map(output.class_cam, output.logits, labels, model.head.bias))
    assert not bool(gone[true_score(output.logits, labels) > 0].any())


def test_a_faint_map_is_weighted_by_its_height() -> None:
    yes = torch.tensor([True])
    for height, counts in ((0.1, 0.1), (1.0, 1.0), (7.0, 1.0)):
        assert float(losses.fostering_loss(torch.full((1, 1, 2, 2), height), yes)) == (
            pytest.approx(counts)
        )
    # Without the guard the gradient would be a million times as large for the fainter map.
    totals = []
    for scale in (1.0, 1e-6):
        maps = (scale * torch.rand(1, 1, 8, 8)).requires_grad_()
        (gradient,) = torch.autograd.grad(losses.fostering_loss(maps, yes), maps)
        totals.append(float(gradient.abs().sum()))
    assert max(totals) < 1
    assert totals[1] > 0


def test_a_map_is_weighted_by_the_certainty_of_its_sample() -> None:
    logits = torch.tensor([[0.0, math.log(3), 0.0], [math.log(3), 0.0, 0.0], [0.0, 0.0, 40.0]])
    found = certainty(logits, torch.tensor([1, 1, 2]))
    assert found.tolist() == pytest.approx([0.5, 0, 1])  # p of 3/4, of 1/4, of 1
    maps = torch.stack([torch.ones(2, 2), torch.eye(2), torch.ones(2, 2)])[:, None]
    yes = torch.ones(3, dtype=torch.bool)
    assert float(losses.fostering_loss(maps, yes, certainty=found)) == pytest.approx(
        (0.5 * 1 + 0 * 0.5 + 1 * 1) / 3
    )


def test_the_map_of_a_misclassified_sample_is_not_sharpened(make_batch: MakeBatch) -> None:
    batch = make_batch((2, 3, 4))
    strategy = foster("S1", 0.1)
    model = build(dataclasses.replace(strategy, fostering_zero="map")).train()
    with torch.no_grad():
        model.head.bias[0] += 100
    assert float(model.training_step(batch)["fostering"].detach()) == 0
    model.strategy = dataclasses.replace(model.strategy, fostering_certain=False)
    assert float(model.training_step(batch)["fostering"].detach()) > 0
    model.strategy = strategy
    with torch.no_grad():
        model.head.bias[0] -= 200
    assert float(model.training_step(batch)["fostering"].detach()) > 0


def both_routes(model: GAINMTL, batch: Batch) -> list[tuple[Tensor, list[Tensor | None]]]:
    """The loss and its gradients, analytically and with second derivatives at the same layer."""
    labels, found = model.labels(batch), []
    parameters = [p for p in model.parameters() if p.requires_grad]
    for second_order in (False, True):
        features = model.features(model.preprocess(batch.image.to(parameters[0].dtype)))
        output = model.classify(features).output
        if second_order:
            maps = layer_map(true_score(output.logits, labels), features)
        else:
            maps = true_map(output.class_cam, output.logits, labels)
        loss = losses.fostering_loss(maps, labels > 0)
        found.append((loss, list(torch.autograd.grad(loss, parameters, allow_unused=True))))
    return found


@pytest.mark.parametrize("pooling", ["mean", "lse", "topk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_routes_agree_at_the_same_layer(
    pooling: str, dtype: torch.dtype, make_batch: MakeBatch
) -> None:
    model = build("S1", output_stride=8, pooling=pooling).to(dtype).eval()
    (analytic, first), (second, other) = both_routes(model, make_batch())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(analytic, second, atol=tolerance, rtol=0)
    scale = max(float(g.abs().max()) for g in first if g is not None)
    assert scale > 0
    for a, b in zip(first, other, strict=True):
        a, b = (torch.zeros(1, dtype=dtype) if g is None else g for g in (a, b))
        assert float((a - b).abs().max()) <= tolerance * max(scale, 1)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_convnext"])
@pytest.mark.parametrize("measure", ["ce", "ca", "cd"])
def test_any_layer_of_any_backbone(backbone: str, measure: str, make_batch: MakeBatch) -> None:
    for stride in (None, 8, 16):
        torch.manual_seed(0)
        model = GAINMTL(backbone, foster("S1", 0.1, measure, stride)).train()
        first = next(model.backbone.parameters())
        (gradient,) = torch.autograd.grad(model.training_step(make_batch())["fostering"], first)
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) > 0


def test_a_missing_or_frozen_layer(make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match=r"fostering_layer: test_efficientnet has levels of"):
        build(foster("S1", 0.1, layer=7))
    model = build(foster("S1", 0.1, layer=4)).train()
    model.backbone.freeze(8)
    with pytest.raises(ValueError, match="this layer and all before it are frozen"):
        model.training_step(make_batch())
    with pytest.raises(ValueError, match="does not depend"):
        layer_map(torch.ones(2, requires_grad=True), torch.ones(2, 1, 2, 2, requires_grad=True))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("classes", [2, 3])
def test_it_can_be_added_to_every_strategy_and_changes_no_other_term(
    name: str, classes: int, make_batch: MakeBatch
) -> None:
    names = ("normal", "crack", "stain") if classes == 3 else None
    own: dict[str, object] = {"num_classes": classes, "classes": names, "output_stride": 8}
    terms = {}
    for strategy in (name, foster(name, 0.1)):
        model = build(strategy, **own).train()
        torch.manual_seed(1)
        terms[str(strategy)] = model.training_step(make_batch())
    plain, fostered = terms.values()
    assert set(fostered) - set(plain) == {"fostering"}
    assert 0 < float(fostered["fostering"].detach()) <= 1
    for term, value in plain.items():
        assert torch.equal(value, fostered[term]), term


def test_normal_samples_are_fostered_only_with_fostering_normal(make_batch: MakeBatch) -> None:
    strategy = foster("S1", 0.1)
    normal = make_batch((0, 1))
    assert float(build(strategy).train().training_step(normal)["fostering"].detach()) == 0
    both = build(dataclasses.replace(strategy, fostering_normal=True)).train()
    with torch.no_grad():
        both.head.bias[0] += 10  # the verdict is right, or there is nothing to sharpen
    assert float(both.training_step(normal)["fostering"].detach()) > 0


def test_the_term_does_not_depend_on_masks(make_batch: MakeBatch) -> None:
    batch = make_batch()
    swapped = batch._replace(mask=1 - batch.mask, has_mask=~batch.has_mask)
    values = []
    for given in (batch, swapped):
        model = build(foster("S1", 0.1)).train()
        torch.manual_seed(1)
        values.append(model.training_step(given)["fostering"])
    assert torch.equal(*values)


def test_the_tally() -> None:
    tally = Tally()
    assert math.isnan(tally.take())
    tally.add(torch.tensor([True, False, True]), torch.tensor([True, True, False]))
    tally.add(torch.tensor([False, False]), torch.tensor([True, True]))
    assert tally.take() == 0.25
    assert math.isnan(tally.take())


def test_names_and_stored_strategies() -> None:
    fostered = foster("S2", 0.3, "ca", 16)
    assert fostered.name == "S2-fostered"
    assert fostered.weights == LossWeights(1.0, 0.3, fostering=0.3)
    assert dict(fostered.windows)["fostering"].factor(0.05) == 0
    stored = json.loads(json.dumps(strategy_to_dict(fostered)))
    assert strategy_from_dict(stored) == fostered
    with pytest.raises(ValueError, match="fostering_measure: expected one of ce, ca, cd"):
        foster("S1", 0.1, "rd")
    with pytest.raises(ValueError, match="fostering_zero: expected one of verdict, map"):
        dataclasses.replace(fostered, fostering_zero="none")
    with pytest.raises(ValueError, match="loss weight fostering"):
        foster("S1", -0.1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_identities_of_runs_without_fostering_stay(name: str) -> None:
    """A term that a run does not have must not be part of its identity."""
    stored = strategy_to_dict(get_strategy(name))
    assert [key for key in stored if key.startswith("fostering")] == []
    assert "fostering" not in stored["weights"]
    assert strategy_from_dict(stored) == get_strategy(name)


def test_training_with_it_sharpens_the_maps_and_records_vanished_maps(tmp_path: Path) -> None:
    data = load("synthetic", image_size=32, train=32, val=8, test=8)
    entropy = {}
    for beta in (0.0, 3.0):
        # After three epochs no verdict is sure.
        strategy = dataclasses.replace(foster("S1", beta), fostering_certain=False)
        model = build(strategy, output_stride=4)
        history = fit(
            model, data, 3, accelerator="cpu", batch_size=8, learning_rate=5e-3, progress=False
        )
        assert ("fostering_vanished" in history) == (beta > 0)
        images = torch.stack([data.test[i].image for i in range(8) if data.test.labels[i]])  # type: ignore[attr-defined]
        with torch.no_grad():
            out = model(model.preprocess(images))
        entropy[beta] = float(metrics.cam_entropy(out.cam).nanmean())
    assert history["fostering_vanished"].dropna().between(0, 1).all()
    assert history["weight_fostering"].max() == pytest.approx(3, rel=0.05)
    assert entropy[3.0] < entropy[0.0] - 0.2
