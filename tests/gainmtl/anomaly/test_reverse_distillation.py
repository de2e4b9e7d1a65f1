"""Reverse distillation: shapes and sizes as published, frozen teacher, losses by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from gainbook.lab.cost import Counted

from gainmtl.anomaly.base import squash
from gainmtl.anomaly.reverse_distillation import (
    ReverseDistillation,
    cosine_distance,
    flat_loss,
    pixel_loss,
    squared_distance,
    squared_loss,
)
from gainmtl.anomaly.teacher import Teacher, feature_statistics, level_statistics
from gainmtl.types import Batch

SMALL = ("test_resnet", "test_convnext", "test_efficientnet", "resnet18", "mobilenetv2_100")


def count(module: torch.nn.Module) -> float:
    """Parameters in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.mark.parametrize("backbone", SMALL)
def test_the_students_levels_have_the_teachers_shapes(backbone: str) -> None:
    model = ReverseDistillation(backbone).eval()
    with torch.no_grad():
        teachers, students = model.teacher_and_student(torch.randn(2, 3, 64, 64))
    assert [t.shape for t in teachers] == [s.shape for s in students]
    assert [64 // t.shape[2] for t in teachers] == list(model.teacher.strides) == [4, 8, 16]
    code = model.student.encode(teachers)
    assert code.shape[2:] == (2, 2)


@pytest.fixture(scope="module")
def wide_resnet() -> ReverseDistillation:
    """The published model; several seconds to build."""
    return ReverseDistillation("wide_resnet50_2")


def test_wide_resnet_has_the_published_sizes(wide_resnet: ReverseDistillation) -> None:
    # Counted by hand in the published code: stem and three layers, fusion, embedding, decoder.
    teacher, student = wide_resnet.teacher, wide_resnet.student
    parts = (teacher, student.fusion, student.embedding, student.decoder)
    assert [round(count(part), 1) for part in parts] == [24.9, 10.6, 48.3, 24.9]
    assert teacher.channels == (256, 512, 1024)
    widths = [stage[0].branch[0].out_channels for stage in student.decoder.stages]
    assert widths == [512, 256, 128]
    assert [len(stage) for stage in student.decoder.stages] == [3, 4, 6]


def test_convnext_base_has_the_sizes_of_the_swap() -> None:
    with torch.device("meta"):  # sizes without values
        model = ReverseDistillation("convnext_base", fusion=False)
    assert model.teacher.channels == (128, 256, 512)
    parts = (model.teacher, model.student.embedding, model.student.decoder)
    teacher, embedding, decoder = (count(part) for part in parts)
    assert teacher == pytest.approx(60.1, abs=0.1)
    assert embedding == pytest.approx(27.4, abs=0.1)
    # The blocks are the teacher's, 60 with their downsampling. Upsampling by 2 x 2 has four times
    # the input channels: 1024 to 512, where the teacher's downsampling starts from 256.
    assert decoder == pytest.approx(62.2, abs=0.1)
    assert [len(stage) - 2 for stage in model.student.decoder.stages] == [27, 3, 3]


@pytest.mark.parametrize("backbone", ["resnet18", "test_convnext", "mobilenetv2_100"])
def test_the_teacher_is_timms_own_and_stops_early(backbone: str) -> None:
    torch.manual_seed(0)
    teacher = Teacher(backbone)
    torch.manual_seed(0)
    whole = timm.create_model(backbone, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        _, levels = whole.forward_intermediates(images)
        for level, mine in zip(teacher.levels, teacher(images), strict=True):
            assert torch.allclose(levels[level], mine, atol=1e-5)
    assert count(teacher) < count(whole)
    left = {tuple(p.shape) for p in teacher.next_stage.parameters()}  # type: ignore[union-attr]
    assert left
    assert not any("next_stage" in name for name in teacher.state_dict())


def test_the_teacher_never_moves_and_never_trains(make_batch: Callable[..., Batch]) -> None:
    model = ReverseDistillation("test_resnet")
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_step(make_batch((0, 1)))["distillation"].backward()
        optimizer.step()
    assert not any(module.training for module in model.teacher.modules())
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.teacher.parameters())


def test_masks_and_labels_reach_neither_loss_nor_map(make_batch: Callable[..., Batch]) -> None:
    model = ReverseDistillation("test_efficientnet").eval()
    batch = make_batch()
    other = batch._replace(mask=1 - batch.mask, is_defective=~batch.is_defective)
    with torch.no_grad():
        assert model.training_step(batch) == model.training_step(other)


def test_stage4_is_the_backbones_own_and_frozen_by_default() -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("test_convnext", fusion=False, embedding="stage4")
    torch.manual_seed(0)
    whole = timm.create_model("test_convnext", num_classes=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, levels = whole.forward_intermediates(images, norm=False)
        assert torch.allclose(model.student.encode(model.teacher(images)), levels[3], atol=1e-5)
    assert not any(p.requires_grad for p in model.student.embedding.parameters())
    assert not model.train().student.embedding.training
    trained = ReverseDistillation("test_resnet", embedding="stage4-trained")
    assert all(p.requires_grad for p in trained.student.embedding.parameters())


def test_losses_by_hand() -> None:
    # Two places. First: t = (3, 0), s = (1, 0), cosine 1. Second: t = (0, 1), s = (1, 0), cosine 0.
    t = torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]])
    s = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
    assert cosine_distance(t, s).flatten().tolist() == pytest.approx([0, 1])
    assert pixel_loss([t, t], [s, s]).item() == pytest.approx(2 * 0.5)
    # As one vector: t·s = 3, |t| = sqrt(10), |s| = sqrt(2); the strong place hides the wrong one.
    assert flat_loss([t], [s]).item() == pytest.approx(1 - 3 / math.sqrt(20))
    # Differences (2, 0) and (-1, 1): means of squares 2 and 1.
    assert squared_distance(t, s).flatten().tolist() == pytest.approx([2, 1])
    assert squared_loss([t, t], [s, s]).item() == pytest.approx(2 * 1.5)


