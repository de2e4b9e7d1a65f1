"""The timed networks: parameters by hand, blocks that are timm's, measurements that resume."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from gainbook.chapters.ch01_models import blocks, measure, networks, tables
from gainbook.lab.cost import used_parameters
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import Value

from gainmtl.files import read_json


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolution(kernel: int, inside: int, out: int) -> int:
    return kernel**2 * inside * out + out


def test_efficientad_small_by_hand() -> None:
    trunk = convolution(4, 3, 128) + convolution(4, 128, 256) + convolution(3, 256, 256)
    pair = 2 * trunk + convolution(4, 256, 384) + convolution(4, 256, 768)
    down = convolution(4, 3, 32) + convolution(4, 32, 32) + convolution(4, 32, 64)
    down += 2 * convolution(4, 64, 64) + convolution(8, 64, 64)
    up = 6 * convolution(4, 64, 64) + convolution(3, 64, 64) + convolution(3, 64, 384)
    assert parameters(networks.EfficientAD(medium=False)) == pair + down + up == 8_057_856


def test_efficientad_s_map() -> None:
    """Where the student predicts the teacher and the autoencoder exactly the map is zero."""
    torch.manual_seed(0)
    model = networks.EfficientAD(medium=False).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = model(images)
        assert found.shape == (1, 1, 17, 17)
        assert (found > 0).all()
        target = model.teacher(images)
        rebuilt = model.autoencoder(images, target.shape[2:])
        assert rebuilt.shape == target.shape
        model.student.forward = lambda _: torch.cat([target, rebuilt], 1)
        assert torch.equal(model(images), torch.zeros(1, 1, 17, 17))


def test_sizes_are_those_of_the_frozen_table() -> None:
    """Parameters that a prediction uses, of every detector that the table calls built."""
    table = pd.concat([tables.detectors("paper"), tables.detectors("rerun")])
    table = table[(table["counted"] == "built") & table["subject"].notna()]
    small = table.drop_duplicates("name")
    small = small[~small["subject"].str.contains("wide_resnet50_2|resnet50|ad-m")]
    assert len(small) == 3
    for one in small.to_dict("records"):
        model = networks.SUBJECTS[one["subject"]].build(64).eval()
        with torch.no_grad():
            used = used_parameters(model, lambda model=model: model(torch.rand(1, 3, 64, 64)))
        assert used / 1e6 == pytest.approx(one["cost"], abs=0.06)


@pytest.mark.parametrize("tag", ["stfpm-resnet18", "rd-resnet18", "patchcore-resnet18"])
def test_detectors_return_a_map(tag: str) -> None:
    with torch.no_grad():
        found = networks.SUBJECTS[tag].build(64).eval()(torch.rand(2, 3, 64, 64))
    assert found.shape[:2] == (2, 1)
    assert found.isfinite().all()


def test_simplenet_s_head_by_hand() -> None:
    model = networks.FeatureDiscriminator("resnet18")
    depth = 128 + 256
    head = depth * depth + depth + depth * 1024 + 1024 + 2 * 1024 + 1024
    assert parameters(model.head) == head
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 8, 8)


def test_a_bank_grows_with_the_image() -> None:
    rows = [networks.memory_bank("resnet18", side).detector.bank.shape[0] for side in (64, 128)]
    assert rows == [0.1 * 200 * 8**2, 0.1 * 200 * 16**2]


@pytest.mark.parametrize(("kind", "stage", "channels"), [("fused", 1, 48), ("mbconv", 3, 128)])
def test_a_block_is_that_of_timm_s_network(kind: str, stage: int, channels: int) -> None:
    with torch.device("meta"):
        theirs = timm.create_model("tf_efficientnetv2_s").blocks[stage][1]
        ours = blocks.block(kind, channels)
    shapes = [{n: p.shape for n, p in b.named_parameters()} for b in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_fused_blocks_have_more_of_everything() -> None:
    """By hand at width c: fused 9·4c² + 4c², MBConv 4c² + 9·4c + 4c² and its gate, and norms."""
    cost = blocks.compare_blocks(blocks.Place(8, 6, True), turns=6, batch=1)
    convolutions = {"mbconv": 2 * 4 * 64 + 9 * 32, "fused": 9 * 4 * 64 + 4 * 64}
    gate = 32 * 2 + 2 + 2 * 32 + 32
    norms = {"mbconv": 2 * (32 + 32 + 8), "fused": 2 * (32 + 8)}
    expected = (convolutions["mbconv"] + gate + norms["mbconv"]) / (
        convolutions["fused"] + norms["fused"]
    )
    assert cost.parameters.value == pytest.approx(expected)
    cells = 36
    flops = (convolutions["mbconv"] * cells + 2 * 32 * 2) / (convolutions["fused"] * cells)
    assert cost.operations.value == pytest.approx(flops)
    assert 0 < cost.step.low <= cost.step.value <= cost.step.high


def test_efficientnetv2_s_figures() -> None:
    assert blocks.built_parameters("tf_efficientnetv2_s") == 21_458_488
    assert blocks.table_accuracy("tf_efficientnetv2_s") == 83.9
    name, ratio = blocks.training_ratio(blocks.VERSIONS[0])
    models = tables.timm_models().set_index(["name", "image_size"])
    slow = models.loc[name]["train_ms"].dropna().iloc[0]
    assert ratio == pytest.approx(slow / models.loc["tf_efficientnetv2_s.in1k", 300]["train_ms"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No blocks are timed, and every measurement is noted."""
    seen: list[str] = []
    whole = measure.network_rows

    def noted(tag: str, side: int, turns: int) -> list[dict[str, object]]:
        seen.append(f"{tag}-{side}")
        return whole(tag, side, turns)

    monkeypatch.setattr(measure, "network_rows", noted)
    monkeypatch.setattr(measure, "PLACES", ())
    return seen


