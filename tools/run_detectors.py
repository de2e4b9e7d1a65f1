"""Run anomaly detectors on the folds of a data set; finished folds are read.

python tools/run_detectors.py --data-root <folder of magnetic-tile> --weights <weights file>

One folder per system, seed and fold under `--output`, resumable after every epoch. Chapter 13 reads
them with the same `output_dir`. Prints one line of figures per system and seed.
"""

from __future__ import annotations

import argparse

import torch
from gainbook.chapters.ch13_distillation.systems import BANK, RD, SYSTEMS, on, run_detector
from gainbook.lab.parameters import Parameters

from gainmtl.anomaly.fitting import KEEP_FEATURES
from gainmtl.evaluation.tidy import tidy_rows

SHOWN = ("auroc", "average_precision", "recall_at_fpr05", "pixel_auroc", "pixel_ap", "aupro")


def main() -> None:
    """Run the systems of the command line."""
    known = {system.tag: system for system in SYSTEMS}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", default="magnetic-tile")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--category", help="of mvtec and visa")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", default="imagenet", help="or package, or a file")
    parser.add_argument("--output", default="runs/anomaly")
    parser.add_argument("--systems", nargs="+", choices=known, default=[RD.tag, BANK.tag])
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of recipe modern")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="+", type=int, help="folds to run of those")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--keep-features", type=float, default=KEEP_FEATURES, help="GiB, at most")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    parameters = Parameters(**{**vars(args), "output_dir": args.output})
    for tag in args.systems:
        system = on(known[tag], args.backbone, args.weights)
        runs = run_detector(parameters, system, args.only, progress=False)
        for seed, pooled in zip(args.seeds, runs, strict=True):
            rows = tidy_rows(pooled.scores, args.dataset, "test", pooled.system, resamples=0)
            whole = rows[[not condition for condition in rows["condition"]]]
            shown = [
                f"{row.metric} {row.value:.3f}" for row in whole.itertuples() if row.metric in SHOWN
            ]
            print(tag, f"seed {seed}", f"{pooled.seconds:.0f} s", *shown, flush=True)


if __name__ == "__main__":
    main()
