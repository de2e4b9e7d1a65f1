"""The code's address, the zip of the source, and the citation."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from gainbook.render.about import SOURCE, cite, get_code, source_files, write_source

import gainmtl

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (".gitignore", "Makefile", "a/b.py", "runs/x.bin", "_build/y", ".venv/z"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / ".gitignore").write_text("runs/\n_build/\n.venv/\n")
    return tmp_path


@pytest.mark.parametrize("has_git", [True, False])
def test_the_zip_holds_the_source_alone(checkout: Path, has_git: bool) -> None:
    if has_git:
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
        subprocess.run(["git", "add", "."], cwd=checkout, check=True)
    names = [path.relative_to(checkout).as_posix() for path in source_files(checkout)]
    assert names == [".gitignore", "Makefile", "a/b.py"]
    write_source(checkout, checkout / "_build" / SOURCE)
    first = (checkout / "_build" / SOURCE).read_bytes()
    with zipfile.ZipFile(checkout / "_build" / SOURCE) as archive:
        assert archive.namelist() == [f"gainmtl/{name}" for name in names]
        assert archive.read("gainmtl/a/b.py") == b"a/b.py"
    write_source(checkout, checkout / "_build" / SOURCE)
    assert (checkout / "_build" / SOURCE).read_bytes() == first


def test_the_address_is_one_setting(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("title: x\n")
    assert f'<a href="../{SOURCE}" download>' in get_code(tmp_path)
    assert f"unzip {SOURCE} && cd gainmtl" in get_code(tmp_path)
    (tmp_path / "_config.yml").write_text("repository: {url: https://example.org/g}\n")
    assert "git clone https://example.org/g gainmtl && cd gainmtl" in get_code(tmp_path)
    assert SOURCE not in get_code(tmp_path)


def test_the_citation_has_the_version_of_the_package() -> None:
    text = cite(ROOT)
    assert f"version = {{{gainmtl.__version__}}}" in text
    assert f"Version {gainmtl.__version__}" in text
    assert "author  = {{The gainmtl contributors}}" in text
