"""Files and folders: atomic writing, strict JSON, and one clear error for a damaged file.

A killed run never leaves half a file, because files are renamed into place. Files from elsewhere
may be damaged all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


def user_path(path: str | Path) -> Path:
    """`path` with a leading `~` replaced by the home folder.

    A shell replaces it only at the beginning of a word: not in Python, in YAML or in `a=~/b`.

    Raises:
        TypeError: neither text nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"expected a path, as text or a pathlib.Path, got {path!r}")
    return Path(path).expanduser()


def check_output_folder(path: str | Path) -> None:
    """Raise what `output_folder` would raise, as far as that shows without writing."""
    folder = user_path(path)
    place = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not place.is_dir():
        raise NotADirectoryError(_NO_FOLDER.format(folder=folder))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(_NOT_WRITABLE.format(folder=folder, cause="access denied"))


_NO_FOLDER = (
    "output_dir: expected a folder, but {folder} or a part of this path is a file; give another "
    "output_dir, or move the file"
)
_NOT_WRITABLE = (
    "output_dir: expected a folder that can be written to, but for {folder} the system reports: "
    "{cause}. Give another output_dir, or change its permissions"
)


def output_folder(path: str | Path) -> Path:
    """`user_path` of a folder for results, made if it is missing and tested by writing a file.

    Raises:
        NotADirectoryError: the path, or a part of it, is a file.
        PermissionError: the folder can't be made or written to.
    """
    folder = user_path(path)
    test = folder / f".writable.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        test.touch()
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(_NO_FOLDER.format(folder=folder)) from error
    except OSError as error:
        message = _NOT_WRITABLE.format(folder=folder, cause=error.strerror)
        raise PermissionError(message) from error
    finally:
        with contextlib.suppress(OSError):
            test.unlink(missing_ok=True)
    return folder


@contextlib.contextmanager
def claimed(folder: str | Path, seconds: float = 0.0, name: str = ".lock") -> Iterator[None]:
    """Within the context no other run may claim `folder`, which must exist.

    The lock is the system's own, so it ends with the process, however that ends. Temporary files
    that killed runs left in the folder are removed.

    Args:
        seconds: how long to wait for another run to end; without a limit if negative.
        name: of the lock's file.

    Raises:
        RuntimeError: another run has claimed the folder.
        PermissionError: the folder can't be written to.
    """
    from filelock import FileLock, Timeout  # on demand: only training needs it

    try:
        lock = FileLock(user_path(folder) / name, timeout=seconds).acquire()
    except Timeout as error:
        raise RuntimeError(
            f"output_dir: expected a folder that no other run writes to, but a run is writing to "
            f"{folder}. Wait until it has ended, or give another output_dir"
        ) from error
    except OSError as error:
        message = _NOT_WRITABLE.format(folder=folder, cause=error.strerror)
        raise PermissionError(message) from error
    with lock:
        for pattern in (".*.tmp", ".tmp??????"):  # the latter of safetensors
            for left in user_path(folder).glob(pattern):
                left.unlink(missing_ok=True)
        yield


def _umask() -> int:
    """The process's permission mask; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed over `path`.

    Where `path` is a symbolic link, the file that it points to is replaced.

    Raises:
        OSError: nothing can be written there, for example on a full disk; `path` is unchanged.
    """
    path = user_path(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        # The permissions that a plain `open` gives: some writers make their files private.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except Exception as error:
        # safetensors has an error of its own for a full disk.
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        kind = type(error) if isinstance(error, PermissionError) else OSError
        raise kind(
            f"expected to write {path}, but the system reports: {error}. What was there before is "
            "unchanged. Make room, or correct the permissions, and start again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
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
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not whole JSON.
    """
    content = user_path(path).read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"expected a whole JSON file, but {path} ({len(content)} bytes) is damaged: {error}. "
            "Restore it from a copy, or remove it and make it again"
        ) from error


class TensorFile(NamedTuple):
    """The content of a safetensors file."""

    tensors: dict[str, Any]
    metadata: dict[str, str]


def read_tensors(path: str | Path) -> TensorFile:
    """Read a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, cut, or no safetensors file.
    """
    # On demand: the exported model's command line runs without torch.
    from safetensors import SafetensorError, safe_open

    size = Path(path).stat().st_size
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            return TensorFile(tensors, stored.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"expected a whole safetensors file, but {path} ({size} bytes) is empty, cut or of "
            f"another kind: {error}. Restore it from a copy, or remove it and make it again"
        ) from error


def file_digest(path: str | Path) -> str:
    """`sha256:` and the SHA-256 of a file's content."""
    with Path(path).open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
