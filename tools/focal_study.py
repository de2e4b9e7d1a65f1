"""Train the grid of the focal study: five exponents, three rates of defects, five seeds.

python tools/focal_study.py --output-dir runs/focal --workers 2

Synthetic parts and the project's small backbone; nothing is read from elsewhere. 75 runs of about
20 seconds on one core each. One JSON file per run under `--output-dir`, written when the run is
done; what is there is not run again. The figures of the whole grid go to the file that chapter 7
shows, those of a part of it beside the runs, unless `--results` says where.
"""

from __future__ import annotations

from pathlib import Path

from gainbook.chapters.ch07_localization.focal_study import (
    COMMAND,
    GAMMAS,
    NAME,
    RATES,
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
    axes = {"gammas": GAMMAS, "rates": RATES, "seeds": SEEDS}
    asked = study_runs.asked(__doc__, "runs/focal", axes, stored=RESULTS)
    runs = grid(**asked.axes)
    done = study_runs.clock()
    records = study_runs.run(asked.folder, SETTINGS, runs, run_cell, asked.workers, done)
    given = {**asked.axes, **SETTINGS}
    study_runs.write(asked.results, NAME, given, records, study_rows(records), COMMAND)


if __name__ == "__main__":
    main()
