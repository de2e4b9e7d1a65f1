"""Put a question to the models of every fold, about parts that they have not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import gainmtl
from gainbook import ROOT
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import load_fold
from gainbook.lab.results_file import name_weights
from gainmtl.datasets import Data
from gainmtl.files import plain, read_json, write_json
from gainmtl.io import load
from gainmtl.model import GAINMTL

Question = Callable[[Mapping[str, GAINMTL], Any], dict[str, pd.DataFrame]]
"""Models by name and the parts they are asked about, to one table per model with the columns
`name` and `group`."""
FOLDER = "asked"
"""Where answers are kept, below the `output_dir` of the run."""


CODE = hashlib.sha256(
    b"".join(
        path.read_bytes()
        for folder in (Path(gainmtl.__file__).parent, ROOT / "book/gainbook")
        for path in sorted(folder.rglob("*.py"))
    )
).hexdigest()
"""Of the package's sources: answers of other code are not taken. Made on import, in milliseconds,
for the checkout may move on while a long run goes, and the code that runs does not."""


def ask_folds(
    parameters: Parameters, pooled: Mapping[str, Sequence[Pooled]], question: Question
) -> dict[str, pd.DataFrame]:
    """The answers of every fold's models about that fold's test parts, all folds and seeds in one.

    `pooled` by system, one per seed, as `findings.results` gives them. With several seeds a part
    stands there once for each, under one group. A fold's answers are kept, see `kept_answers`.
    """
    p = parameters
    parts: dict[str, list[pd.DataFrame]] = {}
    for place, seed in enumerate(p.seeds):
        data_of = load_fold(p, seed)
        for fold in range(p.folds):
            paths = {name: runs[place].model_paths[fold] for name, runs in pooled.items()}
            data = data_of(fold)

            def ask(paths: Mapping[str, Path] = paths, test: Any = data.test) -> Any:
                return question({name: load(path) for name, path in paths.items()}, test)

            about = {**facts_of(data, fold), "question": name_of(question)}
            for name, answers in kept_answers(p.output_dir, paths, about, ask).items():
                if len(p.seeds) > 1:
                    answers["name"] += f", seed {seed}"
                parts.setdefault(name, []).append(answers)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def name_of(question: Callable[..., Any]) -> str:
    """Module and name of a function."""
    return f"{question.__module__}.{question.__qualname__}"


def facts_of(data: Data, fold: int) -> dict[str, Any]:
    """Which parts are asked about."""
    resize = getattr(data.test, "resize", None)
    return {
        "data": data.fingerprint, "image_size": data.image_size, "resize": resize, "fold": fold,
    }  # fmt: skip


def kept_answers(
    output_dir: str | Path,
    paths: Mapping[str, Path],
    about: Mapping[str, Any],
    ask: Callable[[], dict[str, pd.DataFrame]],
) -> dict[str, pd.DataFrame]:
    """What `ask` says; kept below `output_dir` and read the next time.

    Read only where everything is the same: the models' files at `paths`, weights and what stands
    beside them under the same stem (a threshold is there); `about`, what was asked about what; and
    `CODE`.
    """
    models = {
        name: [name_weights(str(file)) for file in sorted(path.parent.glob(f"{path.stem}.*"))]
        for name, path in paths.items()
    }
    identity = plain({"code": CODE, "models": models, **about})
    digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:16]
    path = Path(output_dir) / FOLDER / f"{digest}.json"
    if path.is_file() and (stored := read_json(path))["identity"] == identity:
        return {
            name: pd.DataFrame(one["columns"]).astype(one["kinds"])
            for name, one in stored["answers"].items()
        }
    answers = ask()
    tables = {
        name: {"columns": table.to_dict("list"), "kinds": table.dtypes.astype(str).to_dict()}
        for name, table in answers.items()
    }
    write_json(path, {"identity": identity, "answers": tables})
    return answers
