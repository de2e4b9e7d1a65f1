"""What a network has learned of a weak feature beside a strong one: each alone, and both together.

`datasets.synthetic.two_features` renders the parts. Each defective part is scored with both
features, with the strong one alone and with the weak one alone, on the same surface in the same
light, and compared with normal parts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainbook.chapters.ch12_fostering.sharpness import evidence_bias
from gainbook.lab.seed_study import figure
from gainmtl import metrics
from gainmtl.datasets.synthetic.two_features import FEATURES, TwoFeatures
from gainmtl.model import GAINMTL
from gainmtl.types import Outputs

SHOWN: dict[str, tuple[str, ...]] = {"both": FEATURES, "strong": ("strong",), "weak": ("weak",)}
"""The features in an image of a defective part."""
REACH = 4
"""Masks are grown by this many pixels before energy is counted on them: a cell of stride 4 that
touches the feature counts as on it."""


class FeatureScores(NamedTuple):
    """The outputs of a model for D defective parts with each choice of features, and N normal."""

    probability: dict[str, Tensor]
    """By `SHOWN`, (D,) defect probabilities; under "normal" (N,)."""
    evidence: dict[str, Tensor]
    """By `SHOWN`, (D, 1, h, w) evidence from the verdict's zero; positive values speak for a
    defect."""
    masks: dict[str, Tensor]
    """By feature, (D, 1, H, W), 0 or 1: grown masks."""


def grown(masks: Tensor, reach: int = REACH) -> Tensor:
    """Masks (B, 1, H, W) grown by `reach` pixels in both directions, a square neighbourhood."""
    return torch.nn.functional.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)


@torch.no_grad()
def score_features(model: GAINMTL, parts: TwoFeatures, batch_size: int = 64) -> FeatureScores:
    """Score every part of a split; the model gets images alone."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    bad, good = (np.flatnonzero(parts.labels == kind).tolist() for kind in (True, False))

    def outputs(images: list[Tensor]) -> tuple[Tensor, Tensor]:
        probability, evidence = [], []
        for start in range(0, len(images), batch_size):
            batch = torch.stack(images[start : start + batch_size]).to(device)
            out: Outputs = model(model.preprocess(batch))
            probability.append(out.defect_probability.cpu())
            evidence.append((out.cam + evidence_bias(model, out)).float().cpu())
        return torch.cat(probability), torch.cat(evidence)

    by_shown = {
        name: outputs([parts.picture(i, *features) for i in bad])
        for name, features in SHOWN.items()
    }
    probability = {name: values for name, (values, _) in by_shown.items()}
    probability["normal"] = outputs([parts.picture(i) for i in good])[0]
    masks = {f: grown(torch.stack([parts.feature_mask(i, f) for i in bad])) for f in FEATURES}
    model.train(was_training)
    return FeatureScores(probability, {name: maps for name, (_, maps) in by_shown.items()}, masks)


def feature_figures(scores: FeatureScores, threshold: float) -> list[dict[str, Any]]:
    """Figures as of `seed_study.figure`.

    `auroc` and `recall` by what is `shown`, against the same normal parts; `positive_energy` `on`
    a feature's grown mask, by what is shown; `energy_balance`, with both shown, the energy on the
    weak mask over that on both masks, NaN where neither has any; `cam_entropy` by what is shown.
    """
    normal = scores.probability["normal"].double().numpy()
    figures = []
    for shown in SHOWN:
        defective = scores.probability[shown].double().numpy()
        labels = np.arange(len(defective) + len(normal)) < len(defective)
        auroc = metrics.auroc(np.concatenate([defective, normal]), labels)
        recall = float(metrics.is_flagged(defective, threshold).mean())
        entropy = metrics.cam_entropy(scores.evidence[shown])
        figures += [
            figure("auroc", auroc, n=len(labels), shown=shown),
            figure("recall", recall, n=len(defective), shown=shown),
            figure("cam_entropy", entropy.nanmean(), "cam", len(entropy), shown=shown),
        ]
    on_both = {}
    for shown, on in (("both", "strong"), ("both", "weak"), ("strong", "strong"), ("weak", "weak")):
        energy = metrics.positive_energy(scores.evidence[shown], scores.masks[on])
        if shown == "both":
            on_both[on] = energy
        mean = energy.nanmean()
        figures.append(figure("positive_energy", mean, "cam", len(energy), on=on, shown=shown))
    balance = on_both["weak"] / (on_both["weak"] + on_both["strong"])
    figures.append(figure("energy_balance", balance.nanmean(), "cam", len(balance), shown="both"))
    return figures
