"""The profile `full` at its size on a CPU: one step, a checkpoint, a resume; random weights.

Its batch of 16 is cut to 4, so that the test needs 6 GiB of memory, half a minute of
one core, and no GPU.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from gainbook.chapters import find_system
from gainbook.lab import run_system

from gainmtl import datasets
from gainmtl.io import load
from gainmtl.model import GAINMTL
from gainmtl.training.checkpoint import CHECKPOINT
from gainmtl.training.fitting import fit
from gainmtl.training.run import MODEL, TrainingRun

ROOT = Path(__file__).resolve().parents[3]
PROFILE = yaml.safe_load((ROOT / "notebooks" / "profiles" / "full.yaml").read_text("utf-8"))
BATCH = 4
GIB = 1 << 30


def peak_memory() -> float:
    """The most memory this process has held, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def train(data: datasets.Data, folder: Path) -> tuple[GAINMTL, pd.DataFrame]:
    torch.manual_seed(0)
    model = run_system.build(find_system("S5-stride4"), PROFILE["backbone"], None)
    assert isinstance(model, GAINMTL)
    # Every term at once: two steps are no stages.
    model.strategy = find_system("S5-unstaged-stride4").strategy  # type: ignore[assignment]
    history = fit(
        model, data, 2, folder, accelerator="cpu", batch_size=BATCH, progress=False,
        learning_rate=PROFILE["learning_rate"],
    )  # fmt: skip
    return model, history


@pytest.mark.slow
def test_one_step_one_checkpoint_one_resume_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = datasets.load("synthetic", image_size=PROFILE["image_size"], train=BATCH, val=4, test=2)
    epoch = TrainingRun.train_epoch

    def stop(self: TrainingRun) -> dict[str, float]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()
    assert not (tmp_path / MODEL).is_file()

    model, history = train(data, tmp_path)
    assert history["epoch"].tolist() == [0, 1]
    terms = [name for name in history if f"weight_{name}" in history]
    assert len(terms) == 8
    assert history[terms].notna().all(axis=None)
    assert all(value.isfinite().all() for value in model.state_dict().values())

    image = model.preprocess(data.test[0].image[None])
    with torch.no_grad():
        out, again = model.eval()(image), load(tmp_path / MODEL)(image)
    side = PROFILE["image_size"]
    assert tuple(out.cam.shape) == (1, 1, side // 4, side // 4)
    assert tuple(out.defect_map.shape) == (1, 1, side, side)
    torch.testing.assert_close(out.logits, again.logits)
    with capsys.disabled():
        size = (tmp_path / CHECKPOINT).stat().st_size / GIB
        print(f"\nfull profile, batch {BATCH}: {peak_memory():.1f} GiB, checkpoint {size:.2f} GiB")
