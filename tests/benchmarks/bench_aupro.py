"""Our AUPRO against anomalib's: `python tests/benchmarks/bench_aupro.py`.

The same maps and masks, drawn here, in one process and in turns; the figure is the median over the
turns of the ratio within a turn, theirs over ours. Values must agree to 1e-4. Needs anomalib, which
is no dependency of this project: `pip install anomalib`. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics

import torch
from gainbook.lab.cost import median_ratio, side_by_side
from torch import Tensor

from gainmtl import metrics

TARGET = 20.0


def draw(images: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps (N, 1, H, W) and masks: a third of the images holds up to four discs, found in part."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = torch.zeros(images, 1, size, size)
    for index in range(0, images, 3):
        for _ in range(int(torch.randint(1, 5, (), generator=generator))):
            y, x = torch.randint(0, size, (2,), generator=generator).tolist()
            radius = int(torch.randint(2, size // 8, (), generator=generator))
            masks[index, 0][(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = 1
    return torch.rand(images, 1, size, size, generator=generator) + 0.4 * masks, masks


def main() -> None:
    """Compare value and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=90)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from anomalib.metrics.aupro import _AUPRO  # type: ignore[import-not-found]

    torch.set_num_threads(args.threads)
    maps, masks = draw(args.images, args.image_size)

    def theirs() -> float:
        measure = _AUPRO(fpr_limit=0.3)
        measure.update(maps[:, 0], masks[:, 0].int())
        return float(measure.compute())

    apart = abs(theirs() - metrics.aupro(maps, masks))
    took = side_by_side({"ours": lambda: metrics.aupro(maps, masks), "theirs": theirs},
                        args.repeats)  # fmt: skip
    ratio = median_ratio(took["theirs"], took["ours"])
    seconds = {name: statistics.median(values) for name, values in took.items()}
    met = "met" if ratio >= TARGET and apart <= 1e-4 else "MISSED"
    print(
        f"{args.images} maps of {args.image_size} px, load {os.getloadavg()[0]:.1f}: "
        f"ours {seconds['ours']:.2f} s, theirs {seconds['theirs']:.2f} s; theirs / ours "
        f"{ratio:.1f} (target {TARGET}), values apart by {apart:.1e}: {met}"
    )


if __name__ == "__main__":
    main()
