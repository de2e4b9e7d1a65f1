"""The networks that run in the page: their files, figures and parts."""

from __future__ import annotations

import numpy as np
import pytest
from gainbook.chapters.ch16_explorer import networks
from gainbook.chapters.ch16_explorer.networks import Count

from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.runner import OnnxModel


def test_parts_to_paint_on() -> None:
    parts = networks.blank_parts(20)
    kinds = [part.name.split()[0] for part in parts]
    assert kinds == ["normal"] * 10 + [kind for kind in DEFECTS for _ in range(2)]
    for part in parts:
        if part.clean is None:
            assert part.name.startswith("normal")
        else:
            changed = (part.image != part.clean).any(0).mean()
            assert 0 < changed < 0.3


def test_every_file_has_its_description() -> None:
    for network in networks.NETWORKS:
        description = OnnxModel(network.file).description
        assert description["strategy"] == network.system.strategy
        assert description["image_size"] == networks.SIZE
        found = networks.described(network)
        assert isinstance(found["trapped"], Count)
    assert networks.answer().count("normal parts defective") == len(networks.NETWORKS)


def test_a_count_has_the_interval_of_its_share() -> None:
    # Wilson, by hand for 5 of 10: (0.5 + z²/20 ± z sqrt(0.025 + z²/400)) / (1 + z²/10), z = 1.96.
    assert str(Count(5, 10)) == "5 of 10 [0.24, 0.76]"
    assert str(Count(194, 194)) == "194 of 194 [0.98, 1.00]"


def test_the_first_sentences_hold() -> None:
    s1, s5 = (n for n in networks.NETWORKS if n.mark == "always")
    trapped = networks.described(s1)["trapped"]
    assert trapped.found == trapped.all
    less = networks.described(s5)["trapped"]
    assert less.found / less.all < 1 / 3
    for a, b in zip(networks.NETWORKS[::2], networks.NETWORKS[1::2], strict=True):
        places = [networks.described(one)["on_defect"] for one in (a, b)]
        assert places[0].found / places[0].all < places[1].found / places[1].all


@pytest.mark.slow
@pytest.mark.parametrize("network", networks.NETWORKS, ids=lambda network: network.name)
def test_the_stored_figures_are_those_of_the_files(network: networks.Network) -> None:
    parts = networks.held_out(networks.MARKS[network.mark], 400)
    found, stored = networks.measure(network, parts), networks.described(network)
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        assert np.allclose(found[name], value, atol=1e-4 if name.startswith("auroc") else 1)
