"""Images per second of the synthetic generator: `python tests/benchmarks/bench_synthetic.py`.

One core, CPU time (other work on the machine does not count), no cache; half of the parts are
defective, all defect types in turn.
Options: image size (default 128), images per texture (default 300).
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.datasets.synthetic.rendering import Scene, render
from gainmtl.datasets.synthetic.textures import TEXTURES


def rate(texture: str, defects: list[str | None], size: int, count: int) -> float:
    """Images per second of one texture; the first renders only fill the spline tables."""
    scenes = [
        Scene(0, 0, part, 0, size, texture, defects[part % len(defects)], 1.0, 1.0, part % 2 == 0)
        for part in range(count)
    ]
    for scene in scenes[:20]:
        render(scene)
    start = time.process_time()
    for scene in scenes:
        render(scene)
    return count / (time.process_time() - start)


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    mixed: list[str | None] = [None if i % 2 == 0 else d for d in DEFECTS for i in range(2)]
    rates = {texture: rate(texture, mixed, size, count) for texture in TEXTURES}
    for texture, value in rates.items():
        print(f"{texture:16s} {value:7.0f} images/s")
    for defect in (None, *DEFECTS):
        value = rate("ceramic", [defect], size, count)
        print(f"{'ceramic, ' + (defect or 'normal'):18s} {value:5.0f} images/s")
    overall = len(rates) / sum(1 / value for value in rates.values())
    print(f"{'overall':16s} {overall:7.0f} images/s at {size} px")


if __name__ == "__main__":
    main()
