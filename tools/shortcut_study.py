"""Run the shortcut study of chapter 03 and write its rows.

python tools/shortcut_study.py --output-dir runs/shortcut --workers 2

One file per run (system, agreement, seed) in the folder, kept the moment it is there; started again
it runs what is missing. Ends by writing `maps.json` there, and `results.json` beside it or where
`--results` says; the book has them as `book/results/03_shortcut_study.json` and
`book/results/03_shortcut_study_maps.json`.
"""

from __future__ import annotations

import dataclasses

from gainbook.chapters.ch03_reason.shortcut_findings import COMMAND, NAME, study_rows
from gainbook.chapters.ch03_reason.shortcut_study import (
    AGREEMENTS,
    SEEDS,
    SYSTEMS,
    Settings,
    run_task,
    tasks,
)
from gainbook.lab import study_runs

from gainmtl.files import write_json
from gainmtl.strategies import get_strategy


def main() -> None:
    """Run, print a line per run, write."""
    axes = {"systems": [one.tag for one in SYSTEMS], "agreements": AGREEMENTS, "seeds": SEEDS}
    asked = study_runs.asked(__doc__, "runs/shortcut", axes, dataclasses.asdict(Settings()))
    systems = [system for system in SYSTEMS if system.tag in asked.axes["systems"]]
    wanted = tasks(systems, asked.axes["agreements"], asked.axes["seeds"])
    contents = study_runs.run(
        asked.folder, Settings(**asked.settings), wanted, run_task, asked.workers,
        study_runs.clock(),
    )  # fmt: skip
    varied = {name: asked.axes[name] for name in ("seeds", "agreements")}
    given = {**asked.settings, "dataset": "synthetic", **varied}
    weights = {one.name: get_strategy(one.strategy).weights.asdict() for one in systems}
    rows = study_rows(contents, wanted)
    study_runs.write(asked.results, NAME, given, contents, rows, COMMAND, loss_weights=weights)
    maps = {
        f"{task.system.tag} {task.agreement:g}": content["maps"]
        for task, content in zip(wanted, contents, strict=True)
        if content["maps"]
    }
    write_json(asked.folder / "maps.json", {"seed": SEEDS[0], "maps": maps})


if __name__ == "__main__":
    main()
