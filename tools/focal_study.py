"""Train the grid of the focal study: five exponents, three rates of defects, five seeds.

python tools/focal_study.py --output-dir runs/focal --workers 2

Synthetic parts and the project's small backbone; nothing is read from elsewhere. 75 runs of about
20 seconds on one core each. One JSON file per run under `--output-dir`, written when the run is
done; what is there is not run again. The figures go to `--results`, which chapter 7 shows.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from gainmtl.files import read_json
from gainmtl.focal_study import (
    GAMMAS,
    NAME,
    RATES,
    SEEDS,
    SETTINGS,
    Run,
    execute,
    grid,
    measure,
    study_rows,
)
from gainmtl.runs import portable, provenance, write_results

RESULTS = Path(__file__).resolve().parents[1] / f"book/results/{NAME}.json"


def one(run: Run, output_dir: str) -> float:
    """Execute a run on one core; its AUROC."""
    torch.set_num_threads(1)
    return measure(execute(run, output_dir))["auroc"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", default="runs/focal")
    parser.add_argument("--workers", type=int, default=2, help="processes of one core each")
    parser.add_argument("--gammas", type=float, nargs="+", default=list(GAMMAS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    runs = grid(args.gammas, args.rates, args.seeds)
    # Spawned, not forked: threads of the libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context) as pool:
        waiting = {pool.submit(one, run, args.output_dir): run for run in runs}
        for count, done in enumerate(as_completed(waiting), 1):
            print(
                f"{count}/{len(runs)} {waiting[done].file}: AUROC {done.result():.3f}", flush=True
            )
    records = [read_json(Path(args.output_dir) / run.file) for run in runs]
    facts = provenance(
        SETTINGS,
        sum(record["seconds"] for record in records),
        command=f"python tools/focal_study.py --output-dir {portable(args.output_dir)}",
        trained_at_commits=sorted({record["commit"] for record in records}),
    )
    settings = {"gammas": args.gammas, "rates": args.rates, "seeds": args.seeds, **SETTINGS}
    path = write_results(
        args.results, notebook=NAME, parameters=settings, provenance=facts,
        rows=study_rows(records),
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
