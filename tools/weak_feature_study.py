"""Train the grid of the weak-feature study: four weights, two shares, five seeds.

python tools/weak_feature_study.py --output-dir runs/features --workers 2

Built-in parts and the project's small backbone; nothing is read from elsewhere. 40 runs of 10 to
20 seconds on one core each. One JSON file per run under `--output-dir`, written when the run is
done; what is there is not run again. The figures of the whole grid go to the file that chapter 12
shows, those of a part of it beside the runs, unless `--results` says where.
"""

from __future__ import annotations

from pathlib import Path

from gainbook.chapters.ch12_fostering.weak_feature_study import (
    ALONE,
    BETAS,
    COMMAND,
    NAME,
    SEEDS,
    SETTINGS,
    grid,
    run_cell,
    study_rows,
)
from gainbook.lab import study_runs

RESULTS = Path(__file__).resolve().parents[1] / f"book/results/{NAME}.json"


def main() -> None:
    """Run, print a line per run, write."""
    axes = {"betas": BETAS, "alone": ALONE, "seeds": SEEDS}
    asked = study_runs.asked(__doc__, "runs/features", axes, stored=RESULTS)
    runs = grid(**asked.axes)
    done = study_runs.clock()
    records = study_runs.run(asked.folder, SETTINGS, runs, run_cell, asked.workers, done)
    given = {**asked.axes, **SETTINGS}
    study_runs.write(asked.results, NAME, given, records, study_rows(records), COMMAND)


if __name__ == "__main__":
    main()
