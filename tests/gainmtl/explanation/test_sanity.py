"""The randomisation check: what it changes, in which order, and that it sees a map of nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gainmtl.explanation.gradient import grad_cam
from gainmtl.explanation.sanity import cascade, layers_top_down, shuffle_
from gainmtl.metrics.agreement import rank_correlation
from gainmtl.model import GAINMTL


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_order_is_from_the_output_to_the_input() -> None:
    assert layers_top_down(small()) == ["3", "1", "0"]
    names = layers_top_down(GAINMTL("test_efficientnet", "S1", output_stride=4))
    assert names[0] == "head"
    assert names[1].startswith("pyramid")
    assert names[-1].startswith("backbone")


def test_shuffling_keeps_the_values_and_pairs_of_a_batch_norm() -> None:
    norm = nn.BatchNorm2d(50)
    norm.weight.data, norm.running_var = torch.arange(50.0), torch.arange(50.0) + 0.5
    shuffle_(norm, torch.Generator().manual_seed(0))
    assert not torch.equal(norm.weight, torch.arange(50.0))
    assert torch.equal(norm.weight.sort().values, torch.arange(50.0))
    assert norm.running_var is not None
    assert torch.equal(norm.running_var, norm.weight + 0.5)


def test_stops_go_from_the_head_to_everything_and_spare_the_original() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = []
    for stop in cascade(model, stops=3):
        state = stop.model.state_dict()
        changed.append({n for n in before if not torch.equal(state[n], before[n])})
        shares = stop.share
    assert "3.weight" in changed[0] <= {"3.weight", "3.bias"}
    assert changed[0] < changed[2]
    assert "0.weight" in changed[2]
    assert shares == 1.0
    assert all(torch.equal(model.state_dict()[n], value) for n, value in before.items())


def test_a_map_of_the_image_survives_and_grad_cam_does_not() -> None:
    torch.manual_seed(1)
    model = small()
    images = torch.rand(4, 3, 20, 20)

    def explained(net: nn.Sequential) -> torch.Tensor:
        return grad_cam(net[:3](images), lambda a: net[3](a).mean((2, 3))).raw

    *_, last = cascade(model, stops=3)
    assert isinstance(last.model, nn.Sequential)
    learned = rank_correlation(explained(model), explained(last.model)).abs().mean()
    picture = images.mean(1, keepdim=True)
    assert rank_correlation(picture, picture).min() == 1
    assert float(learned) < 0.9


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="expected layers and stops, found 0 and 3"):
        next(cascade(nn.ReLU(), stops=3))
