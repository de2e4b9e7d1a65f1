"""Kill small runs at random moments; only the epoch in flight may be lost.

python tests/robustness/kills.py --kills 100

Each job runs once undisturbed, then in a new folder until as many kills have hit it as its share of
`--kills`. A kill is SIGKILL, half of them at a random moment of the process's life, which begins
with the imports, half within a random call that writes a file: before its data reach the disk, or
before the file is renamed into place. A killed job starts again in the same folder; a finished one
in another new folder. Afterwards:

- no epoch whose checkpoint was written is trained again;
- what is left at the end equals, bit for bit, what the undisturbed run left.

Temporary files that are left are counted; the next run that claims a folder removes them.

The jobs: training with evaluation, a detector's fit, rounds of active learning, and the verdicts of
a folder of images by an exported model. Prints a line per job, and ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOG = "log.txt"
SETTINGS: dict[str, Any] = {
    "epochs": 4, "batch_size": 8, "accelerator": "cpu", "progress": False, "seed": 1,
}  # fmt: skip


def log(folder: Path, words: str) -> None:
    """Append a line, on the disk at once."""
    with (folder / LOG).open("a") as file:
        file.write(words + "\n")
        file.flush()
        os.fsync(file.fileno())


def watch_epochs(folder: Path) -> None:
    """Log with which epoch a run starts, and each one whose checkpoint was written."""
    from gainmtl.training.run import TrainingRun

    resume, checkpoint = TrainingRun.resume, TrainingRun._checkpoint

    def logged_resume(self: TrainingRun) -> None:
        resume(self)
        log(folder, f"start {self.epoch}")

    def logged_checkpoint(self: TrainingRun) -> None:
        checkpoint(self)
        log(folder, f"written {self.epoch}")

    TrainingRun.resume = logged_resume  # type: ignore[method-assign]
    TrainingRun._checkpoint = logged_checkpoint  # type: ignore[method-assign]


def data() -> Any:
    import gainmtl

    return gainmtl.datasets.load("synthetic", image_size=32, train=40, val=16, test=16)


def training(folder: Path) -> str:
    """Training and its evaluation: a digest of weights, threshold and measures."""
    import torch

    import gainmtl

    watch_epochs(folder)
    torch.manual_seed(0)
    model, parts = gainmtl.GAINMTL("test_efficientnet", "S5"), data()
    gainmtl.fit(model, parts, output_dir=folder / "run", **SETTINGS)
    measures = gainmtl.evaluate(model, parts.test)
    return digest(folder / "run/model.safetensors", f"{model.threshold} {measures.to_csv()}")


def detector(folder: Path) -> str:
    """The fit of a detector."""
    import torch

    import gainmtl

    watch_epochs(folder)
    torch.manual_seed(0)
    model = gainmtl.ReverseDistillation("test_efficientnet")
    gainmtl.fit_detector(model, data(), output_dir=folder / "run", **SETTINGS)
    return digest(folder / "run/model.safetensors", str(model.threshold))


def active(folder: Path) -> str:
    """Rounds of active learning on frozen features."""
    import torch
    from gainbook.chapters.ch14_active import loop, tasks

    from gainmtl.backbone import Backbone

    torch.manual_seed(0)
    split, setting = tasks.synthetic(32, 2), tasks.Setting(1, 4, 6, 32)
    parts = tasks.encode_split(split, Backbone("test_efficientnet"), folder / "features")
    problem = loop.Problem(split.classes, parts, setting)
    loop.run(problem, loop.Plan("badge"), 0, folder / "run/rounds.json")
    return digest(folder / "run/rounds.json")


def predict(folder: Path) -> str:
    """The verdicts of a folder of images."""
    from gainmtl.runner import OnnxModel, predict_folder

    shared = folder.parents[1] / "predict-input"
    predict_folder(
        OnnxModel(shared / "model.onnx"), shared / "images", folder / "run/verdicts.csv",
        maps=folder / "run/maps",
    )  # fmt: skip
    maps = hashlib.sha256()
    for path in sorted((folder / "run/maps").rglob("*.png")):
        maps.update(path.read_bytes())
    return digest(folder / "run/verdicts.csv", maps.hexdigest())


JOBS: dict[str, Callable[[Path], str]] = {
    "training": training, "detector": detector, "active": active, "predict": predict,
}  # fmt: skip


def prepare_predict(folder: Path) -> None:
    """A model file and 300 images."""
    import numpy as np
    import torch
    from PIL import Image

    import gainmtl

    (folder / "images").mkdir(parents=True)
    for k in range(300):
        pixels = np.random.default_rng(k).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{k:03}.png")
    torch.manual_seed(0)
    model = gainmtl.GAINMTL("test_efficientnet", "S5").eval()
    model.image_size, model.threshold = 32, 0.5
    gainmtl.export(model, folder / "model.onnx")


def digest(path: Path, words: str = "") -> str:
    """Of the tensors of a model file, or of the bytes of another file, and of words.

    A model file also contains times.
    """
    found = hashlib.sha256(words.encode())
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        for name, value in sorted(load_file(path).items()):
            found.update(name.encode() + value.tobytes())
    else:
        found.update(path.read_bytes())
    return found.hexdigest()


def die_while_writing(call: int) -> None:
    """Kill this process at its n-th call of `os.fsync` or `os.replace`, before it is done."""
    counter = itertools.count(1)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if next(counter) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def start(job: str, folder: Path, call: int = 0) -> subprocess.Popen[str]:
    """The job in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--output", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--call", str(call)], stdout=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> str | None:
    """The digest that a process printed; `None` if it was killed."""
    words, _ = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return None
    if process.returncode:
        raise SystemExit(f"a job ended with {process.returncode}; see its error above")
    return words.split()[-1]


