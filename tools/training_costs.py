"""Training time of the folds behind the reference runs: book/results/costs.json.

python tools/training_costs.py runs/reference runs/components

Adds up the seconds in the histories of checkpoints, by folder of runs and system, and the seconds
of scoring. Systems with unfinished folds are left out. Entries of the file for other systems are
kept. The seconds are wall-clock time, whatever else the machine did.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gainbook.lab.protocol import FACTS
from gainbook.render.pages import SECONDS

from gainmtl.files import read_json, write_json
from gainmtl.training.checkpoint import CHECKPOINT, read_checkpoint

ROOT = Path(__file__).resolve().parents[1]


def seconds_of(fold: Path) -> float:
    """Seconds of training and scoring of one finished fold."""
    history = read_checkpoint(fold / CHECKPOINT).meta["history"]
    scoring = float(read_json(fold / FACTS)["scoring_seconds"])
    return sum(float(row["seconds"]) for row in history) + scoring


def costs(folder: Path, folds: int = 5) -> dict[str, float]:
    """Seconds by system, of the first seed's folds."""
    seconds = {}
    for system in sorted(folder.iterdir()):
        parts = [system / "seed0" / f"fold{k}" for k in range(folds)]
        if all((part / FACTS).is_file() and (part / CHECKPOINT).is_file() for part in parts):
            seconds[system.name] = round(sum(map(seconds_of, parts)), 1)
    return seconds


def main() -> None:
    """Update the file, print a line per folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "costs.json")
    args = parser.parse_args()
    stored = read_json(args.output)[SECONDS] if args.output.is_file() else {}
    for folder in args.folders:
        seconds = costs(folder)
        stored[folder.name] = dict(sorted({**stored.get(folder.name, {}), **seconds}.items()))
        print(f"{folder.name}: {len(seconds)} systems, {sum(seconds.values()) / 60:.0f} min")
    write_json(args.output, {SECONDS: stored})


if __name__ == "__main__":
    main()
