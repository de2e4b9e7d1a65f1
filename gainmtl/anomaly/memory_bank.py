"""The memory bank: the anomaly of a location is the distance to the nearest normal feature.

After PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022):
the bank contains a coreset of the features of normal images. Nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gainmtl.anomaly.base import SMOOTHING, Detector
from gainmtl.anomaly.teacher import Teacher


def greedy_coreset(rows: Tensor, size: int, dimensions: int = 64, seed: int = 0) -> Tensor:
    """(size,) indices of a subset of `rows` (N, D) with a small largest distance to other rows.

    Greedy k-center selection: each next index is the row farthest from all chosen rows. The largest
    distance is at most twice the optimum (Gonzalez, "Clustering to minimize the maximum
    intercluster distance", 1985). Distances are computed after a random projection to `dimensions`,
    if that is less than D.
    """
    count, depth = rows.shape
    if size >= count:
        return torch.arange(count, device=rows.device)
    generator = torch.Generator().manual_seed(seed)
    if depth > dimensions:
        along = torch.randn(depth, dimensions, generator=generator) / math.sqrt(dimensions)
        rows = rows @ along.to(rows)
    squares = (rows**2).sum(1)
    chosen = torch.empty(size, dtype=torch.long, device=rows.device)
    farthest = torch.randint(count, (), generator=generator).to(rows.device)
    nearest = torch.full_like(squares, math.inf)
    for i in range(size):
        chosen[i] = farthest
        distance = squares - 2 * (rows @ rows[farthest]) + squares[farthest]
        nearest = torch.minimum(nearest, distance)
        farthest = nearest.argmax()
    return chosen


def nearest_distance(rows: Tensor, bank: Tensor, chunk: int | None = 4096) -> Tensor:
    """(N,) Euclidean distance of each of `rows` (N, D) to the nearest row of `bank` (M, D).

    `chunk` rows at a time, or all at once.
    """
    squares = (bank**2).sum(1)
    parts = [
        ((part**2).sum(1) + (squares - 2 * part @ bank.T).amin(1)).clamp_min(0).sqrt()
        for part in ([rows] if chunk is None else rows.split(chunk))
    ]
    return torch.cat(parts) if parts else rows.new_zeros(0)


class MemoryBank(Detector):
    """Distance to the nearest feature of a normal image in the bank.

    The feature of a location concatenates the levels, resized to the finest grid of `strides`, each
    averaged over a neighbourhood.

    Args:
        backbone, weights, features, neighborhood, create_kwargs: of the `Teacher`.
        strides: the levels used; the published default leaves out stride 4.
        size: rows of the bank.
        candidates: largest number of training features that the coreset is drawn from.
        smoothing: see `SMOOTHING`.
        flat_field: width of the flat-field filter as a share of the side; 0 disables it.
        seed: of the candidates and the coreset.

    Raises:
        ValueError: not 1 <= size <= candidates, or as for `Teacher` and `Detector`.
    """

    kind: ClassVar[str] = "memory-bank"

    def __init__(
        self,
        backbone: str,
        weights: str | None = None,
        *,
        features: str = "raw",
        strides: tuple[int, ...] = (8, 16),
        size: int = 4000,
        candidates: int = 40_000,
        neighborhood: int = 3,
        smoothing: float = SMOOTHING,
        flat_field: float = 0.0,
        seed: int = 0,
        create_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not 1 <= size <= candidates:
            raise ValueError(
                f"memory bank: expected 1 <= size <= candidates, got size={size} and "
                f"candidates={candidates}"
            )
        config = {
            "backbone": backbone, "features": features, "strides": list(strides), "size": size,
            "candidates": candidates, "neighborhood": neighborhood, "smoothing": smoothing,
            "flat_field": flat_field, "seed": seed,
        }  # fmt: skip
        teacher = Teacher(backbone, weights, features, tuple(strides), create_kwargs, neighborhood)
        super().__init__(teacher, smoothing, 1, False, flat_field, config)
        self.size, self.candidates, self.seed = size, candidates, seed
        self.chunk: int | None = 4096
        """Of `nearest_distance`; the map does not depend on it."""
        self.register_buffer("bank", torch.zeros(0, sum(teacher.channels)))
        self.bank: Tensor

    def patches(self, images: Tensor) -> Tensor:
        """Features (B, D, h, w) of normalised images (B, 3, H, W)."""
        levels = self.teacher(images)
        size = levels[0].shape[2:]
        return torch.cat(
            [levels[0]] + [F.interpolate(x, size, mode="bilinear") for x in levels[1:]], 1
        )

    @torch.no_grad()
    def fill(self, images: Iterable[Tensor], total: int) -> None:
        """Fill the bank from batches (B, 3, H, W) in [0, 1] of `total` normal images in all.

        Every batch contributes the same share of its features to the candidates.
        """
        device = next(self.teacher.network.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        candidates = []
        for batch in images:
            rows = self.patches(self.preprocess(batch.to(device)))
            rows = rows.permute(0, 2, 3, 1).flatten(0, 2)
            share = min(1.0, self.candidates * len(batch) / total / len(rows))
            number = max(1, int(share * len(rows)))
            chosen = torch.randperm(len(rows), generator=generator)[:number]
            candidates.append(rows[chosen.to(device)])
        rows = torch.cat(candidates)
        self.bank = rows[greedy_coreset(rows, self.size, seed=self.seed)]

    def level_maps(self, images: Tensor) -> list[Tensor]:
        """One map (B, 1, h, w) of distances.

        Raises:
            RuntimeError: the bank is empty.
        """
        if not len(self.bank):
            raise RuntimeError("the memory bank is empty; fill it with normal images first")
        patches = self.patches(images)
        rows = patches.permute(0, 2, 3, 1).flatten(0, 2)
        distance = nearest_distance(rows, self.bank, self.chunk)
        return [distance.view(-1, 1, *patches.shape[2:])]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A new bank is empty, so its buffer first gets the length of the stored one.
        stored = state.get(f"{prefix}bank")
        if stored is not None:
            self.bank = self.bank.new_zeros(stored.shape)
        super()._load_from_state_dict(state, prefix, *rest)
