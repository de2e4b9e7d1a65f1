"""A file imports only files that stand above it in book/api.md, and figures come on demand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = re.findall(r"^\.\. automodule:: gainmtl\.(\S+)$", (ROOT / "book/api.md").read_text(), re.M)
FILES = {
    ".".join(path.relative_to(ROOT / "gainmtl").with_suffix("").parts): path
    for path in sorted((ROOT / "gainmtl").rglob("*.py"))
}
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith("__init__")}
ON_DEMAND = ("plots", "curves", "trade_offs", "forests", "widgets")


def walk_run(part: ast.stmt) -> Iterator[ast.AST]:
    """What runs of a statement; a name that only annotations need is no import."""
    only_types = isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"
    yield from () if only_types else ast.walk(part)


def imported(path: Path, top_level: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level else [n for part in tree.body for n in walk_run(part)]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the order"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """Which of our modules a file imports, as in `ORDER`; a name in a module counts as it."""
    found = set()
    for name in imported(path):
        parts = name.removeprefix("gainmtl.").split(".")
        if name.split(".")[0] == "gainmtl":
            stems = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
            found.add(next((s for s in stems if s in FILES or f"{s}.__init__" in FILES), name))
    return found


def test_every_module_stands_on_the_page_once() -> None:
    modules = {name for name in FILES if not name.endswith("__init__")}
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) - PACKAGES == modules


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("__init__")])
def test_imports_point_upwards(name: str) -> None:
    place = ORDER.index(name)
    below = [
        other
        for other in own_imports(FILES[name]) - {name}
        # a package is as low as the lowest of its files, unless the importer is one of them
        for member in ORDER
        if (member == other or (other in PACKAGES and member.startswith(f"{other}.")))
        and ORDER.index(member) >= place
    ]
    assert sorted(set(below)) == []


def test_the_walk_sees_an_import_downwards(tmp_path: Path) -> None:
    file = tmp_path / "types.py"
    file.write_text(
        "from gainmtl.model import GAINMTL\nfrom gainmtl import metrics, losses\n"
        "if TYPE_CHECKING:\n    from gainmtl import heads\n"
    )
    assert own_imports(file) == {"model", "metrics", "losses"}


@pytest.mark.parametrize("name", [name for name in FILES if name not in ON_DEMAND])
def test_no_file_but_the_on_demand_ones_draws(name: str) -> None:
    drawing = {"matplotlib", "ipywidgets", "IPython"}
    assert {module.split(".")[0] for module in imported(FILES[name], True)} & drawing == set()


def test_import_gainmtl_brings_its_names_and_no_figures() -> None:
    code = (
        "import sys, types, gainmtl\n"
        "names = 'GAINMTL fit evaluate predict save load'.split()\n"
        "assert not [n for n in names if isinstance(getattr(gainmtl, n), types.ModuleType)]\n"
        "import gainmtl.evaluate, gainmtl.predict\n"
        "assert callable(gainmtl.evaluate) and callable(gainmtl.predict)\n"
        "assert callable(gainmtl.datasets.load)\n"
        "print(sorted(m for m in sys.modules if m.startswith('gainmtl.') or m == 'ipywidgets'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert {"gainmtl.model", "gainmtl.datasets"} <= set(loaded)
    assert {"ipywidgets", *(f"gainmtl.{name}" for name in ON_DEMAND)} & set(loaded) == set()
