"""Cut the real pictures that the book shows, with the maps of the reference systems.

python tools/cut_crops.py --data-root <folder of magnetic-tile> --runs runs/reference

Writes at most 12 crops of at most 96 pixels a side to `book/_static/crops/`: PNGs, `maps.npz`, and
`crops.json` with the source pictures, the rule that chose each, and the citation. The pictures are
test pictures of their fold, chosen by rule: of each defect type the median by the share of S1's
positive evidence (stride 4) on the defect, among those that all systems classify as defective; of
the normal ones the median by S5's defect probability, and the one with the largest false
activation of S5's defect map.

Magnetic tile data: Y. Huang, C. Qiu, K. Yuan, "Surface defect saliency of magnetic tile", The
Visual Computer 36 (2020), 85-96.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from gainbook.lab.catalogue import S1_COARSE, S1_FINE, S5
from gainbook.lab.systems import System
from gainbook.render.crops import FOLDER, MAX_SIDE, Crop, write_crops
from torch import Tensor

from gainmtl import datasets, load
from gainmtl.cam import resize_map
from gainmtl.model import GAINMTL
from gainmtl.training.run import MODEL
from gainmtl.types import NORMAL, Sample

CITATION = (
    "Y. Huang, C. Qiu, K. Yuan: Surface defect saliency of magnetic tile. The Visual Computer 36, "
    "85-96 (2020)."
)
SYSTEMS = (S1_COARSE, S1_FINE, S5)
ROOT = Path(__file__).resolve().parents[1]


def read_scores(runs: Path, system: System, seed: int, folds: int) -> pd.DataFrame:
    """The scores of all test folds, with a column `fold`."""
    parts = []
    for fold in range(folds):
        path = runs / system.tag / f"seed{seed}" / f"fold{fold}" / "scores.csv"
        if not path.is_file():
            raise SystemExit(f"{path} is missing: finish the reference run of {system.tag} first")
        parts.append(pd.read_csv(path, dtype={"name": str, "group": str}).assign(fold=fold))
    return pd.concat(parts, ignore_index=True)


def choose(tables: dict[str, pd.DataFrame]) -> list[tuple[str, int, str]]:
    """(name, fold, rule) of each picture to cut."""
    plain = tables[S1_FINE.tag].set_index("name").sort_index()
    staged = tables[S5.tag].set_index("name").sort_index()
    flagged = plain["has_mask"].astype(bool)
    for table in tables.values():
        flagged &= table.set_index("name").sort_index()["is_flagged"].astype(bool)
    chosen = []
    for kind in sorted(set(plain["defect_type"]) - {NORMAL}):
        ordered = plain[flagged & (plain["defect_type"] == kind)].sort_values("cam.positive_energy")
        if len(ordered):
            row = ordered.iloc[len(ordered) // 2]
            chosen.append((str(row.name), int(row["fold"]), "median S1 evidence on the defect"))
    normal = staged[~staged["is_defective"].astype(bool)]
    order = normal.sort_values("defect_probability")
    row = order.iloc[len(order) // 2]
    chosen.append((str(row.name), int(row["fold"]), "median S5 probability of a normal part"))
    row = normal.sort_values("defect_map.false_activation").iloc[-1]
    chosen.append((str(row.name), int(row["fold"]), "most S5 false activation of a normal part"))
    return chosen


@torch.no_grad()
def predict_maps(model: GAINMTL, image: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Defect probability of an image (3, H, W), and its maps (1, H, W) in [0, 1]."""
    out = model(model.preprocess(image[None]))
    size = (image.shape[1], image.shape[2])
    # Nearest: the figure shows the cells of the grid.
    cam = torch.sigmoid(model.calibrate(out.cam, out.logits))
    cells = torch.nn.functional.interpolate(cam, size=size, mode="nearest")
    maps = {"cam": cells[0], "defect_map": resize_map(out.defect_map, size)[0]}
    return float(out.defect_probability[0]), maps


def window(sample: Sample, other: Tensor, side: int) -> tuple[int, int]:
    """Top left corner of a square of `side` pixels that contains the defect.

    It also contains the peak of the map `other` (1, H, W) where both fit; for a normal part it is
    centred on that peak.
    """
    height, width = sample.mask.shape[1:]
    peak = divmod(int(other[0].argmax()), width)
    points = (sample.mask[0] > 0.5).nonzero()
    if len(points):
        low, high = points.amin(0).tolist(), points.amax(0).tolist()
        both = [(min(a, p), max(b, p)) for a, b, p in zip(low, high, peak, strict=True)]
        spans = [
            wide if wide[1] - wide[0] < side else (a, b)
            for wide, a, b in zip(both, low, high, strict=True)
        ]
    else:
        spans = [(p, p) for p in peak]
    corner = [(a + b) // 2 - side // 2 for a, b in spans]
    return min(max(corner[0], 0), height - side), min(max(corner[1], 0), width - side)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the real pictures that the book shows.")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"))
    parser.add_argument("--dataset", default="magnetic-tile")
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / FOLDER)
    args = parser.parse_args()
    tables = {s.tag: read_scores(args.runs, s, args.seed, args.folds) for s in SYSTEMS}
    crops = []
    for name, fold, rule in choose(tables):
        data = datasets.load(
            args.dataset, args.data_root, image_size=args.image_size, fold=fold,
            folds=args.folds, seed=args.seed, split="folds",
        )  # fmt: skip
        sample = data.test[list(data.test.names).index(name)]  # type: ignore[attr-defined]
        maps: dict[str, Tensor] = {}
        verdicts: dict[str, dict[str, float]] = {}
        for system in SYSTEMS:
            folder = args.runs / system.tag / f"seed{args.seed}" / f"fold{fold}"
            model = load(folder / MODEL)
            probability, predicted = predict_maps(model, sample.image)
            maps |= {f"{system.tag}.{key}": value for key, value in predicted.items()}
            verdicts[system.tag] = {"probability": probability, "threshold": model.threshold}
        side = min(MAX_SIDE, *sample.image.shape[1:])
        guide = S1_FINE if sample.is_defective else S5
        top, left = window(sample, maps[f"{guide.tag}.defect_map"], side)

        def cut(values: Tensor, top: int = top, left: int = left, side: int = side) -> Tensor:
            return values[:, top : top + side, left : left + side]

        crops.append(
            Crop(
                name=name,
                defect_type=sample.defect_type,
                image=cut(sample.image),
                mask=cut(sample.mask),
                maps={tag: cut(values) for tag, values in maps.items()},
                verdicts=verdicts,
                chosen=rule,
            )
        )
        print(f"{name}: {rule}")
    about = {
        "dataset": args.dataset,
        "citation": CITATION,
        "command": "python tools/cut_crops.py --data-root <folder> --runs runs/reference",
    }
    write_crops(crops, args.folder, about)


if __name__ == "__main__":
    main()
