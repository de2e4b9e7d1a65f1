"""Do the terms of a loss pull together? The angles between their gradients on the shared weights.

Two terms conflict where their gradients have a negative cosine (Yu et al., Gradient surgery for
multi-task learning, 2020): a small step that lowers one raises the other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from gainmtl.interface import Inspector
from gainmtl.types import Batch, Sample, collate

Array = NDArray[np.float64]
PREFIXES = ("cosine", "pull")
"""Of the columns of `fit`'s history: `cosine.<a>.<b>` for a pair of terms, `pull.<a>` for the
length of a term's weighted gradient."""


def flat_gradients(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """The gradient of each of K scalar losses by all N entries of `parameters`, (K, N), float64.

    A parameter that a loss does not reach, or a loss without any gradient, counts as zero. Nothing
    is accumulated in `parameter.grad`; the graph is kept.
    """
    rows = []
    for loss in losses:
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        parts = [
            torch.zeros(p.numel(), dtype=torch.float64, device=p.device)
            if g is None
            else g.detach().double().flatten()
            for g, p in zip(found, parameters, strict=True)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def cosines(gradients: Tensor) -> Tensor:
    """The cosines (K, K) in [-1, 1] between K gradients (K, P).

    `cos_ij = g_i . g_j / (|g_i| |g_j|)`. NaN, the diagonal included, for a gradient that is zero:
    it has no direction. A positive weight on a loss changes nothing.
    """
    lengths = gradients.norm(dim=1)
    units = gradients / torch.where(lengths > 0, lengths, math.nan)[:, None]
    return (units @ units.T).clamp(-1, 1)


class Conflict(NamedTuple):
    """The terms in force at one moment, their directions and how hard they pull."""

    terms: tuple[str, ...]
    cosines: Array
    """(K, K) in [-1, 1], NaN for a term without gradient."""
    pulls: Array
    """(K,), the lengths `w_k |g_k|` of the weighted gradients."""

    @property
    def pairs(self) -> Array:
        """The cosines above the diagonal, those of a term without gradient left out."""
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
        """The cosine between a term's gradient and the weighted sum of all the others'.

        Negative: the rest of the loss undoes what this term does. From the cosines and lengths
        alone, since `g_i . g_j = |g_i| |g_j| cos_ij`. NaN where either is zero.
        """
        if term not in self.terms:
            return math.nan
        own = self.terms.index(term)
        others = [
            k for k in range(len(self.terms)) if k != own and not np.isnan(self.cosines[k, k])
        ]
        pulls = self.pulls[others]
        squared = float(pulls @ self.cosines[np.ix_(others, others)] @ pulls)
        # Rounding leaves a little of a sum that cancels.
        if squared <= 1e-12 * float((pulls**2).sum()):
            return math.nan
        return float(np.clip(pulls @ self.cosines[own, others] / math.sqrt(squared), -1, 1))


def conflict(
    losses: Mapping[str, Tensor],
    weights: Mapping[str, float],
    parameters: Sequence[nn.Parameter],
) -> Conflict:
    """How named scalar losses pull at `parameters` under these weights."""
    gradients = flat_gradients(list(losses.values()), parameters)
    pulls = gradients.norm(dim=1).cpu() * torch.tensor([weights[name] for name in losses])
    return Conflict(
        tuple(losses), cosines(gradients).cpu().numpy(), pulls.numpy().astype(np.float64)
    )


def probe_batch(dataset: Dataset[Sample], count: int) -> Batch:
    """`count` images of a training set, not augmented: half of them defective with a mask, evenly
    spaced in the set's order, a defective and a normal one in turn. A function of the set alone.

    Raises:
        ValueError: fewer than two images asked for, or one of the two kinds missing.
    """
    labels, masked = (np.asarray(getattr(dataset, name)) for name in ("labels", "has_mask"))
    kinds = [np.flatnonzero(labels & masked), np.flatnonzero(~labels)]
    if count < 2 or not all(map(len, kinds)):
        raise ValueError(
            f"probe: expected at least 2 images, and a masked defective and a normal one in the "
            f"training set; got {count}, {len(kinds[0])} and {len(kinds[1])}"
        )
    half = min(count // 2, *map(len, kinds))
    chosen = [kind[np.linspace(0, len(kind) - 1, half).round().astype(int)] for kind in kinds]
    return collate([dataset[int(index)] for index in np.stack(chosen, 1).flatten()])


def measure(model: Inspector, batch: Batch, progress: float) -> Conflict:
    """The conflict of `model`'s terms in force at `progress` on the backbone's free parameters.

    Of a copy, as training runs it but without dropout: no weight, running statistic or random
    number of the run is touched.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = copy.deepcopy(model).train()
        for module in twin.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        device = next(twin.parameters()).device
        there: dict[str, Any] = {
            k: v.to(device) for k, v in batch._asdict().items() if isinstance(v, Tensor)
        }
        with torch.enable_grad():
            losses = twin.training_step(batch._replace(**there), progress)
            free = [p for p in twin.backbone.parameters() if p.requires_grad]
            return conflict(losses, twin.strategy.weights_at(progress).asdict(), free)


def as_facts(found: Conflict) -> dict[str, float]:
    """A row of `fit`'s history: what is undefined is left out."""
    facts = {
        f"pull.{term}": float(pull) for term, pull in zip(found.terms, found.pulls, strict=True)
    }
    for i, a in enumerate(found.terms):
        for j in range(i + 1, len(found.terms)):
            if not math.isnan(found.cosines[i, j]):
                facts[f"cosine.{a}.{found.terms[j]}"] = float(found.cosines[i, j])
    return facts


def from_facts(row: Mapping[str, float]) -> Conflict:
    """`as_facts` backwards, from a row that may hold other columns and NaN for what was off."""
    given = {k: float(v) for k, v in row.items() if str(k).startswith(PREFIXES)}
    given = {name: value for name, value in given.items() if not math.isnan(value)}
    terms = tuple(name.split(".")[1] for name in given if name.startswith("pull."))
    pulls = np.array([given[f"pull.{term}"] for term in terms])
    cosines = np.full((len(terms), len(terms)), math.nan)
    np.fill_diagonal(cosines, np.where(pulls > 0, 1.0, math.nan))
    for name, value in given.items():
        if name.startswith("cosine."):
            i, j = (terms.index(term) for term in name.split(".")[1:])
            cosines[i, j] = cosines[j, i] = value
    return Conflict(terms, cosines, pulls)