def test_the_map_uses_the_distance_of_the_loss() -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("test_resnet", features="standardized", loss="squared").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        t, s = model.teacher_and_student(images)
        assert torch.equal(model.level_maps(images)[1], squared_distance(t[1], s[1]))


def test_a_neighbourhood_is_averaged_inside_the_image_only() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 32, 32)
    plain = Teacher("test_resnet", strides=(4, 8))
    wide = Teacher("test_resnet", strides=(4, 8), neighborhood=3)
    wide.load_state_dict(plain.state_dict())
    level, near = plain(images)[0], wide(images)[0]
    assert torch.allclose(near[..., 4, 5], level[..., 3:6, 4:7].mean((2, 3)), atol=1e-5)
    assert torch.allclose(near[..., 0, 7], level[..., :2, 6:].mean((2, 3)), atol=1e-5)
    with pytest.raises(ValueError, match="odd number >= 1, got 2"):
        Teacher("test_resnet", neighborhood=2)


def test_balanced_levels_have_one_scale_on_normal_images() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 64, 64)
    plain = ReverseDistillation("test_resnet", loss="squared").eval()
    model = ReverseDistillation("test_resnet", loss="squared", balanced=True).eval()
    model.load_state_dict(plain.state_dict())
    for one in (plain, model):
        one.balance([images[:4], images[4:]])
    assert plain.level_center.tolist() == [0, 0, 0]
    with torch.no_grad():
        out = model(model.preprocess(images))
        levels = model.level_maps(model.preprocess(images))
        assert torch.equal(plain(plain.preprocess(images)).level_maps[0], levels[0])
    for place, level in enumerate(levels):
        assert model.level_center[place] == pytest.approx(level.mean().item(), rel=1e-5)
        spread = level.std(correction=0).item()
        assert model.level_spread[place] == pytest.approx(spread, rel=1e-5)
    # Three levels of mean 0 each, enlarged with corners aligned: far from the sum of distances.
    assert abs(out.anomaly_map.mean()) < 0.5
    total = sum(
        model._enlarge((level - c) / s, (64, 64))
        for level, c, s in zip(levels, model.level_center, model.level_spread, strict=True)
    )
    assert torch.allclose(out.anomaly_map, torch.as_tensor(total), atol=1e-4)


