"""Conflict between loss terms: the angles between their gradients on the shared weights.

Two terms conflict if their gradients have a negative cosine (Yu et al., "Gradient surgery for
multi-task learning", NeurIPS 2020): a small step along the gradient that lowers one term raises the
other.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from gainmtl.datasets.checks import whole
from gainmtl.interface import DefectModel
from gainmtl.types import Batch, Sample, collate

Array = NDArray[np.float64]
PREFIXES = ("cosine", "pull")
"""Of columns in `fit`'s history: `cosine.<a>.<b>` is the cosine of a pair of terms, `pull.<a>` the
length of a term's weighted gradient."""


def flat_gradients(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """The gradient of each of K scalar losses by all N entries of `parameters`, (K, N), float64.

    The gradient is zero for a parameter that a loss does not depend on, and for a loss without a
    graph. `parameter.grad` does not change; the graph is kept.
    """
    rows = []
    for loss in losses:
        gradients: Sequence[Tensor] = [torch.zeros_like(p) for p in parameters]
        if loss.requires_grad:
            gradients = torch.autograd.grad(
                loss, parameters, retain_graph=True, materialize_grads=True
            )
        rows.append(torch.cat([g.detach().double().flatten() for g in gradients]))
    return torch.stack(rows)


def cosines(gradients: Tensor) -> Tensor:
    """The cosines (K, K) in [-1, 1] between K gradients (K, P).

    `cos_ij = g_i . g_j / (|g_i| |g_j|)`. NaN, on the diagonal too, for a zero gradient, which has
    no direction. The cosines do not depend on positive weights of the losses.
    """
    lengths = gradients.norm(dim=1)
    units = gradients / torch.where(lengths > 0, lengths, math.nan)[:, None]
    return (units @ units.T).clamp(-1, 1)


class Conflict(NamedTuple):
    """The active terms at one point of a run, with cosines and lengths of their gradients."""

    terms: tuple[str, ...]
    cosines: Array
    """(K, K) in [-1, 1], NaN for a term without gradient."""
    pulls: Array
    """(K,), the lengths `w_k |g_k|` of the weighted gradients."""

    @property
    def pairs(self) -> Array:
        """The cosines above the diagonal, without those of a term without gradient."""
        above = self.cosines[np.triu_indices(len(self.terms), 1)]
        return above[~np.isnan(above)]

    @property
    def conflicting_share(self) -> float:
        """Share of the pairs whose cosine is negative; NaN without a pair."""
        return float((self.pairs < 0).mean()) if len(self.pairs) else math.nan

    @property
    def mean_cosine(self) -> float:
        """The mean over pairs; NaN without a pair."""
        return float(self.pairs.mean()) if len(self.pairs) else math.nan

    def with_others(self, term: str) -> float:
        """The cosine between a term's gradient and the weighted sum of all other gradients.

        If it is negative, the rest of the loss works against this term. It follows from cosines and
        lengths, since `g_i . g_j = |g_i| |g_j| cos_ij`. NaN if one of the two vectors is zero.
        """
        if term not in self.terms:
            return math.nan
        index = self.terms.index(term)
        others = [
            k for k in range(len(self.terms)) if k != index and not np.isnan(self.cosines[k, k])
        ]
        pulls = self.pulls[others]
        squared = float(pulls @ self.cosines[np.ix_(others, others)] @ pulls)
        # A sum of gradients that cancel is not exactly zero after rounding.
        if squared <= 1e-12 * float((pulls**2).sum()):
            return math.nan
        return float(np.clip(pulls @ self.cosines[index, others] / math.sqrt(squared), -1, 1))


def conflict(
    losses: Mapping[str, Tensor], weights: Mapping[str, float], parameters: Sequence[nn.Parameter]
) -> Conflict:
    """The `Conflict` of named scalar losses with these weights on `parameters`."""
    gradients = flat_gradients(list(losses.values()), parameters)
    pulls = gradients.norm(dim=1).cpu() * torch.tensor([weights[name] for name in losses])
    return Conflict(
        tuple(losses), cosines(gradients).cpu().numpy(), pulls.numpy().astype(np.float64)
    )


def probe_batch(dataset: Dataset[Sample], count: int) -> Batch:
    """`count` images of a training set without augmentation, half of them defective with a mask.

    Defective and normal images alternate; both are evenly spaced in the order of the set, so the
    batch is a function of the set alone.

    Raises:
        ValueError: no whole count from two, or no image of one of the two kinds.
    """
    whole("probe", count, 2, 2**31)
    labels, masked = (np.asarray(getattr(dataset, name)) for name in ("labels", "has_mask"))
    kinds = [np.flatnonzero(labels & masked), np.flatnonzero(~labels)]
    if not all(map(len, kinds)):
        raise ValueError(
            "probe: expected a masked defective and a normal image in the training set; got "
            f"{len(kinds[0])} and {len(kinds[1])}"
        )
    half = min(count // 2, *map(len, kinds))
    chosen = [kind[np.linspace(0, len(kind) - 1, half).round().astype(int)] for kind in kinds]
    return collate([dataset[int(index)] for index in np.stack(chosen, 1).flatten()])


def measure(model: DefectModel, batch: Batch, progress: float) -> Conflict:
    """The conflict of `model`'s active terms at `progress` on the backbone's trainable parameters.

    Computed on a copy in training mode without dropout, so that weights, running statistics and
    random numbers of the run stay unchanged.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = copy.deepcopy(model).train()
        for module in twin.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        device = next(twin.parameters()).device
        moved: dict[str, Any] = {
            k: v.to(device) for k, v in batch._asdict().items() if isinstance(v, Tensor)
        }
        with torch.enable_grad():
            losses = twin.training_step(batch._replace(**moved), progress)
            trainable = [p for p in twin.backbone.parameters() if p.requires_grad]
            return conflict(losses, twin.strategy.weights_at(progress).asdict(), trainable)


def as_columns(measured: Conflict) -> dict[str, float]:
    """Columns of a row of `fit`'s history; undefined cosines are left out."""
    columns = {
        f"pull.{term}": float(pull)
        for term, pull in zip(measured.terms, measured.pulls, strict=True)
    }
    for (i, a), (j, b) in itertools.combinations(enumerate(measured.terms), 2):
        if not math.isnan(measured.cosines[i, j]):
            columns[f"cosine.{a}.{b}"] = float(measured.cosines[i, j])
    return columns


def from_columns(row: Mapping[str, float]) -> Conflict:
    """The inverse of `as_columns`; the row may hold other columns, and NaN for inactive terms."""
    columns = {k: float(v) for k, v in row.items() if str(k).startswith(PREFIXES)}
    columns = {name: value for name, value in columns.items() if not math.isnan(value)}
    terms = tuple(name.split(".")[1] for name in columns if name.startswith("pull."))
    pulls = np.array([columns[f"pull.{term}"] for term in terms])
    cosines = np.full((len(terms), len(terms)), math.nan)
    np.fill_diagonal(cosines, np.where(pulls > 0, 1.0, math.nan))
    for name, value in columns.items():
        if name.startswith("cosine."):
            i, j = (terms.index(term) for term in name.split(".")[1:])
            cosines[i, j] = cosines[j, i] = value
    return Conflict(terms, cosines, pulls)
