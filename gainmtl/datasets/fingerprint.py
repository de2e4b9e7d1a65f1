"""A data fingerprint: equal exactly when contents, labels, groups and split rule are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from gainmtl.datasets.images import file_stamp
from gainmtl.datasets.records import Record


def fingerprint(records: Sequence[Record], parameters: dict[str, Any]) -> str:
    """SHA-256 (hex) over the records sorted by name, their files' contents and `parameters`.

    Paths relative to the root enter, the root does not; the fold does not either, so that all
    folds of a study carry the same fingerprint.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for record in sorted(records, key=lambda record: record.name):
        digest.update(
            json.dumps(
                [record.name, record.is_defective, record.defect_type, record.split, record.group,
                 _contents(record.image), _contents(record.mask),
                 *([] if record.boxes is None else [record.boxes])]
            ).encode()
        )  # fmt: skip
    return digest.hexdigest()


def _contents(path: Path | None) -> str | None:
    return None if path is None else _hash(file_stamp(path))


@lru_cache(maxsize=1 << 18)
def _hash(stamp: tuple[str, int, int]) -> str:
    # Keyed by size and time of modification as well: further folds cost nothing, and a file
    # that was replaced is read again.
    return hashlib.sha256(Path(stamp[0]).read_bytes()).hexdigest()