def test_outputs_are_on_the_scale_of_the_threshold() -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("test_efficientnet").eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        assert before.logits.isnan().all()
        model.set_scale(before.anomaly_score, float(before.anomaly_score[1]))
        out = model(images)
    assert out.anomaly_map.shape == out.defect_map.shape == (3, 1, 64, 64)
    assert torch.equal(out.anomaly_score, out.anomaly_map.amax((1, 2, 3)))
    assert out.logits[1] == 0
    assert out.defect_probability[1] == 0.5
    assert torch.equal(out.logits.argsort(), out.anomaly_score.argsort())
    assert torch.allclose(out.logits, out.map_logits.amax((1, 2, 3)))
    values = torch.linspace(-200, 200, 99)
    assert (squash(values).diff() > 0).all()
    assert squash(torch.tensor(0.1)) == pytest.approx(0.1, abs=1e-4)


def test_standardized_features_have_mean_zero_and_spread_one() -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("test_resnet", features="standardized")
    images = torch.rand(4, 3, 64, 64)
    model.prepare([images[:2], images[2:]])
    for level in model.teacher(model.preprocess(images)):
        means, spreads = level.mean((0, 2, 3)), level.std((0, 2, 3), unbiased=False)
        assert means.abs().max() < 1e-3
        alive = spreads > 0.5
        assert torch.allclose(spreads[alive], torch.ones(int(alive.sum())), atol=1e-2)
    assert {"teacher.center_0", "teacher.scale_2"} <= set(model.state_dict())
    scaled = ReverseDistillation("test_resnet", features="scaled")
    scaled.teacher.network.load_state_dict(model.teacher.network.state_dict())
    scaled.prepare([images])
    one, other = (m.teacher(m.preprocess(images))[2] for m in (model, scaled))
    apart = other - one
    assert torch.allclose(apart, apart[:1, :, :1, :1].expand_as(apart), atol=1e-3)
    assert other.mean((0, 2, 3)).abs().max() > 0.1


