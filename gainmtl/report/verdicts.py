"""The verdict table: a model's prediction for every image, and where its defect map peaks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from gainmtl.datasets.transforms import resize_pair, restore_map
from gainmtl.evaluation.prediction import predict
from gainmtl.files import atomic_path, user_path
from gainmtl.model import GAINMTL
from gainmtl.report.cases import Case
from gainmtl.report.overlays import file_stems, fit_to, map_pixels, overlay

OVERLAY_SIDES = 256, 1024
"""Smallest and largest longer side of an overlay in pixels, so that lines are thin and files small.
The map files keep the image's size."""
HIT, MISS = "hit", "miss"
FALSE_ALARM, RIGHT_REJECTION = "false alarm", "right rejection"


def verdict_table(
    models: Sequence[GAINMTL],
    cases: Sequence[Case],
    batch_size: int = 32,
    maps_dir: str | Path | None = None,
    map_limit: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Predict each case with the model of its fold; one row per case, in order.

    Columns: `name, split, fold, true_label, defect_type, group, has_mask, defect_probability,
    threshold, verdict` ("defective" if the probability is at least the threshold), `outcome` (hit,
    miss, false alarm, right rejection), `peak, peak_row, peak_column` (highest value of the defect
    map and its pixel), `peak_to_mask` (distance from the peak to the mask in pixels, 0 inside),
    `defect_area` (share of the image where the map is at least 0.5), `height, width, map_file,
    overlay_file`. Pixels are those of the image file. Unknown values are empty.

    Args:
        maps_dir: folder of the map files. The first `map_limit` cases (`None`: all) get two files
            in `maps_dir/<split>`: `<stem>.map.png`, the defect map at the image's size with 255 for
            1, and `<stem>.overlay.png`, whose longer side is 256 to 1024 pixels. Such files of an
            earlier run are removed first.

    Raises:
        ValueError: an unreadable file (names it), or a model that was never trained.
    """
    for model in models:
        if model.image_size is None:
            raise ValueError(
                "verdict_table: expected trained models, found one that was never trained, without "
                "an image size; fit it first, or load a trained one"
            )
    wanted = 0 if maps_dir is None else len(cases) if map_limit is None else map_limit
    stems = file_stems([case.name for case in cases])
    folder = None if maps_dir is None else user_path(maps_dir)
    if folder is not None:
        for old in (path for end in ("map", "overlay") for path in folder.rglob(f"*.{end}.png")):
            old.unlink()
    rows: list[dict[str, Any]] = []
    bar = tqdm(total=len(cases), desc="verdicts", disable=not progress)
    for (_, fold), group in itertools.groupby(cases, lambda case: (case.split, case.fold)):
        model, waiting = models[fold], list(group)
        for start in range(0, len(waiting), batch_size):
            chunk = waiting[start : start + batch_size]
            for case, row, defect_map in _predictions(model, chunk, batch_size):
                if folder is not None and len(rows) < wanted:
                    row |= _write_maps(case, defect_map, folder, stems[len(rows)])
                rows.append(row)
                bar.update()
    bar.close()
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


COLUMNS = {
    **dict.fromkeys(("name", "split"), "object"),
    "fold": "int64",
    **dict.fromkeys(("true_label", "defect_type", "group"), "object"),
    "has_mask": "boolean",
    **dict.fromkeys(("defect_probability", "threshold"), "float64"),
    **dict.fromkeys(("verdict", "outcome"), "object"),
    "peak": "float64",
    **dict.fromkeys(("peak_row", "peak_column"), "int64"),
    **dict.fromkeys(("peak_to_mask", "defect_area"), "float64"),
    **dict.fromkeys(("height", "width"), "int64"),
    **dict.fromkeys(("map_file", "overlay_file"), "object"),
}
"""The columns of `verdict_table` and of verdicts.csv."""


def write_verdicts(verdicts: pd.DataFrame, path: str | Path) -> None:
    """Write the table as CSV, atomically; bytes of names that are not valid UTF-8 are escaped."""
    with atomic_path(path) as temporary:
        verdicts.to_csv(temporary, index=False, errors="backslashreplace")


def defect_map_of(model: GAINMTL, case: Case) -> NDArray[np.float32]:
    """The defect map (H, W) in [0, 1] of one case, at the size of its image."""
    return next(_predictions(model, [case], 1))[2]


def _predictions(
    model: GAINMTL, chunk: list[Case], batch_size: int
) -> Iterator[tuple[Case, dict[str, Any], NDArray[np.float32]]]:
    """Each case with its row and its defect map (H, W)."""
    size = model.image_size
    assert size is not None
    images, shapes = [], []
    for case in chunk:
        pixels = case.read()
        images.append(resize_pair(pixels, None, size, model.resize)[0].float() / 255)
        shapes.append((pixels.shape[1], pixels.shape[2]))
    # Tensors of the network's size, not file names: for files `predict` returns all maps at the
    # size of their files, which takes gigabytes for a batch of photographs.
    predictions = predict(model, torch.stack(images), batch_size)
    for case, shape, small, values in zip(
        chunk, shapes, predictions.defect_maps, predictions.table.to_dict("records"), strict=True
    ):
        defect_map = restore_map(torch.from_numpy(small), shape, model.resize).numpy()
        yield case, _row(case, values, defect_map), defect_map


def _row(case: Case, values: dict[str, Any], defect_map: NDArray[np.float32]) -> dict[str, Any]:
    row, column = divmod(int(defect_map.argmax()), defect_map.shape[1])
    mask = case.read_mask()
    flagged = values["verdict"] == "defective"
    outcome = None
    if case.is_defective is not None:
        names = (HIT, MISS) if case.is_defective else (FALSE_ALARM, RIGHT_REJECTION)
        outcome = names[0] if flagged else names[1]
    return {
        "name": case.name,
        "split": case.split,
        "fold": case.fold,
        "true_label": case.true_label,
        "defect_type": case.defect_type,
        "group": case.group,
        "has_mask": None if not case.is_defective else mask is not None,
        "defect_probability": values["defect_probability"],
        "threshold": values["threshold"],
        "verdict": values["verdict"],
        "outcome": outcome,
        "peak": float(defect_map.max()),
        "peak_row": row,
        "peak_column": column,
        "peak_to_mask": math.nan if mask is None else _distance(row, column, mask),
        "defect_area": float((defect_map >= 0.5).mean()),
        "height": defect_map.shape[0],
        "width": defect_map.shape[1],
    }


def _distance(row: int, column: int, mask: Tensor) -> float:
    """Distance in pixels from (row, column) to the nearest marked pixel; the mask is not empty."""
    rows, columns = np.nonzero(mask[0].numpy())
    return float(np.hypot(rows - row, columns - column).min())


def _write_maps(
    case: Case, defect_map: NDArray[np.float32], folder: Path, stem: str
) -> dict[str, str]:
    pixels = case.read()
    side = int(np.clip(max(defect_map.shape), *OVERLAY_SIDES))
    drawn = overlay(fit_to(pixels, defect_map, case.read_mask(), side))
    files = {}
    for key, values in (("map", map_pixels(defect_map)), ("overlay", drawn)):
        path = folder / case.split / f"{stem}.{key}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(values).save(temporary, format="PNG")
        files[f"{key}_file"] = path.relative_to(folder.parent).as_posix()
    return files