def lost_epochs(folder: Path) -> int:
    """How many epochs with a checkpoint were trained again, from the job's log."""
    lost, written = 0, 0
    text = (folder / LOG).read_text().splitlines() if (folder / LOG).is_file() else []
    for word, number in (line.split() for line in text):
        if word == "start":
            lost += max(0, written - int(number))
        else:
            written = int(number)
    return lost


def trial(job: str, kills: int, output: Path, chance: random.Random) -> bool:
    """Kill a job `kills` times; whether nothing was lost. Prints a line."""
    shutil.rmtree(output / job, ignore_errors=True)
    folders = (output / job / f"{k}" for k in itertools.count())
    begin = time.monotonic()
    whole = finish(start(job, next(folders)))
    seconds = time.monotonic() - begin
    hits, finished, different, lost, left = 0, 0, 0, 0, 0
    folder = next(folders)
    while True:
        call = chance.randint(1, 14) if hits < kills and chance.random() < 0.5 else 0
        process = start(job, folder, call)
        if hits < kills and not call:
            time.sleep(chance.uniform(0, seconds))
            process.kill()
        found = finish(process)
        if found is None:
            hits += 1
            continue
        finished += 1
        different += found != whole
        lost += lost_epochs(folder)
        left += len(list(folder.rglob("*.tmp"))) + len(list(folder.rglob(".tmp??????")))
        if hits >= kills:
            break
        folder = next(folders)
    print(
        f"{job}: {hits} kills, {finished} runs finished, {lost} epochs lost, {different} results "
        f"differ from the undisturbed run, {left} temporary files left",
        flush=True,
    )
    return not (lost or different)


def main() -> int:
    """All jobs, or one of them in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--output", type=Path, default=Path("runs/kills"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--call", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        options.output.mkdir(parents=True, exist_ok=True)
        if options.call:
            die_while_writing(options.call)
        print(JOBS[options.job](options.output))
        return 0
    chance, whole = random.Random(options.seed), True
    for place, job in enumerate(options.jobs):
        if job == "predict":
            shared = options.output / "predict-input"
            shutil.rmtree(shared, ignore_errors=True)
            prepare_predict(shared)
        share = options.kills * (place + 1) // len(options.jobs)
        share -= options.kills * place // len(options.jobs)
        whole &= trial(job, share, options.output, chance)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
