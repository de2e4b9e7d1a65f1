"""A grid of notebook runs: a YAML file as a list of runs, each with a folder of its own.

::

    notebook: notebooks/train_system.ipynb     # one, or a list
    profile: notebooks/profiles/standard.yaml  # optional; `parameters` override it
    output_dir: runs/ablation
    parameters: {data_root: path/to/magnetic-tile}
    grid:
      system: [S1-stride4, S5-stride4]
      fold: [0, 1, 2, 3, 4]
      seeds: [0]

Every combination of the lists under `grid` is one run, for every notebook.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gainmtl.files import plain

KEYS = ("notebook", "profile", "output_dir", "parameters", "grid")


class GridRun(NamedTuple):
    """One notebook with one set of parameters."""

    name: str
    """What varies, readable, with the start of the identity's digest: the folder's name."""
    notebook: str
    parameters: dict[str, Any]
    """All that papermill is given, `output_dir` included."""
    varied: dict[str, Any]
    """The part of `parameters` that the grid varies."""
    folder: str
    """Where `out.ipynb`, the log and `results.json` go; also the notebook's `output_dir`."""


def read_grid(path: str | Path) -> list[GridRun]:
    """The runs of a grid file, in the order of its lists, the last one fastest.

    Relative paths are meant from the working directory, as papermill means them.

    Raises:
        FileNotFoundError: the grid, a notebook or the profile does not exist.
        ValueError: unknown keys, an empty list, a parameter that is both fixed and varied, or two
            runs that are the same.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"sweep: there is no grid file {path}")
    try:
        stored = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"sweep: {path} is not YAML: {error}") from error
    return expand(stored, str(path))


def expand(grid: Any, source: str = "the grid") -> list[GridRun]:
    """The runs of a grid given as a mapping; see `read_grid`."""
    if not isinstance(grid, Mapping) or set(grid) - set(KEYS):
        found = sorted(set(grid) - set(KEYS)) if isinstance(grid, Mapping) else type(grid).__name__
        raise ValueError(f"sweep: {source}: expected the keys {', '.join(KEYS)}; found {found}")
    notebooks = _as_list(grid.get("notebook"))
    if not notebooks or not grid.get("output_dir"):
        raise ValueError(f"sweep: {source}: expected a notebook and an output_dir")
    fixed = {**_profile(grid.get("profile")), **(grid.get("parameters") or {})}
    axes = {name: _axis(name, values, source) for name, values in (grid.get("grid") or {}).items()}
    both = sorted(set(axes) & set(grid.get("parameters") or {}))
    if both or "output_dir" in {*axes, *fixed}:
        wrong = ", ".join(both) or "output_dir"
        raise ValueError(
            f"sweep: {source}: {wrong} is set twice; a parameter is either fixed or varied, and "
            "every run has a folder of its own under output_dir"
        )
    runs = []
    for notebook in notebooks:
        if not Path(notebook).is_file():
            raise FileNotFoundError(f"sweep: {source}: there is no notebook {notebook}")
        for values in itertools.product(*axes.values()):
            varied = dict(zip(axes, values, strict=True))
            runs.append(_run(str(notebook), fixed, varied, Path(grid["output_dir"])))
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"sweep: {source}: {twice[0]} stands twice in the grid")
    return runs


def _run(notebook: str, fixed: Mapping[str, Any], varied: Mapping[str, Any], root: Path) -> GridRun:
    parameters = {**fixed, **varied}
    identity = json.dumps([Path(notebook).stem, plain(parameters)], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    varied_text = "-".join(f"{name}={_short(value)}" for name, value in varied.items())
    name = "-".join(part for part in (Path(notebook).stem, varied_text, digest) if part)
    folder = root / name
    return GridRun(
        name, notebook, {**parameters, "output_dir": str(folder)}, dict(varied), str(folder)
    )


def _short(value: Any) -> str:
    """A value as part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(plain(value))
    kept = "".join(c if c.isalnum() or c in "._+" else "-" for c in text).strip("-")
    return kept[:40]


def _profile(path: Any) -> dict[str, Any]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise FileNotFoundError(f"sweep: there is no profile {path}")
    return dict(yaml.safe_load(Path(path).read_text("utf-8")) or {})


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _axis(name: str, values: Any, source: str) -> Sequence[Any]:
    if not isinstance(values, list) or not values:
        raise ValueError(
            f"sweep: {source}: grid: {name}: expected a list of at least one value, got {values!r}"
        )
    return values
