"""Parts of DeepPCB: folds by pair or by design, designs held out, budgets of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.checks import check_settings
from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.deep_pcb.dataset import BITS, TileDataset
from gainmtl.datasets.deep_pcb.pairs import PCB_TREE, read_pairs
from gainmtl.datasets.deep_pcb.settings import PcbSettings
from gainmtl.datasets.deep_pcb.tiles import Tile, cut
from gainmtl.datasets.image_dataset import fits_in_memory
from gainmtl.datasets.records import Record, check_both_kinds, fingerprint, no_category
from gainmtl.datasets.splits import add_validation, assign_folds, official_parts
from gainmtl.datasets.subsets import limit_labels, limit_test
from gainmtl.types import NORMAL


def load(
    root: str | Path | None,
    settings: Mapping[str, Any],
    *,
    image_size: int,
    fold: int,
    folds: int,
    seed: int,
    resize: str,
    validation: float,
    category: str | None,
    split: str,
    cache: bool | str,
) -> Data:
    """DeepPCB's tiles in three parts; see `gainmtl.datasets.load` for the arguments.

    The group of a tile is its pair. `split`:

    - "folds": folds by pair, stratified by design. They differ by at most one pair per design.
    - "designs": folds by design. Each goes to the fold with the fewest designs, then the fewest
      defective tiles, in the order of their defective tiles, largest first. The seven designs of
      the authors' training list make the five folds 00041, 13000, 20085, 44000 with 77000, and
      50600 with 92000. `test_designs` names the tested designs instead; then there is one fold.
    - "official": the authors' lists, if they are there. "auto" takes `test_designs`, else the
      lists, else "folds".
    - "leaking": folds by tile.

    The validation part is a share of the training pairs, stratified by design. With a split by
    design the threshold is therefore chosen on the designs of training, not on the tested ones.

    Args:
        settings: of `PcbSettings`.

    Raises:
        FileNotFoundError, ValueError: as `read_pairs`, `PcbSettings` and `cut`; a split that does
            not exist; only normal or only defective tiles.
    """
    no_category(category, "deep-pcb")
    check_settings(PcbSettings, settings, "deep-pcb")
    chosen = PcbSettings(**settings)
    if root is None:
        raise ValueError(f"The dataset 'deep-pcb' needs a root. Expected:{PCB_TREE}")
    if chosen.test_designs and split not in ("auto", "designs"):
        raise ValueError(
            "split: expected 'auto' or 'designs', because test_designs makes the split; got "
            f"{split!r}."
        )
    pairs = chosen.pairs_of(read_pairs(root))
    tiles = sorted((t for p in pairs for t in cut(p, chosen.tile)), key=lambda tile: tile.name)
    records = [_record(tile, chosen.test_designs) for tile in tiles]
    check_both_kinds(records, root, PCB_TREE)
    used = split
    if split == "auto":
        used = "designs" if chosen.test_designs else "official" if pairs[0].split else "folds"
    # Designs differ more than types of defects do, and nearly every pair has most of the types.
    by_design = [
        record._replace(defect_type=tile.pair.design) if record.is_defective else record
        for record, tile in zip(records, tiles, strict=True)
    ]
    if used == "official" or chosen.test_designs:
        folds = 1
        parts = official_parts(records, root, fold)
    else:
        if used == "designs":
            number = _folds_by_design(records, tiles, folds, seed)
        else:
            number = assign_folds(by_design, folds, seed, random_split=used == "leaking")
        parts = np.where(number == fold, "test", "train")
    add_validation(parts, by_design, validation, seed, random_split=used == "leaking")
    if cache == "auto":
        cache = fits_in_memory(len(pairs), max(max(pair.size) for pair in pairs), BITS / 8)
    pieces = {
        part: TileDataset(
            [tile for tile, p in zip(tiles, parts, strict=True) if p == part],
            image_size, resize, chosen.masks, "tested" if part == "test" else chosen.normals,
            bool(cache),
        )
        for part in ("train", "val", "test")
    }  # fmt: skip
    rule = {
        "layout": "deep-pcb", "split": used, "folds": folds, "seed": seed, "validation": validation,
        "tile": chosen.tile, "normals": chosen.normals, "masks": chosen.masks,
        "test_designs": sorted(chosen.test_designs),
        "defects": {pair.name: pair.defects for pair in pairs},
    }  # fmt: skip
    data = Data(
        name="deep-pcb", train=pieces["train"], val=pieces["val"], test=pieces["test"],
        fingerprint=fingerprint(records, rule), image_size=image_size, fold=fold, folds=folds,
        split=used,
        counts={part: counts_of(piece) for part, piece in pieces.items()},
    )  # fmt: skip
    data = limit_labels(data, chosen.defective, chosen.normal, chosen.draw)
    return limit_test(data, chosen.test_tiles, chosen.draw)


def _record(tile: Tile, test_designs: Sequence[str]) -> Record:
    """A tile for the functions that split and hash records."""
    pair, split = tile.pair, tile.pair.split
    if test_designs:
        split = "test" if pair.design in test_designs else "train"
    return Record(
        pair.tested, None, tile.is_defective, tile.defect_type, split, pair.name, tile.name,
        twin=pair.template,
    )  # fmt: skip


def _folds_by_design(
    records: Sequence[Record], tiles: Sequence[Tile], folds: int, seed: int
) -> NDArray[np.int64]:
    """(N,) the fold in which each tile's design is tested."""
    designs = sorted({tile.pair.design for tile in tiles})
    if len(designs) < folds:
        raise ValueError(
            f"Expected at least as many designs as folds ({folds}); found {len(designs)}: "
            f"{', '.join(designs)}. Use fewer folds."
        )
    units = [
        record._replace(
            group=tile.pair.design, defect_type="any" if record.is_defective else NORMAL
        )
        for record, tile in zip(records, tiles, strict=True)
    ]
    return assign_folds(units, folds, seed)
