"""How a reader of the built book gets its code and cites it."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

import gainmtl

SOURCE = "gainmtl-source.zip"
"""The checkout's files, in the built book beside `index.html`."""
_SKIPPED = {"_build", "runs", "__pycache__"}


def _git(root: Path, *words: str) -> str:
    """The output of a git command, or nothing where `root` is no checkout."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout


def source_files(root: Path) -> list[Path]:
    """The files under version control; without git, all but hidden, built and run ones."""
    listed = _git(root, "ls-files", "-z").split("\0")[:-1]
    found: Iterable[Path] = [root / name for name in listed] or root.rglob("*")
    kept = []
    for path in found:
        parts = path.relative_to(root).parts
        is_hidden = not listed and any(part.startswith(".") for part in parts[:-1])
        is_built = not listed and any(p in _SKIPPED or p.endswith(".egg-info") for p in parts)
        if path.is_file() and not is_hidden and not is_built:
            kept.append(path)
    return sorted(kept)


def write_source(root: Path, path: Path) -> None:
    """Write a zip of `source_files` below a folder `gainmtl/`; equal files give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in source_files(root):
            entry = zipfile.ZipInfo(f"gainmtl/{file.relative_to(root).as_posix()}")
            entry.external_attr = file.stat().st_mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())


def get_code(root: Path) -> str:
    """Where the code is, and the two commands: a block of Markdown.

    The address is `repository.url` of `_config.yml`; while there is none, the zip beside the pages.
    """
    config: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    url = config.get("repository", {}).get("url")
    first = f"git clone {url} gainmtl" if url else f"unzip {SOURCE}"
    place = (
        f"The code is at <{url}>."
        if url
        else f'<a href="../{SOURCE}" download>{SOURCE}</a> holds the code of this book.'
    )
    return (
        f"{place} Python 3.11 or newer and make are enough:\n\n"
        f"```bash\n{first} && cd gainmtl\n"
        "make book   # install, run every notebook, render this book\n"
        "make test   # linter, type checker, tests\n```"
    )


def cite(root: Path) -> str:
    """Version, date and a BibTeX entry from `CITATION.cff`: a block of Markdown."""
    about = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    date, commit = (_git(root, "log", "-1", f"--format={key}").strip() for key in ("%cs", "%h"))
    authors = " and ".join(
        f"{{{a['name']}}}" if "name" in a else f"{a['family-names']}, {a['given-names']}"
        for a in about["authors"]
    )
    fields = {"title": f"{{{about['title']}}}", "author": authors, "version": about["version"]}
    fields |= {"year": date[:4], "note": f"commit {commit}"} if date else {}
    lines = "\n".join(f"  {key:7} = {{{value}}}," for key, value in fields.items())
    when = f", {date}, commit `{commit}`" if date else ""
    return (
        f"Version {gainmtl.__version__}{when}.\n\n"
        f"```bibtex\n@software{{gainmtl,\n{lines}\n}}\n```\n\n"
        "Please also cite the papers whose methods and data you use: [](references.md)."
    )
