"""Run the book's notebooks and render it: _build/html/index.html.

Every notebook of _toc.yml runs through papermill in a process of its own, into a staged copy of
the book under _build/stage; Jupyter Book renders that copy without running anything. If Jupyter
Book ran the notebooks, it would not notice a change in the package, could not pass parameters,
and would end with 0 although a notebook failed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import yaml
from gainbook.lab.notebook_runner import Papermill, call_in_process, papermill_runner
from gainbook.render.about import SOURCE, write_source
from gainbook.render.api import api_pages

from gainmtl.files import claimed, output_folder

ROOT = Path(__file__).resolve().parents[1]
PROSE = ("_config.yml", "_toc.yml", "book")
CODE = ("gainbook", "gainbook.egg-info", "pyproject.toml")
"""Folders and files under `book` that are no pages."""
LOCK_SECONDS = 10.0
"""How long a build waits for another one."""


def toc_files(entry: Any) -> Iterator[str]:
    """The documents of a table of contents, in its order and spelling."""
    if isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        for key in ("parts", "chapters", "sections"):
            yield from toc_files(entry.get(key, []))
    elif isinstance(entry, list):
        for item in entry:
            yield from toc_files(item)


def notebooks(root: Path) -> list[Path]:
    """The notebooks of `root`'s _toc.yml, relative to it."""
    named = toc_files(yaml.safe_load((root / "_toc.yml").read_text("utf-8")))
    paths = [Path(name).with_suffix(".ipynb") for name in named if name.startswith("notebooks/")]
    if missing := [path.as_posix() for path in paths if not (root / path).is_file()]:
        raise SystemExit(f"_toc.yml names notebooks that don't exist: {', '.join(missing)}")
    return paths


def digest(paths: Iterable[Path], *words: str) -> str:
    """One hash of names and contents of files, those in folders included, and of `words`."""
    hasher = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                hasher.update(f"\0{file.relative_to(ROOT).as_posix()}\0".encode())
                hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()


def run_notebook(papermill: Papermill, source: Path, target: Path) -> bool:
    """Run `source` into `target`; whether it succeeded, after printing the reason if not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial.ipynb")
    output_dir = Path("_build") / "runs" / source.stem
    # Results of another version of the code would be refused, or read as if they were new.
    shutil.rmtree(ROOT / output_dir, ignore_errors=True)
    arguments = [str(source), str(partial), "-k", "python3", "--no-progress-bar"]
    started = time.monotonic()
    done = papermill([*arguments, "-p", "output_dir", output_dir.as_posix()])
    seconds = time.monotonic() - started
    if done.returncode:
        print(f"\n{source} FAILED after {seconds:.0f} s\n{done.stderr}", file=sys.stderr)
        partial.unlink(missing_ok=True)
        return False
    notebook = nbformat.read(partial, as_version=4)
    partial.unlink()
    tidy(notebook)
    # Slow: they import the chapters.
    from gainbook.render import page_check
    from gainbook.render.page_frame import frame

    appendix = frame(notebook, source.stem)
    found = stored_errors(notebook) + page_check.faults(notebook, source.stem)
    if appendix is not None:
        found += page_check.undescribed_pictures(appendix)
    if found:
        print(f"\n{source} FAILED: {'; '.join(found)}", file=sys.stderr)
        return False
    print(f"{source}: {seconds:.0f} s", flush=True)
    if appendix is not None:
        nbformat.write(appendix, appendix_of(target))
    nbformat.write(notebook, target)
    return True


def appendix_of(path: Path) -> Path:
    """The second page of a notebook."""
    return path.with_name(f"{path.stem}_appendix.ipynb")


def with_appendices(toc: str, appended: Collection[str]) -> str:
    """A table of contents in which every document of `appended` has its appendix below it."""
    tree = yaml.safe_load(toc)

    def visit(entry: Any) -> None:
        for key in ("parts", "chapters", "sections"):
            for one in entry.get(key, []):
                visit(one)
        if entry.get("file") in appended:
            entry["sections"] = [*entry.get("sections", []), {"file": f"{entry['file']}_appendix"}]

    visit(tree)
    return str(yaml.safe_dump(tree, sort_keys=False))


def stored_errors(notebook: Any) -> list[str]:
    """Errors among the outputs; Jupyter Book would show them and end with 0."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]


