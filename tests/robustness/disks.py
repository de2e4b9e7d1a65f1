"""Full disks, read-only folders and missing permissions: the last whole state remains.

python tests/robustness/disks.py --failures 20

Each failure begins before a random epoch of a short training:

- full: no file may grow beyond a size (`RLIMIT_FSIZE`), so that a write fails in its middle, as on
  a full disk;
- read-only: the folder becomes immutable (`chattr +i`);
- permission: the process loses its rights (the user `nobody`).

After a failure the folder must hold the last checkpoint whole, and the same run without the failure
must end, bit for bit, like an undisturbed one. The last two need root, and are skipped without it.
Prints a line per kind, and ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

EPOCHS = 4
NOBODY = 65534


def train(folder: Path, failure: str, at: int) -> None:
    """The training, in this process; before epoch `at` the failure begins."""
    import torch

    import gainmtl
    from gainmtl.training.run import TrainingRun

    def begin() -> None:
        if failure == "full":
            smallest = 1000 if at % 2 else 400_000
            resource.setrlimit(resource.RLIMIT_FSIZE, (smallest, resource.RLIM_INFINITY))
        if failure == "read-only":
            subprocess.run(["chattr", "+i", str(folder)], check=True)
        if failure == "permission":
            os.seteuid(NOBODY)

    one = TrainingRun.train_epoch

    def train_epoch(self: TrainingRun) -> Any:
        if failure and self.epoch == at:
            begin()
        return one(self)

    TrainingRun.train_epoch = train_epoch  # type: ignore[method-assign]
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_efficientnet", "S5")
    data = gainmtl.datasets.load("synthetic", image_size=32, train=24, val=16, test=4)
    gainmtl.fit(
        model, data, EPOCHS, output_dir=folder, batch_size=8, accelerator="cpu", progress=False,
        seed=1,
    )  # fmt: skip


def started(folder: Path, failure: str = "", at: int = 0) -> tuple[int, str]:
    """Status and last line of stderr of the training in a process of its own."""
    command = [sys.executable, __file__, "--train", str(folder), "--failure", failure]
    done = subprocess.run(
        [*command, "--at", str(at)], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def weights(folder: Path) -> dict[str, bytes]:
    """The tensors of the trained model."""
    from safetensors.numpy import load_file

    return {k: v.tobytes() for k, v in sorted(load_file(folder / "model.safetensors").items())}


def epochs_of(folder: Path) -> int:
    """How many epochs the checkpoint holds; raises if it is not whole."""
    from gainmtl.training.checkpoint import CHECKPOINT, read_checkpoint

    path = folder / CHECKPOINT
    return len(read_checkpoint(path).meta["history"]) if path.is_file() else 0


def trial(failure: str, count: int, output: Path, chance: random.Random) -> bool:
    """A kind of failure, several times; whether nothing was lost."""
    whole_folder = output / "whole"
    if not (whole_folder / "model.safetensors").is_file():
        status, words = started(whole_folder)
        assert status == 0, words
    whole, failed, lost, different, sentences = weights(whole_folder), 0, 0, 0, set()
    for k in range(count):
        at, folder = chance.randint(1, EPOCHS - 1), output / failure / str(k)
        status, words = started(folder, failure, at)
        if failure == "read-only":
            subprocess.run(["chattr", "-i", str(folder)], check=True)
        failed += status != 0
        sentences.add(words.replace(str(folder), "<run>"))
        lost += at - epochs_of(folder)
        status, words = started(folder)
        different += status != 0 or weights(folder) != whole
    print(
        f"{failure}: {failed} of {count} runs stopped, {lost} epochs lost, {different} results "
        "differ from the undisturbed run",
        *sorted(sentences),
        sep="\n    ",
        flush=True,
    )
    return failed == count and not lost and not different


def main() -> int:
    """All kinds, or one training in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--failures", type=int, default=20, help="of each kind")
    parser.add_argument("--output", type=Path, default=Path("runs/disks"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--failure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--at", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.failure, options.at)
        return 0
    shutil.rmtree(options.output, ignore_errors=True)
    chance, whole = random.Random(options.seed), True
    for failure in ("full", "read-only", "permission"):
        if failure != "full" and os.geteuid() != 0:
            print(f"{failure}: skipped, it needs root")
            continue
        whole &= trial(failure, options.failures, options.output, chance)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
