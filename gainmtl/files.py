"""Atomic writing, so that a killed run never leaves half a file, and strict JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def _umask() -> int:
    """The process's permission mask; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        # The permissions that a plain `open` gives: some writers make their files private.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """The JSON form of `value`: arrays become lists, NaN and infinities become `None`."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def _dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | Path, value: Any, lines: str | None = None) -> None:
    """Write `value` as strict JSON (no NaN), atomically.

    `lines` names a key of the object `value` that holds a long list. The list is written with one
    line per item, which takes a third of the space of an indented one.
    """
    if lines is None:
        text = _dumps(value, indent=1)
    else:
        items = ",\n".join(_dumps(item) for item in value[lines])
        rest = {key: [] if key == lines else item for key, item in value.items()}
        name = f"\n {_dumps(lines)}: ["  # this indent occurs only at keys of the outermost object
        text = _dumps(rest, indent=1).replace(f"{name}]", f"{name}\n{items}\n]")
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
