"""Evaluation without side effects, and only on images that a model was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gainmtl
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.scores import anomaly_scores, score_detector
from gainmtl.datasets import Data, load
from gainmtl.evaluation.interventions import score_interventions
from gainmtl.evaluation.scoring import defect_scores, score
from gainmtl.explanation.methods import METHODS, explain
from gainmtl.interface import evaluating
from gainmtl.model import GAINMTL

SIZE = 64


def synthetic(image_size: int) -> Data:
    return load("synthetic", image_size=image_size, train=8, val=6, test=8)


@pytest.fixture(scope="module")
def data() -> Data:
    return synthetic(SIZE)


@pytest.fixture
def classifier() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16)
    model.image_size = SIZE
    return model


@pytest.fixture
def bank(data: Data) -> MemoryBank:
    torch.manual_seed(0)
    model = MemoryBank("test_efficientnet", size=20)
    gainmtl.fit_detector(model, data, accelerator="cpu")
    return model


Judge = Callable[[Any, Any], Any]
CLASSIFIER: list[Judge] = [
    score,
    defect_scores,
    gainmtl.evaluate,
    lambda model, part: score_interventions({"a": model}, part),
]
DETECTOR: list[Judge] = [score_detector, anomaly_scores]


def check_state(model: nn.Module, act: Callable[[], Any]) -> None:
    """`act` changes neither tensors nor modes of a model in training mode with a frozen part."""
    model.train()
    next(iter(model.children())).eval()
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    act()
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, tensors[name]), name


@pytest.mark.parametrize("judge", CLASSIFIER)
def test_judging_changes_nothing(judge: Judge, classifier: GAINMTL, data: Data) -> None:
    check_state(classifier, lambda: judge(classifier, data.test))


@pytest.mark.parametrize("judge", DETECTOR)
def test_judging_by_a_detector_changes_nothing(judge: Judge, bank: MemoryBank, data: Data) -> None:
    check_state(bank, lambda: judge(bank, data.test))


CLASSIFIERS_ONLY: list[Judge] = [
    *CLASSIFIER,
    lambda model, part: explain(model, torch.rand(2, 3, SIZE, SIZE)),
    lambda model, part: gainmtl.fit(model, synthetic(SIZE)),
]
DETECTORS_ONLY: list[Judge] = [
    *DETECTOR,
    lambda model, part: gainmtl.fit_detector(model, synthetic(SIZE)),
]


@pytest.mark.parametrize("judge", CLASSIFIERS_ONLY)
@pytest.mark.parametrize("kind", [gainmtl.MemoryBank, gainmtl.ReverseDistillation])
def test_a_detector_where_a_classifier_is_expected(judge: Judge, kind: Any, data: Data) -> None:
    detector = kind("test_efficientnet")
    wanted = rf"expected a model of class (DefectModel|GAINMTL), got {kind.__name__}; "
    with pytest.raises(TypeError, match=wanted):
        judge(detector, data.test)


@pytest.mark.parametrize("judge", DETECTORS_ONLY)
def test_a_classifier_where_a_detector_is_expected(
    judge: Judge, classifier: GAINMTL, data: Data
) -> None:
    with pytest.raises(TypeError, match=r"expected a model of class Detector, got GAINMTL; "):
        judge(classifier, data.test)


@pytest.mark.parametrize("given", [lambda data: data, lambda data: "parts", lambda data: None])
@pytest.mark.parametrize("judge", [*CLASSIFIER, *DETECTOR])
def test_no_part_of_the_data(
    judge: Judge, given: Any, classifier: GAINMTL, bank: MemoryBank, data: Data
) -> None:
    model = bank if judge in DETECTOR else classifier
    with pytest.raises(TypeError, match=r"expected one part of the data, got .*give data\.test"):
        judge(model, given(data))
    with pytest.raises(ValueError, match="expected a part with images, got none"):
        judge(model, [])


@pytest.mark.parametrize("fit", [gainmtl.fit, gainmtl.fit_detector])
def test_a_part_in_place_of_all_data(
    fit: Any, classifier: GAINMTL, bank: MemoryBank, data: Data
) -> None:
    with pytest.raises(TypeError, match="expected a Data with its parts train, val and test, got"):
        fit(classifier if fit is gainmtl.fit else bank, data.train)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
@pytest.mark.parametrize("judge", CLASSIFIER)
def test_impossible_thresholds(judge: Judge, value: Any, classifier: GAINMTL, data: Data) -> None:
    classifier.threshold = value
    with pytest.raises(ValueError, match=r"threshold: expected a number in \[0, 1\], got"):
        judge(classifier, data.test)


@pytest.mark.parametrize("method", METHODS)
def test_explaining_changes_nothing(method: str, classifier: GAINMTL) -> None:
    images = torch.rand(2, 3, SIZE, SIZE)
    expected = explain(classifier.eval(), images, method).raw
    found: list[Tensor] = []
    check_state(classifier, lambda: found.append(explain(classifier, images, method).raw))
    torch.testing.assert_close(found[0], expected)


def test_modes_come_back_after_an_error(classifier: GAINMTL) -> None:
    classifier.train()
    classifier.backbone.eval()
    modes = [module.training for module in classifier.modules()]

    def fail() -> None:
        with evaluating(classifier):
            assert not any(module.training for module in classifier.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in classifier.modules()] == modes


@pytest.mark.parametrize("judge", CLASSIFIER)
@pytest.mark.parametrize("size", [32, 96])
def test_images_of_another_size(judge: Judge, size: int, classifier: GAINMTL) -> None:
    other = synthetic(size).test
    with pytest.raises(ValueError, match=f"expected images of 64 x 64 .*, got {size} x {size}"):
        judge(classifier, other)
    classifier.image_size = None
    judge(classifier, other)


@pytest.mark.parametrize("judge", DETECTOR)
def test_images_of_another_size_for_a_detector(judge: Judge, bank: MemoryBank) -> None:
    with pytest.raises(ValueError, match="expected images of 64 x 64 pixels.*, got 96 x 96"):
        judge(bank, synthetic(96).test)


@pytest.mark.parametrize("judge", CLASSIFIER)
def test_images_resized_in_another_way(judge: Judge, classifier: GAINMTL, data: Data) -> None:
    classifier.resize = "pad"

    class Squashed:
        resize = "squash"

        def __getattr__(self, name: str) -> Any:
            return getattr(data.test, name)

        def __len__(self) -> int:
            return len(data.test)  # type: ignore[arg-type]

        def __getitem__(self, index: int) -> Any:
            return data.test[index]

    with pytest.raises(ValueError, match="resized by 'pad'.*, got 'squash'; load .*resize='pad'"):
        judge(classifier, Squashed())


@pytest.mark.parametrize("judge", CLASSIFIER)
def test_scores_that_are_not_finite(judge: Judge, classifier: GAINMTL, data: Data) -> None:
    assert classifier.attended_head is not None
    with torch.no_grad():
        classifier.attended_head.bias.fill_(torch.nan)
    if judge is defect_scores:
        assert np.isnan(judge(classifier, data.test)[0]).all()
    else:
        with pytest.raises(ValueError, match="a verdict needs finite scores, found .* of"):
            judge(classifier, data.test)


def test_a_threshold_that_is_not_finite(bank: MemoryBank, data: Data) -> None:
    bank.threshold = float("nan")
    with pytest.raises(ValueError, match="a verdict needs finite threshold, found 1 of 1"):
        score_detector(bank, data.test)


def test_the_resize_rule_of_the_data(data: Data) -> None:
    assert data.resize == "squash"

    class Padded:
        resize = "pad"

    assert dataclasses.replace(data, train=Padded()).resize == "pad"  # type: ignore[arg-type]
