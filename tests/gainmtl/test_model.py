"""The model: logits and map agree, only the strategy's parts exist, masks are no input."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gainmtl.baselines.attention_branch import AttentionBranchNetwork
from gainmtl.cam import POOLINGS
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.objective import frozen_statistics
from gainmtl.strategies import STRATEGIES, TERMS, Strategy, get_strategy
from gainmtl.types import Batch, Outputs

BACKBONE = "test_efficientnet"
MakeBatch = Callable[..., Batch]


def build(
    strategy: str | Strategy = "S5",
    backbone: str = BACKBONE,
    cls: type[GAINMTL] = GAINMTL,
    **arguments: object,
) -> GAINMTL:
    """A random model whose biases and statistics differ from their neutral initial values."""
    torch.manual_seed(0)
    model = cls(backbone, strategy, **arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "backbone" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.train()
    model(torch.randn(4, 3, 64, 64))
    return model.eval()


def every_term(name: str) -> Strategy:
    """A strategy with the terms that none of S1 to S6 has."""
    base = get_strategy(name)
    weights = dataclasses.replace(base.weights, fostering=0.1, attention_branch=1.0)
    return dataclasses.replace(base, weights=weights)


def assert_pooled_map_is_logit_difference(model: GAINMTL, images: torch.Tensor) -> None:
    out = model(images)
    difference = out.logits[:, 1] - out.logits[:, 0]
    explained = model.pool(out.cam) + model.evidence_bias
    torch.testing.assert_close(explained, difference, rtol=0, atol=1e-4)


IDENTITY_BACKBONES = ("test_efficientnet", "test_resnet", "test_convnext")


@pytest.mark.parametrize(
    ("strategy", "stride"),
    [
        ("S1", None),
        ("S1", 4),
        ("S2", 8),
        ("S5", 4),
        ("S5", 32),
        ("S5-no-attended-classification", 4),
    ],
)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("backbone", IDENTITY_BACKBONES)
def test_pooled_map_is_the_logit_difference(
    backbone: str, pooling: str, strategy: str, stride: int | None
) -> None:
    model = build(strategy, backbone, pooling=pooling, output_stride=stride, dropout=0.5)
    images = 3 * torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert_pooled_map_is_logit_difference(model, images)
        # In training too: dropout takes feature maps away before the evidence is formed.
        assert_pooled_map_is_logit_difference(model.train(), images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    ["tf_efficientnetv2_s", "mobilenetv2_100", "resnet50", "convnext_tiny", "tiny_vit_5m_224"],
)
def test_pooled_map_is_the_logit_difference_on_full_backbones(backbone: str) -> None:
    for strategy in ("S1", "S5"):
        assert_pooled_map_is_logit_difference(build(strategy, backbone), torch.randn(2, 3, 64, 64))


def test_evidence_is_the_difference_of_the_deciding_heads_maps() -> None:
    for strategy in ("S2", "S5"):
        model = build(strategy)
        with torch.no_grad():
            out = model(torch.randn(2, 3, 64, 64))
        torch.testing.assert_close(out.cam, out.class_cam[:, 1:] - out.class_cam[:, :1])
        assert out.logits is (out.class_logits if strategy == "S2" else out.attended_logits)


PARTS = {
    "S1": set(),
    "S2": {"map_scale"},
    "S3": {"map_scale", "attention", "attended_head"},
    "S4": {"map_scale", "attention", "attended_head", "localization"},
    "S5": {"map_scale", "attention", "attended_head", "localization"},
    "S6": {"map_scale", "attention", "attended_head", "localization"},
    "S5-no-cam-guidance": {"attention", "attended_head", "localization"},
    "S5-no-localization": {"map_scale", "attention", "attended_head"},
    "S5-no-attended-classification": {"map_scale", "attention", "localization"},
    "S5-no-guidance": {"map_scale", "attention", "attended_head", "localization"},
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_without_a_term_are_not_built(name: str) -> None:
    model = build(name)
    out = model(torch.randn(2, 3, 64, 64))
    for part in ("map_scale", "attention", "attended_head", "localization"):
        assert (getattr(model, part) is not None) is (part in PARTS[name]), part
        assert any(key.split(".")[0] == part for key in model.state_dict()) is (part in PARTS[name])
    assert (out.attention_logits is not None) is ("attention" in PARTS[name])
    assert (out.attended_logits is not None) is ("attended_head" in PARTS[name])
    assert (out.localization_logits is not None) is ("localization" in PARTS[name])


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("stride", [None, 8])
def test_shapes_and_ranges(name: str, stride: int | None) -> None:
    model = build(name, output_stride=stride)
    grid = model.output_stride
    assert grid == (stride or (32 if name == "S1" else 4))
    with torch.no_grad():
        out: Outputs = model(10 * torch.randn(3, 3, 64, 96))
    h, w = 64 // grid, 96 // grid
    assert out.class_logits.shape == out.logits.shape == (3, 2)
    assert out.class_cam.shape == (3, 2, h, w)
    assert out.cam.shape == (3, 1, h, w)
    assert out.defect_map.shape == (3, 1, 64, 96)
    for maps, shape in ((out.attention_logits, (h, w)), (out.localization_logits, (64, 96))):
        assert maps is None or maps.shape == (3, 1, *shape)
    for unit in (out.defect_map, out.defect_probability):
        assert unit.min() >= 0
        assert unit.max() <= 1
    torch.testing.assert_close(out.defect_probability, out.logits.softmax(1)[:, 1])


def test_defect_map_comes_from_the_part_that_the_strategy_trains() -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = (located := build("S5"))(images)
        assert out.localization_logits is not None
        assert torch.equal(out.defect_map, out.localization_logits.sigmoid())
        out = build("S3")(images)
        assert out.attention_logits is not None
        assert out.defect_map.min() >= out.attention_logits.sigmoid().min() - 1e-6
        out = (plain := build("S2", output_stride=4))(images)
        expected = plain.calibrate(out.cam, out.logits).sigmoid().mean((2, 3))
        torch.testing.assert_close(out.defect_map.mean((2, 3)), expected, rtol=0.05, atol=0.01)
    assert located.strategy.has_localization


def test_a_normal_part_can_be_dark() -> None:
    """Without min-max scaling, a flat map far below the threshold is dark everywhere."""
    model = build("S1")
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([5.0, 0.0]))
        out = model(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(out.defect_map, torch.full_like(out.defect_map, 0.0066929))
    torch.testing.assert_close(out.defect_probability, torch.full((2,), 0.0066929))


def test_calibration_keeps_the_order() -> None:
    model = build("S2")
    assert model.map_scale is not None
    with torch.no_grad():
        model.map_scale.fill_(-30.0)
    cam = torch.linspace(-1e6, 1e6, 5).view(1, 1, 1, 5)
    assert (model.calibrate(cam, torch.zeros(1, 2)).diff() > 0).all()


def test_a_map_of_several_classes_has_the_bias_of_its_class() -> None:
    """The bias is that of the most probable defect class, not of class 1."""
    model = GAINMTL(
        "test_efficientnet", "S1", num_classes=3, classes=("normal", "crack", "stain")
    ).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, -4.0, 3.0]))
        out = model(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(out.defect_map, torch.full_like(out.defect_map, 0.8807971))


def test_forward_has_no_input_but_images() -> None:
    assert list(inspect.signature(GAINMTL.forward).parameters) == ["self", "images"]


def test_preprocess() -> None:
    model = build("S1")
    model.backbone.mean, model.backbone.std = (0.1, 0.2, 0.3), (0.5, 0.25, 1.0)
    pixel = model.preprocess(torch.full((1, 3, 1, 1), 0.6)).flatten().tolist()
    assert pixel == pytest.approx([1.0, 1.6, 0.3])


# More than two classes


def build_three() -> GAINMTL:
    return build("S5", num_classes=3, classes=("normal", "crack", "stain"))


def test_more_classes(make_batch: MakeBatch) -> None:
    model, batch = build_three(), make_batch()
    assert model.labels(batch).tolist() == [0, 0, 1, 2, 1]
    with torch.no_grad():
        out = model(model.preprocess(batch.image))
    best = out.logits[:, 1:].argmax(1) + 1
    rows = torch.arange(5)
    torch.testing.assert_close(out.cam[:, 0], out.class_cam[rows, best] - out.class_cam[:, 0])
    bias = model.deciding_head.bias
    torch.testing.assert_close(
        model.pool(out.cam) + bias[best] - bias[0],
        out.logits[rows, best] - out.logits[:, 0],
        rtol=0,
        atol=1e-4,
    )
    torch.testing.assert_close(out.defect_probability, out.logits.softmax(1)[:, 1:].sum(1))
    terms = model.train().training_step(batch)
    assert set(terms) == set(TERMS) - {"fostering", "attention_branch"}
    assert all(torch.isfinite(value) for value in terms.values())


def test_an_unknown_defect_type(make_batch: MakeBatch) -> None:
    model = build("S1", num_classes=3, classes=("normal", "crack", "chip"))
    with pytest.raises(ValueError, match=r"one of 'normal', 'crack', 'chip', got 'stain'"):
        model.labels(make_batch())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes: expected a whole number from 2 .*, got 1"),
        ({"num_classes": 2.0}, "num_classes: expected a whole number .*, got 2.0"),
        ({"width": 0}, "width: expected a whole number from 1 .*, got 0"),
        ({"width": -1}, "width: expected a whole number"),
        ({"width": True}, "width: expected a whole number .*, got True"),
        ({"dropout": "0.1"}, "dropout: expected a number from 0 to 1, got '0.1'"),
        ({"num_classes": 3}, "needs the names of the classes"),
        ({"num_classes": 3, "classes": ("normal", "crack")}, "expected 3 names, got 2"),
        ({"pooling": "max"}, "pooling: expected one of mean, lse, topk, or as .* got 'max'"),
        ({"output_stride": 7}, r"expected one of \[2, 4, 8, 16, 32\], .* got 7"),
        ({"strategy": "S9"}, "strategy: expected one of"),
    ],
)
def test_impossible_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GAINMTL(BACKBONE, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "classes",
    [
        ("crack", "normal", "stain"),  # cracks would be trained as normal
        ("good", "crack", "stain"),
        ("normal", "crack", "crack"),
        ("normal", "normal", "crack"),
        ("normal", "crack", " "),
        ("normal", "crack", 2),
        "abc",
        ("intact", "broken"),
    ],
)
def test_impossible_classes(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes: expected 'normal' first, then a different name"):
        GAINMTL(BACKBONE, "S1", num_classes=len(classes), classes=classes)


# Training


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.35, 0.6, 1.0])
@pytest.mark.parametrize("name", [*STRATEGIES, *(n for n in PARTS if n not in STRATEGIES)])
def test_training_step_returns_the_terms_on(
    name: str, progress: float, make_batch: MakeBatch
) -> None:
    model = build(name).train()
    terms = model.training_step(make_batch(), progress)
    assert set(terms) == set(get_strategy(name).weights_at(progress).active())
    assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("indices", [(0, 1), (2, 3), (4, 4), (0, 4)])
def test_one_sided_batches(indices: tuple[int, ...], make_batch: MakeBatch) -> None:
    """All normal, all defective, without masks: every term is finite and differentiable."""
    model = build(every_term("S6"), cls=AttentionBranchNetwork).train()
    terms = model.training_step(make_batch(indices), 0.6)
    assert set(terms) == set(TERMS)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("term", TERMS)
def test_the_gradient_of_every_term_reaches_the_backbone(term: str, make_batch: MakeBatch) -> None:
    # Fostering is silent where the verdict is wrong, and an untrained one is as often as not.
    strategy = dataclasses.replace(every_term("S5"), fostering_certain=False)
    model = build(strategy, cls=AttentionBranchNetwork).train()
    first = next(model.backbone.parameters())
    (gradient,) = torch.autograd.grad(model.training_step(make_batch())[term], first)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0


def test_consistency_trains_the_attention_and_not_the_localization(make_batch: MakeBatch) -> None:
    model = build("S5").train()
    assert model.localization is not None
    assert model.attention is not None
    model.training_step(make_batch())["consistency"].backward()
    assert all(p.grad is None for p in model.localization.parameters())
    assert all(p.grad is not None for p in model.attention.parameters())


def test_guidance_does_not_determine_the_scale_of_the_logit(make_batch: MakeBatch) -> None:
    model = build("S2").train()
    model.training_step(make_batch())["cam_guidance"].backward()
    assert model.map_scale is not None
    assert model.map_shift is not None
    for parameter in (model.map_scale, model.map_shift):
        assert parameter.grad is not None
        assert float(parameter.grad) != 0
    assert model.head.bias.grad is None


def calls(module: nn.Module) -> list[int]:
    """A list that collects the batch sizes of all further calls of `module`."""
    seen: list[int] = []
    module.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    return seen


def test_inactive_terms_are_not_computed(make_batch: MakeBatch) -> None:
    model = build("S5").train()
    assert model.localization is not None
    assert model.attended_head is not None
    backbone, head = calls(model.backbone), calls(model.attended_head)
    located = calls(model.localization)
    for progress, passes, verdicts, maps in (
        (0.0, [5], [5], []),  # nothing but the first pass
        (0.1, [5], [5], [5]),  # localization
        (0.4, [5, 1], [5, 1], [5]),  # mining: a quarter of the batch once more
        (1.0, [5, 1], [5, 1, 4], [5]),  # counterfactual: two annotated defects, twice
    ):
        for seen in (backbone, head, located):
            seen.clear()
        model.training_step(make_batch(), progress)
        assert (backbone, head, located) == (passes, verdicts, maps), progress


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for key, value in module.named_buffers()
    }


def test_second_passes_do_not_change_the_statistics(make_batch: MakeBatch) -> None:
    """After a training step the statistics are those of a single forward pass."""
    model, batch = build("S5").train(), make_batch()
    assert model.localization is not None
    other = copy.deepcopy(model)
    assert other.localization is not None
    model.training_step(batch, 1.0)
    features = other.features(other.preprocess(batch.image))
    other.classify(features)
    other.localization(features, (64, 64))
    ours, expected = statistics(model), statistics(other)
    assert len(ours) > 30
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name
    assert all(m.training for m in model.modules())


def test_frozen_statistics_restores_the_mode_after_an_error() -> None:
    model = build("S1").train()
    model.backbone.freeze(4)
    modes = [m.training for m in model.modules()]
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]

    def fail() -> None:
        with frozen_statistics(model):
            assert not any(norm.training for norm in norms)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert any(norm.training for norm in norms)
    assert [m.training for m in model.modules()] == modes


def terms_with(model: GAINMTL, batch: Batch, progress: float) -> dict[str, float]:
    torch.manual_seed(1)
    return {k: float(v.detach()) for k, v in model.training_step(batch, progress).items()}


def swapped(batch: Batch, row: int) -> Batch:
    masks = batch.mask.clone()
    masks[row] = 1 - masks[row]
    return batch._replace(mask=masks)


@pytest.mark.parametrize(
    ("name", "row", "progress", "changes"),
    [
        ("S6", 2, 0.0, True),
        ("S6", 2, 0.5, True),
        ("S6", 2, 0.8, False),  # faded to none
        ("S6", 4, 0.0, False),  # nobody annotated it: its zero mask has no meaning
        ("S5", 2, 0.0, False),
    ],
)
def test_only_s6_uses_masks_in_the_gate_and_only_early(
    name: str, row: int, progress: float, changes: bool, make_batch: MakeBatch
) -> None:
    model, batch = build(name), make_batch()
    before = terms_with(model, batch, progress)["attended_classification"]
    after = terms_with(model, swapped(batch, row), progress)["attended_classification"]
    assert (before != after) is changes


@pytest.mark.parametrize("name", ["S2", "S5", "S6"])
def test_the_mask_of_an_unannotated_defect_changes_no_term(
    name: str, make_batch: MakeBatch
) -> None:
    model, batch = build(name), make_batch()
    for progress in (0.1, 1.0):
        assert terms_with(model, batch, progress) == terms_with(model, swapped(batch, 4), progress)


def test_mining_uses_defects_only(make_batch: MakeBatch) -> None:
    model = build("S5").train()
    assert float(model.training_step(make_batch((0, 1)))["mining"].detach()) == 0
    assert float(model.training_step(make_batch((0, 4)))["mining"].detach()) > 0


def test_counterfactual_uses_the_deciding_head(make_batch: MakeBatch) -> None:
    """With the mean of normal features everywhere, the features are those of a normal part."""
    model, batch = build("S5"), make_batch()
    images = model.preprocess(batch.image)
    everything, nothing = torch.ones_like(batch.mask), torch.zeros_like(batch.mask)
    with torch.no_grad():
        factual = model(images).defect_probability
        flat = model.normal_features.mean[None, :, None, None].expand(5, -1, 16, 16)
        normal = 1 - model.classify(flat).output.logits.softmax(1)[:, 0]
        features = model.features(images)
        all_removed = model.counterfactual(features, everything)
        none_removed = model.counterfactual(features, nothing)
    torch.testing.assert_close(all_removed.removed, normal)
    torch.testing.assert_close(all_removed.kept, factual)
    torch.testing.assert_close(none_removed.removed, factual)
    torch.testing.assert_close(none_removed.kept, normal)


def test_with_weights(make_batch: MakeBatch) -> None:
    model = build("S2").with_weights(cam_guidance=0.7)
    assert model.strategy.weights == LossWeights(classification=1.0, cam_guidance=0.7)
    assert get_strategy("S2").weights.cam_guidance == 0.3
    for wrong in ({"mining": 0.2}, {"cam_guidance": 0.0}):
        with pytest.raises(ValueError, match="expected positive weights"):
            model.with_weights(**wrong)
