"""Form of the notebooks: short visible cells, parameters after the opening, nothing twice."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 15
"""Lines of a code cell that a reader sees."""


def code_cells(path: Path) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def functions(path: Path) -> set[str]:
    """Names of the functions that a notebook defines at the top of a cell."""
    names = set()
    for cell in code_cells(path):
        source = "\n".join(line for line in cell.source.split("\n") if not line.startswith("%"))
        names |= {n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_visible_cells_are_short(path: Path) -> None:
    visible = [c.source for c in code_cells(path) if "hide-input" not in tags(c)]
    assert [source for source in visible if len(source.split("\n")) > LONGEST] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_follow_the_opening_and_are_collapsed(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    (place,) = [k for k, cell in enumerate(cells) if "parameters" in tags(cell)]
    assert "hide-input" in tags(cells[place])
    opening = [cell for cell in cells[:place] if cell.cell_type == "markdown"]
    assert len(opening) == place > 0
    paragraphs = [p for cell in opening for p in cell.source.split("\n\n") if not p.startswith("#")]
    assert len(paragraphs) >= 2


def test_no_function_is_defined_in_two_notebooks() -> None:
    for a, b in itertools.combinations(NOTEBOOKS, 2):
        assert functions(a) & functions(b) == set(), f"{a.stem} and {b.stem}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_alternative_texts_of_stored_results_have_numbers(path: Path) -> None:
    """Stored rows don't change from run to run, so their figures can be put into words."""
    figures = [
        cell.metadata["mystnb"]["image"]["alt"]
        for cell in code_cells(path)
        if ".rows" in cell.source and "image" in cell.metadata.get("mystnb", {})
    ]
    assert [alt for alt in figures if not any(letter.isdigit() for letter in alt)] == []
