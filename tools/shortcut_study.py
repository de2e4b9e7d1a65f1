"""Run the shortcut study of chapter 03 and write its rows.

python tools/shortcut_study.py --output-dir runs/shortcut --workers 2

One file per run (system, agreement, seed) in the folder, kept the moment it is there; started again
it runs what is missing. Ends by writing `results.json` and `maps.json` there; the book has them as
`book/results/03_shortcut_study.json` and `book/results/03_shortcut_study_maps.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from gainmtl import runs
from gainmtl.files import write_json
from gainmtl.shortcut_findings import COMMAND, NAME, study_rows
from gainmtl.shortcut_study import (
    AGREEMENTS,
    SEEDS,
    SYSTEMS,
    Settings,
    Task,
    run,
    tasks,
)
from gainmtl.strategies import get_strategy


def main() -> None:
    """Run, print a line per run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs/shortcut"))
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--agreements", type=float, nargs="+", default=list(AGREEMENTS))
    tags = [system.tag for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=tags, default=tags)
    for field in dataclasses.fields(Settings):
        kind = int if isinstance(field.default, int) else type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    args = parser.parse_args()
    settings = Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)})
    wanted = tasks(
        [system for system in SYSTEMS if system.tag in args.systems], args.agreements, args.seeds
    )
    started = time.monotonic()

    def done(task: Task, left: int) -> None:
        minutes = (time.monotonic() - started) / 60
        said = f"{task.system.tag}, agreement {task.agreement:g}, seed {task.seed}"
        print(f"{minutes:6.1f} min  {said}: done, {left} left", flush=True)

    contents = run(args.output_dir, settings, wanted, args.workers, done)
    seconds = sum(content["seconds"] for content in contents)
    given = dataclasses.asdict(settings) | {
        "dataset": "synthetic",
        "seeds": args.seeds,
        "agreements": args.agreements,
    }
    facts = runs.provenance(
        given,
        seconds,
        loss_weights={
            system.name: get_strategy(system.strategy).weights.asdict()
            for system in dict.fromkeys(task.system for task in wanted)
        },
        command=COMMAND,
        trained_at_commits=sorted({content["commit"] for content in contents}),
    )
    rows = study_rows(contents, wanted)
    runs.write_results(
        args.output_dir, notebook=NAME, parameters=given, provenance=facts, rows=rows
    )
    maps = {
        f"{task.system.tag} {task.agreement:g}": content["maps"]
        for task, content in zip(wanted, contents, strict=True)
        if content["maps"]
    }
    write_json(args.output_dir / "maps.json", {"seed": SEEDS[0], "maps": maps})
    print(f"{len(rows)} rows of {len(wanted)} runs in {args.output_dir}/results.json")


if __name__ == "__main__":
    main()
