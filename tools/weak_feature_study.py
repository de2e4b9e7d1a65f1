"""Train the grid of the weak-feature study: four weights, two shares, five seeds.

python tools/weak_feature_study.py --output-dir runs/features --workers 2

Built-in parts and the project's small backbone; nothing is read from elsewhere. 40 runs of 10 to
20 seconds on one core each. One JSON file per run under `--output-dir`, written when the run is
done; what is there is not run again. The figures go to `--results`, which chapter 12 shows.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from gainmtl.files import read_json
from gainmtl.runs import provenance, write_results
from gainmtl.weak_feature_study import (
    ALONE,
    BETAS,
    COMMAND,
    NAME,
    SEEDS,
    SETTINGS,
    Run,
    execute,
    grid,
    study_rows,
)

RESULTS = Path(__file__).resolve().parents[1] / f"book/results/{NAME}.json"


def one(run: Run, output_dir: str) -> float:
    """Execute a run on one core; how many seconds of it that took."""
    torch.set_num_threads(1)
    return float(execute(run, output_dir)["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", default="runs/features")
    parser.add_argument("--workers", type=int, default=1, help="processes of one core each")
    parser.add_argument("--betas", type=float, nargs="+", default=list(BETAS))
    parser.add_argument("--alone", type=float, nargs="+", default=list(ALONE))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    runs = grid(args.betas, args.alone, args.seeds)
    # Spawned, not forked: threads of the libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context) as pool:
        waiting = {pool.submit(one, run, args.output_dir): run for run in runs}
        for count, done in enumerate(as_completed(waiting), 1):
            print(f"{count}/{len(runs)} {waiting[done].file}: {done.result():.0f} s", flush=True)
    records = [read_json(Path(args.output_dir) / run.file) for run in runs]
    facts = provenance(
        SETTINGS,
        sum(record["seconds"] for record in records),
        command=COMMAND,
        trained_at_commits=sorted({record["commit"] for record in records}),
    )
    settings = {"betas": args.betas, "alone": args.alone, "seeds": args.seeds, **SETTINGS}
    path = write_results(
        args.results, notebook=NAME, parameters=settings, provenance=facts,
        rows=study_rows(records),
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
