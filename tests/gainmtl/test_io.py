"""Saving and loading: round trips, and one clear error for a bad file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.io import load, save, strategy_from_dict, strategy_to_dict
from gainmtl.metrics import threshold_at_fpr
from gainmtl.model import GAINMTL
from gainmtl.strategies import STRATEGIES, get_strategy

BACKBONE = "test_efficientnet"


def used(strategy: str = "S5", **arguments: object) -> GAINMTL:
    """A model whose settings all differ from their defaults."""
    torch.manual_seed(0)
    model = GAINMTL(BACKBONE, strategy, dropout=0.3, width=24, **arguments)  # type: ignore[arg-type]
    model.train()
    model(torch.randn(4, 3, 64, 64))
    model.normal_features.update(torch.randn(2, 24, 4, 4), torch.tensor([True, False]))
    model.threshold, model.image_size, model.resize = 0.123456789, 96, "pad"
    model.backbone.mean, model.backbone.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    return model.eval()


@pytest.mark.parametrize("strategy", ["S2", "S5", "S6", "S5-no-mining"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_round_trip(strategy: str, layout: torch.memory_format, tmp_path: Path) -> None:
    model = used(strategy, pooling="topk", output_stride=8).to(memory_format=layout)
    path = save(model, tmp_path / "model")
    assert path == tmp_path / "model.safetensors"
    other = load(path).to(memory_format=layout)
    assert not other.training
    assert (other.threshold, other.image_size, other.resize) == (0.123456789, 96, "pad")
    assert (other.strategy, other.config) == (model.strategy, model.config)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        ours, theirs = model(model.preprocess(images)), other(other.preprocess(images))
    for name, value in ours._asdict().items():
        found = getattr(theirs, name)
        assert (found is None) if value is None else torch.equal(found, value), name
    assert torch.equal(model.normal_features.mean, other.normal_features.mean)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_classes_and_changed_weights_are_restored(tmp_path: Path) -> None:
    model = GAINMTL(BACKBONE, num_classes=3, classes=("normal", "crack", "stain"))
    other = load(save(model.with_weights(mining=0.7), tmp_path / "m.safetensors"))
    assert other.classes == ("normal", "crack", "stain")
    assert other.strategy.weights.mining == 0.7


def test_create_kwargs_are_restored(tmp_path: Path) -> None:
    model = GAINMTL(BACKBONE, "S1", create_kwargs={"output_stride": 16})
    assert load(save(model, tmp_path / "m")).backbone.last_stride == 16


@pytest.mark.parametrize("name", [*STRATEGIES, "S5-no-mining-no-consistency"])
def test_strategies_round_trip_through_json(name: str) -> None:
    strategy = get_strategy(name)
    assert strategy_from_dict(json.loads(json.dumps(strategy_to_dict(strategy)))) == strategy


def test_saving_over_a_model_replaces_it(tmp_path: Path) -> None:
    path = save(used("S1", output_stride=4), tmp_path / "m")
    save(used("S2"), path)
    assert load(path).strategy.name == "S2"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.safetensors"):
        load(tmp_path / "absent")
    path = save(used(), tmp_path / "m")
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"m\.json.*both written by gainmtl\.save"):
        load(path)


def test_json_of_another_format(tmp_path: Path) -> None:
    path = save(used(), tmp_path / "m")
    for text in ("[1]", '{"format": 99}', "{}", '{"config": {}, "format": 3}'):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(ValueError, match=r"description of format 3 .*m\.json is none"):
            load(path)


def test_json_without_an_entry(tmp_path: Path) -> None:
    path = save(used(), tmp_path / "m")
    stored = json.loads(path.with_suffix(".json").read_text())
    for key in ("model", "strategy", "threshold"):
        partial = {name: value for name, value in stored.items() if name != key}
        path.with_suffix(".json").write_text(json.dumps(partial))
        with pytest.raises(ValueError, match=r"m\.json is missing or wrong"):
            load(path)


@pytest.mark.parametrize("cls", [MemoryBank, ReverseDistillation])
def test_an_anomaly_detector(cls: type, tmp_path: Path) -> None:
    detector = cls(BACKBONE)
    detector.image_size, detector.resize = 64, "pad"
    path = save(detector, tmp_path / "d", seconds=1.5)
    other = load(path)
    assert type(other) is cls
    assert not other.training
    assert (other.image_size, other.resize, other.config) == (64, "pad", detector.config)
    assert math.isnan(other.threshold)
    for name, value in detector.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    stored = json.loads(path.with_suffix(".json").read_text())
    assert (stored["format"], stored["facts"]) == (1, {"seconds": 1.5})


def without_digest(path: Path) -> Path:
    """As files from before the digest."""
    stored = json.loads(path.with_suffix(".json").read_text())
    del stored["tensors"]
    path.with_suffix(".json").write_text(json.dumps(stored))
    return path


def test_a_file_from_before_the_digest(tmp_path: Path) -> None:
    path = without_digest(save(used(), tmp_path / "m"))
    assert load(path).threshold == 0.123456789


def test_a_save_that_is_interrupted_between_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, newer = save(used(), tmp_path / "m"), used()
    newer.threshold = 0.9
    with torch.no_grad():
        newer.head.weight += 1

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("gainmtl.io.write_json", fail)
        with pytest.raises(OSError, match="no space"):
            save(newer, path)
    with pytest.raises(
        ValueError, match=r"m\.safetensors is not the file that m\.json .* was writ"
    ):
        load(path)
    assert load(save(newer, path)).threshold == 0.9


def test_files_of_two_models_of_one_kind(tmp_path: Path) -> None:
    model = used()
    first = save(model, tmp_path / "a")
    with torch.no_grad():
        model.head.weight += 1
    second = save(model, tmp_path / "b")
    second.with_suffix(".json").write_bytes(first.with_suffix(".json").read_bytes())
    with pytest.raises(ValueError, match="one of them was replaced"):
        load(second)


@pytest.mark.parametrize("cut", [0, 5, 1000, -1])
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_damaged_file(suffix: str, cut: int, tmp_path: Path) -> None:
    path = save(used(), tmp_path / "m")
    damaged = path.with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes()[: cut if cut >= 0 else -3])
    kind = "JSON" if suffix == ".json" else "safetensors"
    with pytest.raises(ValueError, match=rf"expected a whole {kind} file, but .*m{suffix} \("):
        load(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"threshold": "high"},
        {"threshold": [1]},
        {"threshold": True},
        {"threshold": -0.01},
        {"threshold": 1.01},
        {"threshold": None},
        {"image_size": True},
        {"model": {"backbone": BACKBONE, "num_classes": 3, "classes": ["a", "normal", "b"]}},
        {"image_size": "64"},
        {"image_size": 0},
        {"resize": "crop"},
        {"mean": [0.5]},
        {"std": [0.5, 0.5, 0.0]},
        {"mean": None},
        {"create_kwargs": {"no_such": 1}},
        {"create_kwargs": [1]},
        {"strategy": []},
        {"strategy": {"name": "S1"}},
        {"model": {"backbone": "test_efficientnet", "later": 1}},
        {"model": {"backbone": "no_such_network"}},
        {"model": []},
        {"kind": "later"},
        {"calibration": {"scale": 2}},
    ],
)
def test_an_entry_that_is_wrong_or_of_a_later_version(
    entries: dict[str, object], tmp_path: Path
) -> None:
    path = save(used(), tmp_path / "m")
    json_path = path.with_suffix(".json")
    json_path.write_text(json.dumps({**json.loads(json_path.read_text()), **entries}))
    with pytest.raises(
        ValueError, match=r"m\.json is missing or wrong: .+ this version of gainmtl"
    ):
        load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 1.01), ("threshold", math.nan), ("threshold", True), ("image_size", True)],
)
def test_a_model_that_could_not_be_loaded_is_not_saved(
    name: str, value: Any, tmp_path: Path
) -> None:
    model = used()
    setattr(model, name, value)
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {value}"):
        save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_the_threshold_where_a_normal_image_has_the_probability_one(tmp_path: Path) -> None:
    model = used()
    model.threshold = threshold_at_fpr([1.0, 0.5], [False, True])
    assert model.threshold > 1
    assert load(save(model, tmp_path / "m")).threshold == model.threshold


def test_a_saved_model_named_by_its_json(tmp_path: Path) -> None:
    path = save(used(), tmp_path / "m.json")
    assert path == tmp_path / "m.safetensors"
    assert load(tmp_path / "m.json").image_size == 96
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.safetensors;"):
        load(tmp_path / "absent.json")


def test_saving_through_links_keeps_them(tmp_path: Path) -> None:
    real = save(used("S1", output_stride=4), tmp_path / "runs" / "m")
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"link{suffix}").symlink_to(real.with_suffix(suffix))
    save(used("S2"), tmp_path / "link")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert load(real).strategy.name == load(tmp_path / "link").strategy.name == "S2"


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = save(used(), "~/models/m")
    assert path == tmp_path / "models" / "m.safetensors"
    assert load("~/models/m").image_size == 96


def test_tensors_of_another_model(tmp_path: Path) -> None:
    path = without_digest(save(used(), tmp_path / "m"))
    save_file({k: v for k, v in load_file(path).items() if "head" not in k}, path)
    with pytest.raises(ValueError, match=r"tensors of m\.safetensors don't fit its \.json"):
        load(path)


def test_a_loaded_model_computes_in_the_layout_of_training(tmp_path: Path) -> None:
    model = used().to(memory_format=torch.channels_last)
    found = load(save(model, tmp_path / "model"))
    images = torch.randn(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(found(images).defect_map, model(images).defect_map)
    kernels = [p for p in found.parameters() if p.ndim == 4 and p.shape[2] > 1 and p.shape[1] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_something_else_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="save: expected a model of class .*, got Linear"):
        save(torch.nn.Linear(1, 1), tmp_path / "model")
    assert not list(tmp_path.iterdir())
