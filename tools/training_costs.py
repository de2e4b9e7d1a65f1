"""What the folds behind the reference runs took to train: book/results/costs.json.

python tools/training_costs.py runs/reference runs/components

Reads the checkpoints that the runs left and adds up the seconds of their histories, by folder of
runs and system; systems whose folds are not all there are left out, and what the file already has
of systems that are not in the folders stays. Sums of wall-clock time on the
machine that ran them, whatever else it did.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gainbook.lab.protocol import FACTS
from gainbook.render.pages import SECONDS
from safetensors import safe_open

from gainmtl.files import read_json, write_json
from gainmtl.training.checkpoint import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]


def seconds_of(fold: Path) -> float:
    """Training and scoring of one finished fold."""
    with safe_open(fold / CHECKPOINT, framework="pt") as stored:
        history = json.loads(stored.metadata()["run"])["history"]
    scoring = float(read_json(fold / FACTS)["scoring_seconds"])
    return sum(float(row["seconds"]) for row in history) + scoring


def costs(folder: Path, folds: int = 5) -> dict[str, float]:
    """Seconds by system, of the first seed's folds."""
    found = {}
    for system in sorted(folder.iterdir()):
        parts = [system / "seed0" / f"fold{k}" for k in range(folds)]
        if all((part / FACTS).is_file() and (part / CHECKPOINT).is_file() for part in parts):
            found[system.name] = round(sum(map(seconds_of, parts)), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "book" / "results" / "costs.json")
    args = parser.parse_args()
    known = read_json(args.output)[SECONDS] if args.output.is_file() else {}
    for folder in args.folders:
        found = costs(folder)
        known[folder.name] = dict(sorted({**known.get(folder.name, {}), **found}.items()))
        print(f"{folder.name}: {len(found)} systems, {sum(found.values()) / 60:.0f} min")
    write_json(args.output, {SECONDS: known})


if __name__ == "__main__":
    main()
