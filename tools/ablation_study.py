"""Run the synthetic study of chapter 10 and write its rows.

python tools/ablation_study.py --output-dir runs/ablation --workers 2

One file per run (system, setting, seed) in the folder, kept the moment it is there; started again
it runs what is missing. Ends by writing `results.json` there, or where `--results` says, which the
book has as `book/results/10_synthetic.json`.
"""

from __future__ import annotations

import dataclasses

from gainbook.chapters.ch10_ablation.ablation_results import trained_by
from gainbook.chapters.ch10_ablation.ablation_study import (
    COMMAND,
    NAME,
    SEEDS,
    SETTINGS_OF,
    Settings,
    run_task,
    study_rows,
    tasks,
)
from gainbook.chapters.ch10_ablation.ladder import SIX
from gainbook.lab import study_runs


def main() -> None:
    """Run, print a line per run, write."""
    axes = {"systems": [one.name for one in SIX], "settings": list(SETTINGS_OF), "seeds": SEEDS}
    asked = study_runs.asked(__doc__, "runs/ablation", axes, dataclasses.asdict(Settings()))
    systems = [system for system in SIX if system.name in asked.axes["systems"]]
    wanted = tasks(systems, asked.axes["settings"], asked.axes["seeds"])
    contents = study_runs.run(
        asked.folder, Settings(**asked.settings), wanted, run_task, asked.workers,
        study_runs.clock(),
    )  # fmt: skip
    varied = {name: asked.axes[name] for name in ("seeds", "settings")}
    given = {**asked.settings, "dataset": "synthetic", **varied}
    rows = study_rows(contents, wanted)
    study_runs.write(
        asked.results, NAME, given, contents, rows, COMMAND, loss_weights=trained_by(systems)
    )


if __name__ == "__main__":
    main()
