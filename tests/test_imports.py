"""The floors of the house: which package may import which, and no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("gainmtl", "gainbook.lab", "gainbook.chapters", "gainbook.render", "tools")
"""A package may import those before it. `gainbook.chapters.chNN_x` are apart from each other."""
DRAWING = {"matplotlib", "seaborn", "ipywidgets", "IPython"}
HEAVY = {"papermill", "nbformat", "distributed", "dask", "jupyter_book", "yaml"}


def _modules() -> dict[str, Path]:
    """Every module of the core, the book package and the tools by full name."""
    found = {}
    for base, folder in (("", "gainmtl"), ("book", "gainbook"), ("", "tools")):
        for path in sorted((ROOT / base / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def floor(module: str) -> int:
    """The place of a module's package in `FLOORS`."""
    if module == "gainbook":
        return 0
    return next(i for i, name in enumerate(FLOORS) if f"{module}.".startswith(f"{name}."))


def chapter(module: str) -> str | None:
    """The chapter's folder, or `None` outside `gainbook.chapters`."""
    parts = module.split(".")
    return parts[2] if module.startswith("gainbook.chapters.ch") else None


def statements(body: list[ast.stmt], top_level: bool) -> Iterator[ast.AST]:
    """The nodes that run; what only annotations need is no import."""
    for part in body:
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
            continue
        yield from [part] if top_level else ast.walk(part)


def imported(path: Path, top_level: bool = False) -> Iterator[str]:
    """Full names of what a file imports: `package.module` or `package.module.name`."""
    for node in statements(ast.parse(path.read_text("utf-8")).body, top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the floors"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path, top_level: bool = False) -> set[str]:
    """Our own modules that a file imports."""
    found = set()
    for name in imported(path, top_level):
        parts = name.split(".")
        stems = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        found |= {next(s for s in stems if s in MODULES)} if parts[0] in ROOTS else set()
    return found


ROOTS = {"gainmtl", "gainbook", "tools"}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    above = [other for other in own_imports(MODULES[name]) if floor(other) > floor(name)]
    assert above == []


@pytest.mark.parametrize("name", [name for name in MODULES if chapter(name)])
def test_chapters_do_not_import_each_other(name: str) -> None:
    others = {chapter(other) for other in own_imports(MODULES[name])} - {None, chapter(name)}
    assert others == set()


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph of imports, as a path that ends where it began; `[]` without one."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(graph))), [])


def test_no_circles() -> None:
    # A package's __init__ re-exports its modules; the modules import each other directly.
    graph = {name: own_imports(path) for name, path in MODULES.items() if path.stem != "__init__"}
    assert circle({name: others - {name} for name, others in graph.items()}) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    file = tmp_path / "types.py"
    file.write_text(
        "from gainmtl.model import GAINMTL\nfrom gainmtl import metrics, losses\n"
        "if TYPE_CHECKING:\n    from gainmtl import heads\n"
    )
    assert own_imports(file) == {"gainmtl.model", "gainmtl.metrics", "gainmtl.losses"}


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) < 2])
def test_core_and_lab_draw_nothing(name: str) -> None:
    tops = {module.split(".")[0] for module in imported(MODULES[name], top_level=True)}
    assert tops & DRAWING == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("gainmtl")])
def test_the_core_needs_nothing_of_the_book(name: str) -> None:
    tops = {module.split(".")[0] for module in imported(MODULES[name])}
    assert tops & (DRAWING | HEAVY | {"gainbook"}) == set()
