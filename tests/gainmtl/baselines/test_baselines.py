"""The compared models: the same fit, score, save and protocol, and predictions without masks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from gainbook.lab.comparison import compare, pooled_rows, wrong_reason
from gainbook.lab.protocol import cross_validate
from torch.utils.data import Dataset

import gainmtl
from gainmtl import datasets, losses, metrics
from gainmtl.baselines.boxes import mask_boxes, paint_boxes
from gainmtl.baselines.fcos import BoxDetector
from gainmtl.baselines.platt import fit_platt
from gainmtl.baselines.readout import SEGMENTATION, LocalizationModel
from gainmtl.baselines.unet import READOUT_SHARES, UNet, top_mean
from gainmtl.datasets import Data
from gainmtl.evaluation.scoring import batches, score
from gainmtl.evaluation.tidy import tidy_rows
from gainmtl.interface import DefectModel
from gainmtl.io import load, save
from gainmtl.model import GAINMTL
from gainmtl.strategies import get_strategy
from gainmtl.training.checkpoint import CHECKPOINT
from gainmtl.training.fitting import fit
from gainmtl.types import Sample, collate

BACKBONE = "test_efficientnet"
SYSTEMS: dict[str, Any] = {
    "unet": lambda: UNet(BACKBONE, decoder=(16, 16, 8, 8, 8)),
    "detector": lambda: BoxDetector(BACKBONE, width=32, convolutions=1),
}
each_system = pytest.mark.parametrize("name", SYSTEMS)


def build(name: str) -> DefectModel:
    torch.manual_seed(0)
    return SYSTEMS[name]()


def run(
    model: DefectModel, data: Data, output_dir: Path | None = None, **more: Any
) -> pd.DataFrame:
    recipe: dict[str, Any] = {
        "epochs": 2, "batch_size": 8, "seed": 3, "accelerator": "cpu", "progress": False,
    }  # fmt: skip
    return fit(model, data, output_dir=output_dir, **recipe | more)


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.load("synthetic", image_size=64, train=20, val=12, test=8)


class OtherMasks(Dataset[Sample]):
    """The same images with inverted masks and labels."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return sample._replace(mask=1 - sample.mask.flip(1), is_defective=not sample.is_defective)


@pytest.fixture(scope="module")
def trained(data: Data) -> Callable[[str], tuple[DefectModel, pd.DataFrame]]:
    """`trained(name)`: a model and its history, trained once."""

    @functools.cache
    def train(name: str) -> tuple[DefectModel, pd.DataFrame]:
        model = build(name)
        return model, run(model, data)

    return train


@each_system
def test_an_interrupted_run_ends_as_a_whole_one(
    name: str, data: Data, trained: Any, tmp_path: Path, interrupted: Callable[[Data, int], Data]
) -> None:
    whole, history = trained(name)
    with pytest.raises(KeyboardInterrupt):
        run(build(name), interrupted(data, 20 + 11), tmp_path / "cut")
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    torch.manual_seed(999)
    other = build(name)
    again = run(other, data, tmp_path / "cut")
    for key, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    assert other.threshold == whole.threshold
    columns = [c for c in history if c != "seconds"]
    pd.testing.assert_frame_equal(again[columns], history[columns], check_exact=True)
    terms = whole.strategy.weights.active()
    assert np.isfinite(history[list(terms)]).all().all()


@each_system
def test_saved_and_loaded(name: str, trained: Any, tmp_path: Path) -> None:
    model, _ = trained(name)
    path = save(model, tmp_path / "model")
    other = load(path).to(memory_format=torch.channels_last)
    assert type(other) is type(model)
    assert (other.strategy, other.config) == (model.strategy, model.config)
    assert (other.threshold, other.image_size) == (model.threshold, 64)
    images = model.preprocess(torch.rand(2, 3, 64, 64))
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for ours, theirs in zip(model(images), other(images), strict=True):
            assert torch.equal(ours, theirs)