def tidy(notebook: Any) -> None:
    """Remove paths and times that papermill stores, and hide the cell that it inserts."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")


def is_appended(path: Path) -> bool:
    """Whether a notebook has an appendix."""
    from gainbook.render.page_frame import has_appendix

    return has_appendix(nbformat.read(path, as_version=4))


@functools.cache
def stored_results(root: Path) -> Any:
    """The stored results that pages take figures from, read once."""
    from gainbook.render import pages  # slow, and needed only where a page has a fill

    return pages.read_book(root)


def filled(file: Path, root: Path) -> str | None:
    """A page with its `% fill: <name>` lines replaced; `None` for a file without any."""
    if file.suffix != ".md" or "% fill: " not in (text := file.read_text("utf-8")):
        return None
    from gainbook.render import pages

    return pages.fill(text, stored_results(root))


def stage_prose(root: Path, stage: Path, generated: Mapping[str, str] | None = None) -> None:
    """Copy configuration and pages, the latter filled, and write the `generated` pages.

    A file that is up to date is left alone; one that has no source any more is removed.

    Args:
        generated: path below `root` -> text, in place of a file there.
    """
    sources = [root / name for name in PROSE]
    files = [f for s in sources for f in (s.rglob("*") if s.is_dir() else [s]) if f.is_file()]
    files = [f for f in files if not set(CODE) & set(f.relative_to(root).parts)]
    wanted: dict[Path, Path | str] = {
        stage / file.relative_to(root): filled(file, root) or file for file in files
    }
    wanted |= {stage / name: text for name, text in (generated or {}).items()}
    for target, source in wanted.items():
        content = source.encode() if isinstance(source, str) else source.read_bytes()
        if not (target.is_file() and target.read_bytes() == content):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for old in stage.rglob("*"):
        if old.is_file() and old not in wanted and old.suffix != ".ipynb":
            old.unlink()


def stage_notebooks(
    paths: list[Path], appended: set[Path], stage: Path, keys: Path, jobs: int
) -> bool:
    """Run the notebooks whose inputs changed; whether all of them succeeded.

    Args:
        appended: those of the notebooks that have an appendix.
    """
    # What notebooks read: the packages, reference results, weights, crops; not prose or styles.
    inputs = [ROOT / "gainmtl", ROOT / "requirements.lock"]
    inputs += sorted(folder for folder in (ROOT / "book").glob("[!._]*") if folder.is_dir())
    common = digest(inputs, sys.version)
    stale = []
    for path in paths:
        key = digest([ROOT / path], common)
        stored = keys / f"{path.stem}.key"
        if not (stage / path).is_file() or not stored.is_file() or stored.read_text() != key:
            stale.append((path, key))
    kept = {stage / path for path in paths} | {appendix_of(stage / path) for path in appended}
    for old in stage.rglob("*.ipynb"):
        if old not in kept:
            old.unlink()
    print(f"{len(paths) - len(stale)} of {len(paths)} notebooks are up to date", flush=True)
    if not stale:
        return True
    keys.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with papermill_runner(threads) as papermill, ThreadPoolExecutor(jobs) as pool:

        def run(path: Path, key: str) -> bool:
            (keys / f"{path.stem}.key").unlink(missing_ok=True)
            succeeded = run_notebook(papermill, path, stage / path)
            if succeeded:
                (keys / f"{path.stem}.key").write_text(key)
            return succeeded

        return all(list(pool.map(run, *zip(*stale, strict=True))))


def jupyter_book(arguments: list[str]) -> None:
    """Its command line."""
    from jupyter_book.cli.main import main as command_line  # type: ignore[import-untyped]

    os.chdir(ROOT)
    command_line(arguments)


def render(stage: Path, build: Path) -> bool:
    """Render all pages of the staged book, with warnings as errors; nothing if unchanged."""
    key = digest([stage], sys.version)
    stored = build / "keys" / "html.key"
    if stored.is_file() and stored.read_text() == key and (build / "html/index.html").is_file():
        print("the pages are up to date")
        return True
    stored.unlink(missing_ok=True)
    shutil.rmtree(build / "html", ignore_errors=True)
    # --all: a page that quotes a figure of another is not rebuilt when that one changes, and a
    # warning of an unchanged page is not repeated, so that a second try would pass.
    arguments = ["build", str(stage), "--path-output", str(build.parent)]
    arguments += ["--all", "-W", "-n", "--keep-going", "--quiet"]
    if call_in_process(jupyter_book, arguments):
        return False
    stored.write_text(key)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    jobs = max(1, parser.parse_args().jobs)
    with claimed(output_folder(ROOT / "_build"), LOCK_SECONDS):
        return build_book(ROOT / "_build", jobs)


def build_book(build: Path, jobs: int) -> int:
    """Stage, run and render; 0, or 1 if something failed."""
    stage = build / "stage"
    started = time.monotonic()
    paths = notebooks(ROOT)
    appended = {path for path in paths if is_appended(ROOT / path)}
    named = {path.with_suffix("").as_posix() for path in appended}
    # On demand: matplotlib, torch and the chapters.
    from gainbook.chapters.ch16_explorer.networks import NETWORKS, blank_parts
    from gainbook.render import paint

    judges = [network.judge for network in NETWORKS]
    files = paint.scripts(judges) | {"parts.js": paint.parts_script(judges, blank_parts())}
    generated = {
        **{f"book/{name}": text for name, text in api_pages(ROOT).items()},
        **{f"book/{paint.FOLDER}/{name}": text for name, text in files.items()},
        "_toc.yml": with_appendices((ROOT / "_toc.yml").read_text("utf-8"), named),
    }
    stage_prose(ROOT, stage, generated)
    if not stage_notebooks(paths, appended, stage, build / "keys", jobs):
        print("make book: a notebook failed, see above", file=sys.stderr)
        return 1
    if not render(stage, build):
        print("make book: the pages can't be rendered without warnings, see above", file=sys.stderr)
        return 1
    write_source(ROOT, build / "html" / SOURCE)
    print(f"{time.monotonic() - started:.0f} s: open {(build / 'html/index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
