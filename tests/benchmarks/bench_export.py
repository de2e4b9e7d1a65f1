"""An exported model against the model itself: `python tests/benchmarks/bench_export.py`.

Speed: images per second of torch, of the exported file and of its 8-bit form in onnxruntime, in
one process and in turns, so that a slow moment of the machine hits all; the figure is the median
over the repeats of the ratio within a repeat. torch normalises and predicts as `gainmtl.predict`;
reading of files is not included. Run it on an idle machine.

Quality, with `--model` and the data that it was trained on: AUROC and map measures of the test part
for all three, and on how many images the verdict differs.

    python tests/benchmarks/bench_export.py --model runs/first/model.safetensors \
        --dataset magnetic-tile --data-root ~/magnetic-tile
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gainmtl
from gainmtl import metrics
from gainmtl.deployment import quantize
from gainmtl.deployment.graph import Graph
from gainmtl.runner import OnnxModel

SYSTEMS = ("torch", "onnxruntime", "8 bits")
Predict = Callable[[Tensor], Any]


def systems(model: Any, data: Any, folder: Path, threads: int) -> dict[str, Predict]:
    """Functions from images (B, 3, S, S) uint8 to outputs."""
    path = gainmtl.export(model, folder / "model.onnx")
    small = quantize(path, data.train, folder / "small.onnx")
    print(f"size: {path.stat().st_size / 2**20:.1f} MiB, 8 bits {small.stat().st_size / 2**20:.1f}")
    graph = Graph(model).to(memory_format=torch.channels_last)

    def in_torch(images: Tensor) -> Any:
        with torch.inference_mode():
            return graph.outputs(images.contiguous(memory_format=torch.channels_last))

    found: dict[str, Predict] = {"torch": in_torch}
    for name, file in zip(SYSTEMS[1:], (path, small), strict=True):
        runner = OnnxModel(file, threads)
        found[name] = lambda images, runner=runner: runner(images.numpy())
    return found


def seconds(predict: Predict, images: Tensor, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        predict(images)
    return (time.perf_counter() - start) / times


def speed(found: dict[str, Predict], size: int, count: int, repeats: int, steps: int) -> None:
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    for predict in found.values():
        predict(images)
    took: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(repeats):
        for name, predict in found.items():
            took[name].append(seconds(predict, images, steps))
    print(f"{count} images of {size} px, median of {repeats}")
    for name, values in took.items():
        ratios = [a / b for a, b in zip(took["torch"], values, strict=True)]
        rate = count / statistics.median(values)
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:12s} {rate:8.1f} images/s  {statistics.median(ratios):5.2f} x  {spread}")


def quality(found: dict[str, Predict], test: Any) -> None:
    """Measures of the test part; `quantize` has not read these images."""
    samples = [test[i] for i in range(len(test))]
    images = torch.stack([sample.image for sample in samples]).mul(255).round().byte()
    masks = torch.stack([sample.mask for sample in samples])
    defective = np.array([sample.is_defective for sample in samples])
    marked = torch.tensor([sample.is_defective and sample.has_mask for sample in samples])
    first: Any = None
    print(f"quality on {len(samples)} images, {int(marked.sum())} defects with a mask")
    for name, predict in found.items():
        parts = [predict(batch) for batch in images.split(16)]
        probability, verdict, defect_map = (
            np.concatenate([np.asarray(getattr(part, field)) for part in parts])
            for field in ("probability", "verdict", "defect_map")
        )
        maps = torch.from_numpy(defect_map)
        first = (probability, verdict, defect_map) if first is None else first
        row = {
            "auroc": metrics.auroc(probability, defective),
            "accuracy": float((verdict == defective).mean()),
            "pixel_ap": metrics.pooled_pixel_ap(maps[marked], masks[marked]),
            "iou": float(metrics.map_iou(maps[marked], masks[marked]).mean()),
            "point_game": float(metrics.point_game(maps[marked], masks[marked]).mean()),
            "largest difference of probability": float(np.abs(probability - first[0]).max()),
            "of the map": float(np.abs(defect_map - first[2]).max()),
        }
        shown = ", ".join(f"{key} {value:.6g}" for key, value in row.items())
        print(f"  {name:12s} {shown}, other verdicts {int((verdict != first[1]).sum())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="as gainmtl.save wrote it; without it random weights")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--strategy", default="S5")
    parser.add_argument("--image-size", type=int, default=192, help="of random weights")
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data-root")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="per repeat")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.model:
        model = gainmtl.load(arguments.model)
    else:
        torch.manual_seed(0)
        model = gainmtl.GAINMTL(arguments.backbone, arguments.strategy).eval()
        model.image_size = arguments.image_size
    size = model.image_size
    data = gainmtl.datasets.load(
        arguments.dataset, arguments.data_root, image_size=size, fold=arguments.fold
    )
    with tempfile.TemporaryDirectory() as folder:
        found = systems(model, data, Path(folder), arguments.threads)
        for count in arguments.batch_size:
            speed(found, size, count, arguments.repeats, arguments.steps)
        if arguments.model:
            quality(found, data.test)


if __name__ == "__main__":
    main()
