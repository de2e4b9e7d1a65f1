"""Atomic writing: what was there before stays, and the error names what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gainmtl.files import atomic_path, claimed, write_json


@pytest.mark.parametrize(
    ("kind", "found"), [(OSError, OSError), (PermissionError, PermissionError)]
)
def test_a_failed_write_leaves_the_file_and_names_what_to_do(
    tmp_path: Path, kind: type[OSError], found: type[OSError]
) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise kind("disk is full")

    with pytest.raises(found, match=r"expected to write .*a\.json.*disk is full.*Make room"):
        write()
    assert path.read_text() == "1\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("target", ["there.json", "sub/absent.json"])
def test_the_target_of_a_link_is_written(target: str, tmp_path: Path) -> None:
    write_json(tmp_path / "there.json", 1)
    link, inner = tmp_path / "link.json", tmp_path / "inner.json"
    inner.symlink_to(target)
    link.symlink_to(inner.name)
    write_json(link, 2)
    assert link.is_symlink()
    assert inner.is_symlink()
    assert (tmp_path / target).read_text() == link.read_text() == "2\n"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_can_t_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OSError, match=r"expected to write .*b\.json, but the system reports"):
        write_json(tmp_path / "a" / "b.json", 1)


def test_an_error_of_the_caller_is_his_own(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_path(tmp_path / "a"):
        raise KeyError("x")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources there")
def test_a_file_that_can_t_grow(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("before")
    code = f"""
import resource, torch
from safetensors.torch import save_file
from gainmtl.files import atomic_path
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_path({str(path)!r}) as temporary:
    save_file({{"a": torch.zeros(9999)}}, temporary)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OSError: expected to write" in done.stderr
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_folder_that_cannot_be_claimed_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # can't be opened, whoever tries it
    wanted = "expected a folder that can be written to"
    with pytest.raises(PermissionError, match=wanted), claimed(tmp_path):
        pass
