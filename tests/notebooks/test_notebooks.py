"""Every notebook: stored without outputs, runs as a program, rejects unknown parameters."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from gainbook.lab import results_file as runs
from gainbook.lab.notebook_runner import Papermill, Run, papermill_runner
from gainbook.lab.parameters import COMMON

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))
SMOKE = ROOT / "notebooks" / "profiles" / "smoke.yaml"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[Any]:
    return list(nbformat.read(path, as_version=4).cells)


def parameters_cell(path: Path) -> Any:
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, f"{path.name}: expected one parameters cell, found {len(tagged)}"
    return tagged[0]


@pytest.fixture(scope="module")
def papermill() -> Iterator[Papermill]:
    with papermill_runner(threads=1, MPLBACKEND="agg") as run:
        yield run


def run(papermill: Papermill, path: Path, out: Path, *arguments: str) -> Run:
    """papermill, as a reader calls it, from the repository's root."""
    command = [str(path), str(out / "out.ipynb"), "-p", "output_dir", str(out)]
    return papermill([*command, "--no-progress-bar", *arguments])


@each_notebook
def test_nothing_is_stored_but_the_source(path: Path) -> None:
    code = [cell for cell in cells(path) if cell.cell_type == "code"]
    assert [cell.source for cell in code if cell.outputs or cell.execution_count] == []
    assert set(nbformat.read(path, as_version=4).metadata) <= {"kernelspec", "language_info"}


@each_notebook
def test_parameters_are_typed_and_commented_defaults(path: Path) -> None:
    source = parameters_cell(path).source
    commented = {
        token.start[0]
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT and len(token.string) > 4
    }
    names = set()
    for statement in ast.parse(source).body:
        assert isinstance(statement, ast.AnnAssign), ast.unparse(statement)
        assert statement.end_lineno in commented, f"{ast.unparse(statement)} has no comment"
        assert statement.value is not None
        ast.literal_eval(statement.value)
        names.add(ast.unparse(statement.target))
    assert set(COMMON) - names == set()


@each_notebook
def test_the_next_cell_checks_them(path: Path) -> None:
    code = [cell for cell in cells(path) if cell.cell_type == "code"]
    following = code[code.index(parameters_cell(path)) + 1].source
    assert re.search(rf'check_parameters\(\s*globals\(\),\s*(notebook=)?"{path.stem}"', following)


@pytest.mark.parametrize(
    "path",
    [path for path in NOTEBOOKS if re.match(r"(0[1-9]|1[0-4])_", path.name)],
    ids=lambda path: path.stem,
)
def test_a_chapter_has_the_parts_of_a_lecture(path: Path) -> None:
    prose = [cell.source for cell in cells(path) if cell.cell_type == "markdown"]
    opening, whole = prose[0], "\n".join(prose)
    assert "**The answer.**" in opening
    box = re.search(r"```{admonition} Before you start\n:class: tip\n(.*?)```", opening, re.S)
    assert box is not None
    assert [
        w for w in ("You will learn", "Data", "Seeds", "Time") if f"**{w}**" not in box[1]
    ] == []
    sections = ("## Symbols", "## Limits", "## Exercises", "## References")
    assert [s for s in sections if not re.search(rf"^{s}", whole, re.M)] == []


@each_notebook
def test_no_cell_is_allowed_to_fail(path: Path) -> None:
    tags = {tag for cell in cells(path) for tag in cell.metadata.get("tags", [])}
    assert "raises-exception" not in tags


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_hold_common_parameters_that_keep_the_rules(path: Path) -> None:
    profile = yaml.safe_load(path.read_text("utf-8"))
    assert set(profile) <= set(COMMON)
    assert [name for name, value in profile.items() if not COMMON[name].accepts(value)] == []


@each_notebook
def test_smoke_run_leaves_valid_results(path: Path, tmp_path: Path, papermill: Papermill) -> None:
    done = run(papermill, path, tmp_path, "-f", str(SMOKE))
    assert done.returncode == 0, done.stderr[-4000:]
    text = (tmp_path / "results.json").read_text("utf-8")
    assert str(tmp_path) not in text
    assert str(ROOT) not in text
    results = runs.read_results(tmp_path / "results.json")
    assert results.notebook == path.stem
    assert len(results.rows) > 0
    assert set(COMMON) <= set(results.parameters)
    assert {"git_commit", "versions", "duration_s", "command"} <= set(results.provenance)


@each_notebook
def test_an_unknown_parameter_ends_the_run_with_the_near_name(
    path: Path, tmp_path: Path, papermill: Papermill
) -> None:
    done = run(papermill, path, tmp_path, "-p", "epoch", "3")
    assert done.returncode != 0
    assert "no such parameter" in done.stderr
    assert "epochs" in done.stderr
    assert not (tmp_path / "results.json").exists()
