"""Samples stacked to a batch."""

from __future__ import annotations

import torch

from gainmtl.types import Sample, collate


def test_a_batch_has_twins_if_every_sample_has_one() -> None:
    grey = torch.full((3, 4, 4), 0.5)
    plain = Sample(grey, False, torch.zeros(1, 4, 4), True, "normal", "g", "a")
    paired = plain._replace(twin=grey / 2, name="b")
    assert plain.twin is None
    batch = collate([paired, paired._replace(twin=grey)])
    assert batch.twin is not None
    assert batch.twin.shape == batch.image.shape == (2, 3, 4, 4)
    assert torch.equal(batch.twin[0], grey / 2)
    assert torch.equal(batch.twin[1], grey)
    for samples in ([plain, plain], [plain, paired], [paired, plain]):
        mixed = collate(samples)
        assert mixed.twin is None
        assert mixed.name == tuple(sample.name for sample in samples)
