"""Memory and resumption of `python -m gainmtl predict` on a folder of many images.

python tests/robustness/many_images.py --counts 1000 20000

Writes as many small images, exports a small network, and judges the folder in a process of its own:
its peak memory, its time, and, for the largest number, whether a run that was killed half-way and
started again writes the same file. Ends with 1 if it does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

import gainmtl


def write_images(folder: Path, count: int) -> None:
    """48 x 48 grey pictures of noise, a thousand per sub-folder."""
    noise = np.random.default_rng(0)
    for k in range(count):
        path = folder / f"{k // 1000:03}" / f"{k:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.fromarray(noise.integers(0, 255, (48, 48), np.uint8)).save(path)


def judge(model: Path, images: Path, output: Path, stop_at: int = 0) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a run, which is killed after `stop_at` rows if not 0."""
    command = [sys.executable, "-m", "gainmtl", "predict", str(model), str(images)]
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(
        [*command, "-o", str(output), "--threads", "1"], stderr=subprocess.DEVNULL
    )
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss / 2**20)
        except psutil.Error:
            break
        partial = next(iter(output.parent.glob(f".{output.name}.*.part")), None)
        if stop_at and partial is not None and partial.read_text("utf-8").count("\n") > stop_at:
            process.kill()
        time.sleep(0.05)
    return time.monotonic() - started, peak


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--output", type=Path, default=Path("runs/many-images"))
    options = parser.parse_args()
    output, model = options.output, options.output / "model.onnx"
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = gainmtl.GAINMTL("test_efficientnet", "S1", width=16).eval()
    network.image_size, network.threshold = 32, 0.5
    gainmtl.export(network, model)
    for count in sorted(options.counts):
        images = output / f"images-{count}"
        write_images(images, count)
        seconds, peak = judge(model, images, output / f"{count}.csv")
        print(f"{count} images: {seconds:.0f} s, peak {peak:.0f} MiB", flush=True)
    whole, again = output / f"{count}.csv", output / "again.csv"
    judge(model, images, again, stop_at=count // 2)
    if again.exists():
        print("the run ended before it could be killed")
        return 1
    seconds, _ = judge(model, images, again)
    same = again.read_bytes() == whole.read_bytes()
    print(f"killed after {count // 2} rows, the rest in {seconds:.0f} s, same file: {same}")
    for name in os.listdir(output):
        if name.startswith("images-"):
            shutil.rmtree(output / name)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
