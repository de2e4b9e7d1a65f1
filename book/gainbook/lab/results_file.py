"""The results.json of a run: rows of measures, and their provenance."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import pandas as pd

from gainbook import ROOT
from gainbook.lab.parameters import Parameters, Rule
from gainbook.lab.parameters import check_parameters as check_parameters
from gainmtl.datasets.images import Stamp, file_stamp
from gainmtl.files import plain, read_json, write_json

VERSIONED = ("gainmtl", "torch", "torchvision", "timm", "numpy", "lightning-fabric", "scikit-learn")
RESULT_KEYS = ("notebook", "parameters", "provenance", "rows")
SNAKE_CASE = re.compile(r"[a-z][a-z0-9_]*")
ABSOLUTE = re.compile(r"~|/|[A-Za-z]:[\\/]|\\\\")

ROW_RULES: dict[str, Rule] = {
    "dataset": Rule(str),
    "split": Rule(str),
    "system": Rule(str),
    "condition": Rule(dict),
    "map": Rule(str, choices=("cam", "attention", "localization", "defect_map"), optional=True),
    "seed": Rule(int, 0, optional=True),
    "fold": Rule(int, 0, optional=True),
    "metric": Rule(str),
    "value": Rule(float, optional=True),
    "ci_low": Rule(float, optional=True),
    "ci_high": Rule(float, optional=True),
    "n": Rule(int, 0, optional=True),
}
"""The columns of a row. `seed` and `fold` are both `None` for the pooled figure."""


class ResultsFile(NamedTuple):
    """A results.json in memory."""

    notebook: str
    parameters: dict[str, Any]
    provenance: dict[str, Any]
    rows: pd.DataFrame
    """One line per figure; `value`, `ci_low` and `ci_high` are NaN where they are undefined."""


def row(
    dataset: str,
    system: str,
    metric: str,
    value: float,
    *,
    split: str = "test",
    condition: Mapping[str, Any] | None = None,
    map: str | None = None,
    seed: int | None = None,
    fold: int | None = None,
    ci_low: float | None = None,
    ci_high: float | None = None,
    n: int | None = None,
) -> dict[str, Any]:
    """One row of `write_results`; `condition` holds what varies; `{}` is the whole."""
    return {
        "dataset": dataset,
        "split": split,
        "system": system,
        "condition": dict(condition or {}),
        "map": map,
        "seed": seed,
        "fold": fold,
        "metric": metric,
        "value": value,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "n": n,
    }


def portable(value: Any) -> Any:
    """`value` without absolute paths: relative to the working directory, else the last name."""
    if isinstance(value, Mapping):
        return {str(key): portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if not isinstance(value, str | Path) or not ABSOLUTE.match(str(value)):
        return value.as_posix() if isinstance(value, Path) else value
    if Path(value).is_relative_to(Path.cwd()):
        return Path(value).relative_to(Path.cwd()).as_posix()
    return PureWindowsPath(value).name or Path(value).name


def git_commit() -> str:
    """Commit of the package's checkout, with "+changes" if it has some; else "unknown"."""
    git = ["git", "-C", str(ROOT)]
    try:
        head, status = (
            subprocess.run(git + command, capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if status else "")


def as_dict(parameters: Parameters | Mapping[str, Any]) -> dict[str, Any]:
    """The parameters by name, without the notebook's own name."""
    given = parameters if isinstance(parameters, Mapping) else vars(parameters)
    return {name: value for name, value in given.items() if name != "notebook"}


def papermill_command(parameters: Parameters) -> str:
    """The command that repeats the run, from the repository's root."""
    words = ["papermill", f"notebooks/{parameters.notebook}.ipynb", "out.ipynb"]
    for name, value in portable(as_dict(parameters)).items():
        # papermill's -p reads one word, of which it makes a number if it can, and its -r a text;
        # what is not one word goes through -y as YAML
        if isinstance(value, str):
            words += ["-r" if _becomes_another_type(value) else "-p", name, value]
        elif isinstance(value, bool | int | float):
            words += ["-p", name, str(value)]
        else:
            words += ["-y", f"{name}: {json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)


def _becomes_another_type(text: str) -> bool:
    """Whether papermill's `-p` would make a number, a truth value or nothing of a text."""
    try:
        float(text)
    except ValueError:
        return text in ("True", "False", "None")
    return True


def name_weights(weights: str | None) -> dict[str, str] | None:
    """Which weights: the hub's name, or a file's name and the start of its SHA-256."""
    if weights is None or not Path(weights).is_file():
        return None if weights is None else {"name": str(portable(weights))}
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    return {"name": Path(weights).name, "sha256": digest[:16]}


def provenance(
    parameters: Parameters | Mapping[str, Any],
    duration_s: float,
    data_fingerprint: str | None = None,
    loss_weights: Mapping[str, Any] | None = None,
    command: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Provenance of figures, without a path of this machine.

    Args:
        parameters: checked ones; the command and the weights are read from them.
        duration_s: seconds that the run took.
        data_fingerprint: `data.fingerprint`.
        loss_weights: the weights of the loss terms actually used, per system if there are several.
        command: what repeats the run; `None`: papermill with a notebook's checked parameters.
        more: further entries, such as the trials of a search on validation data.
    """
    if command is None and isinstance(parameters, Parameters):
        command = papermill_command(parameters)
    installed = {dist.name.lower() for dist in importlib.metadata.distributions()}
    return portable(
        {
            "git_commit": git_commit(),
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in VERSIONED if name in installed},
            "platform": f"{sys.platform} {platform.machine()}",
            "duration_s": round(duration_s, 2),
            "command": command,
            "data_fingerprint": data_fingerprint,
            "weights": name_weights(as_dict(parameters).get("weights")),
            "loss_weights": loss_weights,
            **more,
        }
    )


def check_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`rows` in JSON form, each with every key of `ROW_RULES`, none twice.

    Raises:
        ValueError: listing the first rows at fault.
    """
    problems: list[str] = []
    seen: set[str] = set()
    checked = []
    for index, given in enumerate(rows):
        one = plain(dict(given))
        for key in ("seed", "fold", "n"):  # a data frame turns a column with gaps into floats
            if isinstance(one.get(key), float) and one[key].is_integer():
                one[key] = int(one[key])
        faults = [f"unknown key {key!r}" for key in one if key not in ROW_RULES]
        for key, rule in ROW_RULES.items():
            if key not in one:
                faults.append(f"no {key!r}")
            elif not rule.accepts(one[key]):
                faults.append(f"{key}: expected {rule.describe()}, found {one[key]!r}")
        if not SNAKE_CASE.fullmatch(str(one.get("metric"))):
            faults.append(f"metric: expected a name in snake case, found {one.get('metric')!r}")
        place = json.dumps([one.get(key) for key in list(ROW_RULES)[:8]], sort_keys=True)
        if place in seen:
            faults.append("stands twice, same dataset, split, system, … , metric")
        seen.add(place)
        problems += [f"row {index}: {fault}" for fault in faults]
        checked.append(one)
    if problems:
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError("the rows don't fit results.json:\n  " + "\n  ".join(problems[:8]) + more)
    return checked


def write_results(
    path: str | Path,
    *,
    notebook: str,
    parameters: Parameters | Mapping[str, Any],
    provenance: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
) -> Path:
    """Write results.json to `path` (a .json, or a folder that gets one), whole or not at all."""
    path = Path(path) if Path(path).suffix == ".json" else Path(path) / "results.json"
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    values = (notebook, portable(as_dict(parameters)), portable(provenance), check_rows(records))
    write_json(path, dict(zip(RESULT_KEYS, values, strict=True)), lines="rows")
    return path


def read_results(path: str | Path) -> ResultsFile:
    """Read and check a results.json; `null` figures become NaN.

    A file is checked once per process and version: a page reads the same ones for every claim.
    """
    found = _read(file_stamp(Path(path)))
    return found._replace(rows=found.rows.copy())


@functools.lru_cache(maxsize=128)
def _read(stamp: Stamp) -> ResultsFile:
    path = stamp[0]
    stored = read_json(path)
    if not isinstance(stored, dict) or set(stored) != set(RESULT_KEYS):
        raise ValueError(f"{path}: expected the keys {', '.join(RESULT_KEYS)} of a results.json")
    table = pd.DataFrame(check_rows(stored["rows"]), columns=list(ROW_RULES))
    for key in ("value", "ci_low", "ci_high"):
        table[key] = [math.nan if figure is None else float(figure) for figure in table[key]]
    for key in ("seed", "fold", "n"):
        table[key] = table[key].astype("Int64")
    return ResultsFile(stored["notebook"], stored["parameters"], stored["provenance"], table)


def reference(name: str) -> ResultsFile:
    """Reference results that come with the book: `book/results/<name>.json`."""
    return read_results(results_file(name))


def stored_results(name: str) -> ResultsFile | None:
    """The committed results of a study; `None` if there are none."""
    try:
        return reference(name)
    except FileNotFoundError:
        return None


def stored_trials(name: str = "tuning") -> list[dict[str, Any]]:
    """The trials of `tools/tune.py` that the book keeps as `book/results/<name>.json`, or none."""
    try:
        return list(read_json(results_file(name)))
    except FileNotFoundError:
        return []


def results_file(name: str) -> Path:
    """Where `book/results/<name>.json` lies, in or above the working directory or the package."""
    here = Path.cwd()
    for folder in (here, *here.parents, ROOT):
        path = folder / "book" / "results" / f"{name}.json"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"expected the reference results book/results/{name}.json of a checkout of this project, "
        "found none in or above the working directory; start the notebook inside the checkout"
    )