@each_system
def test_a_mask_never_reaches_a_prediction(name: str, data: Data) -> None:
    model = build(name).eval()
    swapped = OtherMasks(data.test)
    ours, theirs = score(model, data.test), score(model, swapped)
    assert ours.images["defect_probability"].equals(theirs.images["defect_probability"])
    table = gainmtl.predict(model, torch.stack([data.test[i].image for i in range(3)]))
    assert len(table.cams) == 0
    assert [m.shape for m in table.defect_maps] == [(64, 64)] * 3


@pytest.fixture(scope="module")
def validate(data: Data) -> Callable[..., Any]:
    """`validate(build, folder)`: one fold, one epoch."""
    shared: dict[str, Any] = {
        "folds": 1, "epochs": 1, "batch_size": 8, "accelerator": "cpu", "progress": False,
    }  # fmt: skip
    return lambda build, folder: cross_validate(build, lambda fold: data, folder, **shared)


@pytest.fixture(scope="module")
def plain(validate: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A pooled `GAINMTL`, to compare with."""
    return validate(lambda: GAINMTL(BACKBONE, "S2"), tmp_path_factory.mktemp("plain"))


@each_system
def test_what_a_system_without_an_evidence_map_leaves_out(
    name: str, validate: Any, plain: Any, tmp_path: Path
) -> None:
    pooled = validate(lambda: build(name), tmp_path)
    again = validate(lambda: build(name), tmp_path)
    pd.testing.assert_frame_equal(pooled.scores.images, again.scores.images)
    columns = pooled.scores.images.columns
    assert not [c for c in columns if c.startswith(("cam.", "oracle.", "flip."))]
    assert "defect_map.point_game" in columns
    rows = pooled_rows(pooled, "synthetic", 0, resamples=20)
    assert set(rows["map"].dropna()) == {"defect_map"}
    for pair in ((pooled, plain), (plain, pooled)):
        maps = set(compare(*pair, "synthetic", resamples=20)["map"].dropna())
        assert maps == {"defect_map"}
    wrong = wrong_reason(pooled.scores, {}, {}, resamples=20)
    assert wrong.empty or set(wrong["map"]) == {"defect_map"}
    assert not tidy_rows(pooled.scores, "synthetic", "test", "x", resamples=0).empty


@each_system
def test_outputs_keep_their_promises(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        out = model(model.preprocess(torch.rand(2, 3, 64, 96)))
    assert out.logits.shape == (2, 2)
    assert torch.allclose(out.defect_probability, out.logits.softmax(1)[:, 1], atol=1e-6)
    assert out.defect_map.shape == (2, 1, 64, 96)
    assert 0 <= out.defect_map.min() <= out.defect_map.max() <= 1


@each_system
def test_a_missing_mask_is_no_empty_mask(name: str, data: Data) -> None:
    """A defective sample without a mask has a loss and gradients of 0."""
    model = build(name)
    samples = [data.train[i] for i in range(len(data.train))]
    bad = next(s for s in samples if s.is_defective)
    unknown = bad._replace(mask=torch.zeros_like(bad.mask), has_mask=False)
    terms = model.training_step(collate([unknown, unknown]))
    assert set(terms) == set(model.strategy.weights.active())
    assert all(float(value.detach()) == 0 for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(not g.any() for g in gradients)


class Fixed(LocalizationModel):
    """Given readouts: column 0 is constant, columns 1 and 2 separate the classes."""

    strategy = SEGMENTATION

    def __init__(self) -> None:
        super().__init__()
        self.backbone = gainmtl.network.Backbone(BACKBONE)

    def localize(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value = images.mean((1, 2, 3))
        return torch.stack([value * 0, value, value * 3], 1), torch.zeros_like(images[:, :1])


def test_readout_and_scaling_come_from_validation(data: Data) -> None:
    samples = [data.val[i] for i in range(len(data.val))]
    shown = [
        s._replace(image=torch.full_like(s.image, 0.5 + 0.3 * s.is_defective)) for s in samples
    ]
    model = Fixed()
    model.fit_on_validation([collate(shown)])
    assert int(model.reading) == 1  # the first of equals
    scores = [float(model.preprocess(s.image[None]).mean()) for s in shown]
    line = fit_platt(scores, [s.is_defective for s in shown])
    assert model.line.tolist() == pytest.approx(list(line), rel=1e-4)
    with torch.no_grad():
        out = model(model.preprocess(torch.stack([s.image for s in shown])))
    assert out.defect_probability.tolist() == pytest.approx(line(scores).tolist(), abs=1e-4)
    # With one class AUROC is undefined: the first readout without scaling.
    one_class = Fixed()
    one_class.fit_on_validation([collate([s for s in shown if not s.is_defective])])
    assert (int(one_class.reading), one_class.line.tolist()) == (0, [1.0, 0.0])


@each_system
def test_an_order_is_kept_by_the_line(name: str, data: Data) -> None:
    model = build(name).eval()
    readouts = torch.cat(
        [model.localize(model.preprocess(b.image))[0].detach() for b in batches(data.val, 8)]
    )
    before = readouts[:, int(model.reading)]
    model.fit_on_validation(batches(data.val, 8))
    labels = [data.val[i].is_defective for i in range(len(data.val))]
    aurocs = [metrics.auroc(column.numpy(), labels) for column in readouts.T]
    assert aurocs[int(model.reading)] == max(aurocs)
    assert model.line[0] > 0
    assert len(before) == len(labels)


# The U-Net


def test_top_mean_by_hand() -> None:
    logits = torch.arange(100.0).view(1, 1, 10, 10)
    assert float(top_mean(logits, 0.0)) == 99
    assert float(top_mean(logits, 0.02)) == 98.5
    assert float(top_mean(logits, 0.011)) == 98.5  # rounded up
    assert float(top_mean(logits, 1.0)) == 49.5


def test_a_peer_draws_the_same_map() -> None:
    """`smp.Unet` on the same encoder, with the same weights."""
    torch.manual_seed(0)
    ours = UNet(BACKBONE).eval()
    theirs = smp.Unet(f"tu-{BACKBONE}", encoder_weights=None).eval()
    encoder = ours.backbone.timm.state_dict()
    own = theirs.encoder.model.state_dict()
    theirs.encoder.model.load_state_dict({key: encoder[key] for key in own})
    theirs.decoder.load_state_dict(ours.decoder.state_dict())
    theirs.segmentation_head.load_state_dict(ours.segmentation_head.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours.map_logits(images), theirs(images), atol=1e-5)
        readouts, shown = ours.localize(images)
        assert torch.equal(shown, torch.sigmoid(ours.map_logits(images)))
        assert readouts.shape == (2, len(READOUT_SHARES))
        assert torch.equal(readouts[:, -1], ours.map_logits(images).flatten(1).amax(1))


def test_the_loss_is_that_of_every_localization(data: Data) -> None:
    model = build("unet").eval()
    batch = collate([data.train[i] for i in range(4)])
    expected = losses.map_guidance_loss(
        model.map_logits(model.preprocess(batch.image)),
        batch.mask, batch.is_defective, batch.has_mask,
    )  # fmt: skip
    found = model.training_step(batch)["localization"]
    assert torch.allclose(found, expected)


def test_a_backbone_that_begins_at_stride_four() -> None:
    model = UNet("test_convnext", decoder=(8, 8, 8, 8)).eval()
    with torch.no_grad():
        assert model.map_logits(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_a_unet_refuses_other_strategies_and_decoders() -> None:
    with pytest.raises(ValueError, match="localization as the only term, got classification"):
        UNet(BACKBONE, get_strategy("S1"))
    with pytest.raises(ValueError, match="expected 5 decoder channels"):
        UNet(BACKBONE, decoder=(16, 16))


# The detector


def mask_of(*pieces: tuple[slice, slice]) -> torch.Tensor:
    mask = torch.zeros(1, 12, 16)
    for rows, columns in pieces:
        mask[0, rows, columns] = 1
    return mask


def test_boxes_by_hand() -> None:
    mask = mask_of((slice(1, 3), slice(4, 9)), (slice(8, 12), slice(0, 2)))
    assert mask_boxes(mask).tolist() == [[4, 1, 9, 3], [0, 8, 2, 12]]
    corner = mask_of((slice(0, 2), slice(0, 2)), (slice(2, 3), slice(2, 5)))
    assert mask_boxes(corner).tolist() == [[0, 0, 5, 3]]  # they touch
    assert mask_boxes(mask_of()).shape == (0, 4)


def test_painting_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0]])
    shown = paint_boxes(boxes, torch.tensor([0.3, 0.8]), (8, 8))
    assert shown.shape == (1, 8, 8)
    assert float(shown.sum()) == pytest.approx(16 * 0.8 + (16 - 4) * 0.3)
    assert shown[0, 3, 3] == shown[0, 5, 5] == pytest.approx(0.8)
    assert shown[0, 6, 6] == 0
    assert not paint_boxes(torch.zeros(0, 4), torch.zeros(0), (8, 8)).any()


def test_a_box_painted_again_is_its_mask() -> None:
    mask = mask_of((slice(1, 3), slice(4, 9)), (slice(8, 12), slice(0, 2)))
    boxes = mask_boxes(mask)
    assert torch.equal(paint_boxes(boxes, torch.ones(2), (12, 16)), mask)


def test_the_verdict_is_the_best_box(data: Data) -> None:
    """The image score is the highest box score of torchvision's own box decoding."""
    torch.manual_seed(0)
    model = BoxDetector(BACKBONE, width=32).eval()
    torch.nn.init.normal_(model.fcos.head.classification_head.cls_logits.weight, std=0.5)
    torch.nn.init.ones_(model.fcos.head.regression_head.bbox_reg.bias)  # or a box has no size
    images = model.preprocess(torch.stack([data.test[i].image for i in range(4)]))
    with torch.no_grad():
        readout, shown = model.localize(images)
    assert readout.shape == (4, 1)
    best = torch.sigmoid(readout[:, 0])
    assert (best > 0.05).all()
    assert shown.flatten(1).amax(1).tolist() == pytest.approx(best.tolist(), abs=1e-5)


def test_a_detector_overfits_one_part(data: Data) -> None:
    """The boxes lie on the defect: losses, anchors and painting use the same coordinates."""
    torch.manual_seed(0)
    sample = data.train[0]._replace(image=torch.full((3, 64, 64), 0.5), is_defective=True)
    mask = torch.zeros(1, 64, 64)
    mask[0, 20:32, 36:52] = 1
    sample = sample._replace(image=sample.image + 0.4 * mask, mask=mask, has_mask=True)
    clean = sample._replace(
        image=torch.full((3, 64, 64), 0.5), is_defective=False, mask=torch.zeros_like(mask)
    )
    model = BoxDetector(BACKBONE, width=32).train()
    model.backbone.freeze(0, statistics=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    batch = collate([sample, clean])
    for _ in range(40):
        loss = torch.stack(list(model.training_step(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        out = model(model.preprocess(batch.image))
    shown = out.defect_map[0] > 0.5 * out.defect_map[0].max()
    overlap = (shown & (mask > 0)).sum() / (shown | (mask > 0)).sum()
    assert overlap > 0.5
    assert out.defect_probability[0] > out.defect_probability[1]


def test_a_detector_refuses_other_strategies_and_widths() -> None:
    with pytest.raises(ValueError, match="of classification and localization, got localization"):
        BoxDetector(BACKBONE, SEGMENTATION)
    with pytest.raises(ValueError, match="multiple of 32"):
        BoxDetector(BACKBONE, width=40)


def test_one_small_part_alone() -> None:
    """A level of one cell, where a norm over single channels would divide by zero."""
    model = BoxDetector(BACKBONE, width=32, convolutions=1).eval()
    with torch.no_grad():
        assert model.localize(torch.zeros(1, 3, 32, 32))[1].shape == (1, 1, 32, 32)
