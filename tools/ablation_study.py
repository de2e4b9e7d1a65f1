"""Run the synthetic study of chapter 10 and write its rows.

python tools/ablation_study.py --output-dir runs/ablation --workers 2

One file per run (system, setting, seed) in the folder, kept the moment it is there; started again
it runs what is missing. Ends by writing `results.json` there, which the book has as
`book/results/10_synthetic.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from gainmtl import runs, shortcut_study
from gainmtl.ablation import SIX
from gainmtl.ablation_results import trained_by
from gainmtl.ablation_study import (
    COMMAND,
    NAME,
    SEEDS,
    SETTINGS_OF,
    Settings,
    Task,
    run_task,
    study_rows,
    tasks,
)


def main() -> None:
    """Run, print a line per run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    names = [system.name for system in SIX]
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    kinds = list(SETTINGS_OF)
    parser.add_argument("--settings", nargs="+", choices=kinds, default=kinds)
    for field in dataclasses.fields(Settings):
        kind = int if isinstance(field.default, int) else type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    args = parser.parse_args()
    settings = Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)})
    chosen = [system for system in SIX if system.name in args.systems]
    wanted = tasks(chosen, args.settings, args.seeds)
    started = time.monotonic()

    def done(task: Task, left: int) -> None:
        minutes = (time.monotonic() - started) / 60
        said = f"{task.system.label}, {task.setting}, seed {task.seed}"
        print(f"{minutes:6.1f} min  {said}: done, {left} left", flush=True)

    contents = shortcut_study.run(args.output_dir, settings, wanted, args.workers, done, run_task)
    given = dataclasses.asdict(settings) | {
        "dataset": "synthetic",
        "seeds": args.seeds,
        "settings": args.settings,
    }
    facts = runs.provenance(
        given,
        sum(content["seconds"] for content in contents),
        loss_weights=trained_by(chosen),
        command=COMMAND,
        trained_at_commits=sorted({content["commit"] for content in contents}),
    )
    rows = study_rows(contents, wanted)
    runs.write_results(
        args.output_dir, notebook=NAME, parameters=given, provenance=facts, rows=rows
    )
    print(f"{len(rows)} rows of {len(wanted)} runs in {args.output_dir}/results.json")


if __name__ == "__main__":
    main()