def test_norm_features_are_those_of_the_next_stage() -> None:
    torch.manual_seed(0)
    teacher = Teacher("test_convnext", features="norm")
    torch.manual_seed(0)
    whole: Any = timm.create_model("test_convnext", num_classes=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, levels = whole.forward_intermediates(images, norm=False)
        normed = whole.stages[2].downsample[0](levels[1])
        assert torch.allclose(teacher(images)[1], normed, atol=1e-5)
    with pytest.raises(ValueError, match="begin with a normalisation"):
        Teacher("resnet18", features="norm")


def test_level_statistics_are_of_one_network_for_all_kinds() -> None:
    torch.manual_seed(3)
    images = torch.rand(4, 3, 64, 64)
    torch.manual_seed(0)
    statistics = level_statistics("test_convnext", None, images)
    assert {kind for kind, _ in statistics} == {"raw", "norm", "standardized", "scaled"}
    torch.manual_seed(0)
    teacher = Teacher("test_convnext", None, "scaled")
    mean, std = (torch.tensor(v)[:, None, None] for v in (teacher.mean, teacher.std))
    seen = (images - mean) / std
    teacher.fit_statistics([seen])
    for stride, level in zip(teacher.strides, teacher(seen), strict=True):
        assert statistics["scaled", stride] == feature_statistics(level)
    # A ResNet's stages begin with no normalisation: three kinds, and the attempt changes nothing.
    torch.manual_seed(0)
    three = level_statistics("test_resnet", None, images)
    assert {kind for kind, _ in three} == {"raw", "standardized", "scaled"}
    torch.manual_seed(0)
    level = Teacher("test_resnet", None)(seen)[0]
    assert three["raw", 4] == feature_statistics(level)


def test_feature_statistics_by_hand() -> None:
    # Two equally strong channels, opposite features: participation 1, cosines are 1 and -1.
    level = torch.tensor([[[[1.0, -1.0]], [[1.0, -1.0]]]])
    statistics = feature_statistics(level)
    assert statistics.participation == pytest.approx(1)
    assert statistics.outlier_share == pytest.approx(0.5)
    assert statistics.mean_cosine == pytest.approx(-1)
    # Only one channel is not zero: 1 / C.
    single = torch.zeros(1, 4, 2, 2)
    single[:, 2] = 5
    assert feature_statistics(single).participation == pytest.approx(0.25)
    assert feature_statistics(single).mean_cosine == pytest.approx(1)


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": False},
        {"decoder": "light"},
        {"decoder": "resnet", "projection": True},
        {"features": "norm", "loss": "flat", "layer_scale": None, "dropout": 0.2},
        {"embedding": "stage4", "fusion": True},
    ],
)
def test_every_switch_trains(options: dict[str, Any], make_batch: Callable[..., Batch]) -> None:
    model = ReverseDistillation("test_convnext", **options)
    loss = model.training_step(make_batch((0, 1)))["distillation"]
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("decoder", ["resnet", "convnext", "light"])
def test_code_channels(decoder: str) -> None:
    model = ReverseDistillation("test_resnet", decoder=decoder, code_channels=5).eval()
    images = torch.randn(2, 3, 64, 64)
    teachers, students = model.teacher_and_student(images)
    assert model.student.encode(teachers).shape == (2, 5, 2, 2)
    assert [x.shape for x in students] == [x.shape for x in teachers]
    again = ReverseDistillation(**model.config)
    again.load_state_dict(model.state_dict())


def test_unused_stages_never_run() -> None:
    model = ReverseDistillation("resnet18").eval()
    assert [len(getattr(model.teacher.network, f"layer{i}")) for i in (1, 2, 3, 4)] == [2, 2, 2, 0]
    counted = Counted(model.teacher)
    counted(torch.randn(2, 3, 64, 64))
    assert counted.forward == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "cooked"}, "raw, norm, standardized, scaled"),
        ({"embedding": "none"}, "embedding"),
        ({"code_channels": 0}, "at least 1"),
        ({"code_channels": 8, "embedding": "stage4"}, "a trained embedding"),
        ({"decoder": "vit"}, "decoder"),
        ({"loss": "l2"}, "pixel, flat"),
        ({"strides": (4,)}, "at least two"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReverseDistillation("test_resnet", **options)


def test_a_light_decoder_needs_its_projection() -> None:
    with pytest.raises(ValueError, match="projection"):
        ReverseDistillation("test_efficientnet", projection=False)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["wide_resnet50_2", "convnext_base"])
def test_one_step_of_the_full_networks(backbone: str, wide_resnet: ReverseDistillation) -> None:
    model = wide_resnet
    if backbone != "wide_resnet50_2":
        model = ReverseDistillation(backbone, fusion=False, embedding="stage4")
    images = torch.rand(1, 3, 128, 128)
    batch = Batch(images, None, None, None, (), (), ())  # type: ignore[arg-type]
    loss = model.train().training_step(batch)["distillation"]
    loss.backward()
    assert loss.isfinite()
    trained = [p for p in model.student.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    with torch.no_grad():
        out = model.eval()(model.preprocess(images))
    assert out.anomaly_map.shape == (1, 1, 128, 128)
    assert [tuple(x.shape[2:]) for x in out.level_maps] == [(32, 32), (16, 16), (8, 8)]


def test_sides_that_cannot_be_halved_are_refused_by_name() -> None:
    model = ReverseDistillation("test_resnet")
    with pytest.raises(ValueError, match="multiples of 32 pixels, found 64 x 48"):
        model(torch.randn(1, 3, 64, 48))
