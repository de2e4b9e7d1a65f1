"""Train the small backbone that the live parts of the notebooks start from.

python tools/make_checkpoint.py

About four minutes on one core. Writes `book/weights/test_efficientnet_synthetic.safetensors`, the
backbone in half precision (under 250 kB), and the `.json` of the same stem that `weights=<path>`
reads. It is trained on synthetic parts alone, from a seed that no notebook uses, and without the
printed marks of chapter 3, whose effect that chapter measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from gainbook.lab.results_file import git_commit
from safetensors.torch import save_file

from gainmtl import GAINMTL, datasets, evaluate, fit
from gainmtl.files import atomic_path, write_json

BACKBONE = "test_efficientnet"
SEED = 7_000_000
PATH = Path(__file__).resolve().parents[1] / "book/weights" / f"{BACKBONE}_synthetic.safetensors"


def main() -> None:
    """Train, evaluate, write weights and description."""
    parser = argparse.ArgumentParser(description="Train the notebooks' small backbone.")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--path", type=Path, default=PATH)
    args = parser.parse_args()
    data = datasets.load("synthetic", image_size=96, seed=SEED, train=args.images, test=400)
    torch.manual_seed(0)
    # S2 on the fine grid: supervision of every cell trains a random backbone with fewer images
    # than one label per image.
    model = GAINMTL(BACKBONE, "S2")
    recipe = {"epochs": args.epochs, "learning_rate": 3e-3, "backbone_rate": 1.0}
    fit(model, data, accelerator="cpu", augmentation="standard", **recipe)
    table = evaluate(model, data.test, resamples=0)
    whole = table[[not condition for condition in table["condition"]]]
    figures = {}
    for row in whole.itertuples():
        name = f"{row.metric} of {row.map}" if isinstance(row.map, str) else row.metric
        figures[name] = round(float(row.value), 4)
    state = model.backbone.timm.state_dict()
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in state.items()
    }
    with atomic_path(args.path) as temporary:
        save_file(tensors, temporary)
    write_json(
        args.path.with_suffix(".json"),
        {
            "create_kwargs": model.backbone.create_kwargs,
            "mean": model.backbone.mean,
            "std": model.backbone.std,
            "trained_on": {"dataset": "synthetic", "seed": SEED, "fingerprint": data.fingerprint},
            "recipe": recipe | {"strategy": "S2", "image_size": 96, "images": args.images},
            "git_commit": git_commit(),
            "command": "python tools/make_checkpoint.py",
            "test": figures,
        },
    )
    print(f"{args.path.name}: {args.path.stat().st_size / 1000:.0f} kB; {figures}")


if __name__ == "__main__":
    main()