def test_a_stopped_measurement_resumes(quick: list[str], tmp_path: Path) -> None:
    about = {"tags": ("mobilenetv2_100",), "turns": 1}
    measure.measure_all(tmp_path, sides=(32,), **about)
    finished: list[str] = []
    contents = measure.measure_all(
        tmp_path, sides=(32, 64), done=lambda name, _: finished.append(name), **about
    )
    assert quick == ["mobilenetv2_100-32", "mobilenetv2_100-64"]
    assert finished == ["mobilenetv2_100-64"]
    rows = check_rows([row for content in contents.values() for row in content["rows"]])
    figures = {(row["metric"], row["condition"]["image_size"]): row["value"] for row in rows}
    assert figures["million_parameters", 32] == pytest.approx(3.504872)
    assert figures["megabytes", 64] > figures["megabytes", 32] > 4 * 3.5
    assert contents["mobilenetv2_100-32"] == read_json(tmp_path / "mobilenetv2_100-32.json")


def test_other_settings_are_refused_before_anything_runs(quick: list[str], tmp_path: Path) -> None:
    measure.measure_all(tmp_path, tags=("mobilenetv2_100",), sides=(32,), turns=1)
    with pytest.raises(ValueError, match="blocks.json.*'turns': 2.*another folder"):
        measure.measure_all(tmp_path, tags=("mobilenetv2_100",), sides=(64, 32), turns=2)
    assert quick == ["mobilenetv2_100-32"]


def test_an_unknown_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected networks among .*, got resnet"):
        measure.measure_all(tmp_path, tags=("resnet",))


def test_block_rows_are_valid() -> None:
    exact = Value(0.25)
    cost = blocks.BlockCost(blocks.PLACES[0], Value(1.5, 1.25, 2.0, 15), exact, exact)
    rows = check_rows(measure.block_rows([cost]))
    assert [row["metric"] for row in rows] == ["step_ratio", "parameters_ratio", "operations_ratio"]
    assert (rows[0]["ci_low"], rows[0]["n"], rows[1]["ci_low"]) == (1.25, 15, None)
