"""The book's sources are complete and accessible, and the build checks them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import yaml
from gainbook.render.page_check import undescribed_pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


build_book = load_script(ROOT / "tools" / "build_book.py")


def texts() -> list[tuple[str, str]]:
    """Every page and every markdown cell: its file's name, and its text."""
    pairs = [(page.name, page.read_text("utf-8")) for page in PAGES]
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        pairs += [(path.name, cell.source) for cell in cells if cell.cell_type == "markdown"]
    return pairs


def test_contents_and_files_agree() -> None:
    named = set(build_book.toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))))
    files = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES + NOTEBOOKS}
    assert named == files | {"book/api"}  # generated, see gainbook.render.api


def test_tables_that_cells_display_are_tables() -> None:
    """The default of MyST-NB, CommonMark, shows their source instead."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert config["sphinx"]["config"]["nb_render_markdown_format"] == "myst"


def test_files_named_by_the_configuration_exist() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    sphinx = config["sphinx"]["config"]
    static = ROOT / "book" / "_static"
    scripts = [entry if isinstance(entry, str) else entry[0] for entry in sphinx["html_js_files"]]
    names = [*sphinx["html_css_files"], *scripts]
    names += [sphinx["mathjax_path"], *sphinx["nb_ipywidgets_js"]]
    paths = [static / name for name in names]
    paths += [ROOT / config["logo"], ROOT / config["html"]["favicon"]]
    paths += [ROOT / name for name in config["bibtex_bibfiles"]]
    assert [path for path in paths if not path.is_file()] == []


def test_every_vendored_script_has_its_licence() -> None:
    vendors = [ROOT / "book" / "_static" / "vendor", ROOT / "book" / "vendor"]
    scripts = [one for vendor in vendors for one in vendor.rglob("*.*js")]
    assert len(scripts) > 3
    for script in scripts:
        licences = list(script.parent.glob("LICENSE*"))
        assert licences, f"{script.name} has no licence beside it"


def test_every_citation_has_an_entry_and_every_entry_a_key_of_its_own() -> None:
    bib = (ROOT / "book" / "references.bib").read_text("utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", bib, re.M)
    assert len(keys) == len(set(keys))
    cited = {
        key.strip()
        for _, text in texts()
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in group.split(",")
    }
    assert cited - set(keys) == set()


@pytest.mark.parametrize(("where", "text"), texts(), ids=[where for where, _ in texts()])
def test_pictures_in_prose_have_an_alternative_text(where: str, text: str) -> None:
    assert re.findall(r"!\[\s*\]\(", text) == []
    figures = re.findall(r"^(?:```|:::)\{(?:image|figure)\}(.*?)^(?:```|:::)", text, re.M | re.S)
    assert [figure for figure in figures if not re.search(r"^:alt:\s*\S", figure, re.M)] == []
    assert [
        tag for tag in re.findall(r"<img\b[^>]*>", text) if not re.search(r'alt="[^"]', tag)
    ] == []


def test_toc_is_read_in_order() -> None:
    toc = {"root": "a", "parts": [{"chapters": [{"file": "b", "sections": [{"file": "c"}]}]}]}
    assert list(build_book.toc_files(toc)) == ["a", "b", "c"]


def test_a_notebook_that_is_named_but_missing_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "_toc.yml").write_text("root: book/intro\nchapters: [{file: notebooks/01_none}]\n")
    with pytest.raises(SystemExit, match="01_none"):
        build_book.notebooks(tmp_path)


def test_stored_errors_are_listed_and_paths_and_times_removed() -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    code = nbformat.v4.new_code_cell("1 / 0", outputs=[error])
    injected = nbformat.v4.new_code_cell("epochs = 3")
    injected.metadata["tags"] = ["injected-parameters"]
    injected.metadata["papermill"] = {"duration": 1.0}
    notebook = nbformat.v4.new_notebook(cells=[code, injected])
    notebook.metadata["papermill"] = {"input_path": "somewhere"}
    assert build_book.stored_errors(notebook) == ["ValueError: no"]
    build_book.tidy(notebook)
    assert "papermill" not in json.dumps(notebook)
    assert injected.metadata.tags == ["injected-parameters", "remove-cell"]


def test_a_picture_needs_an_alternative_text_and_a_caption() -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "Figure"})
    cell = nbformat.v4.new_code_cell("draw()\nplt.show()", outputs=[picture])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert "cell 0 ('draw()')" in undescribed_pictures(notebook)[0]
    cell.metadata["mystnb"] = {"image": {"alt": "A bump"}, "figure": {"caption": " "}}
    assert len(undescribed_pictures(notebook)) == 1
    cell.metadata["mystnb"] = {"image": {"alt": "A bump"}, "figure": {"caption": "A bump."}}
    assert undescribed_pictures(notebook) == []


def test_the_hash_depends_on_contents_names_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_book, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("1")
    first = build_book.digest([tmp_path], "x")
    assert build_book.digest([tmp_path], "x") == first
    assert build_book.digest([tmp_path], "y") != first
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("2")
    assert build_book.digest([tmp_path], "x") == first
    (tmp_path / "a.py").write_text("2")
    changed = build_book.digest([tmp_path], "x")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, changed, build_book.digest([tmp_path], "x")}) == 3


def test_staging_copies_what_changed_and_drops_what_is_gone(tmp_path: Path) -> None:
    root, stage = tmp_path / "root", tmp_path / "stage"
    (root / "book").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "book/a.md", "book/b.md"):
        (root / name).write_text(name)
    build_book.stage_prose(root, stage)
    before = (stage / "book/a.md").stat().st_mtime_ns
    (root / "book/b.md").unlink()
    (stage / "notebooks").mkdir()
    (stage / "notebooks/01.ipynb").write_text("{}")
    build_book.stage_prose(root, stage)
    left = {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()}
    assert left == {"_config.yml", "_toc.yml", "book/a.md", "notebooks/01.ipynb"}
    assert (stage / "book/a.md").stat().st_mtime_ns == before
    build_book.stage_prose(root, stage, {"book/api/c.md": "# C"})
    assert (stage / "book/api/c.md").read_text() == "# C"


def test_an_appendix_stands_below_its_chapter() -> None:
    toc = "root: book/intro\nparts:\n- chapters:\n  - file: notebooks/a\n  - file: notebooks/b\n"
    tree = yaml.safe_load(build_book.with_appendices(toc, ["notebooks/b"]))
    chapters = [{"file": "notebooks/a"}]
    chapters.append({"file": "notebooks/b", "sections": [{"file": "notebooks/b_appendix"}]})
    assert tree == {"root": "book/intro", "parts": [{"chapters": chapters}]}


def test_staging_fills_pages_from_the_stored_runs(tmp_path: Path) -> None:
    root, stage = tmp_path / "root", tmp_path / "stage"
    (root / "book").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        (root / name).write_text(name)
    (root / "book" / "a.md").write_text("# A\n\n% fill: headlines\n")
    build_book.stage_prose(root, stage)
    page = stage / "book" / "a.md"
    assert "There are no reference results yet" in page.read_text()
    before = page.stat().st_mtime_ns
    build_book.stage_prose(root, stage)
    assert page.stat().st_mtime_ns == before
    assert "% fill" in (root / "book" / "a.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_named_figure_is_alone_in_its_cell(path: Path) -> None:
    """Text that the same cell displays would get the figure's name too: two targets of a name."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
            assert "Markdown(" not in cell.source, f"cell {number}"


def test_names_that_pages_link_to_exist() -> None:
    """Sphinx checks links to the core only: the book's package has no page per name."""
    roles = re.compile(r"\{py:\w+\}`(?:[^`]*<)?(gain(?:mtl|book)[\w.]*)>?`")
    names = {name for _, text in texts() for name in roles.findall(text)}
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether there is a module, or a name in one, of that full name."""
    try:
        importlib.import_module(name)
    except ImportError:
        owner, _, last = name.rpartition(".")
        return bool(owner) and exists(owner) and hasattr(importlib.import_module(owner), last)
    return True
