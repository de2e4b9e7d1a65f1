"""What a network has learned of a weak feature beside a strong one: each shown alone, and together.

`datasets.two_features` draws the parts. A part is asked about with both features, with the strong
one only and with the weak one only, on the same surface in the same light; normal parts are what
they are compared with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainbook.chapters.ch12_fostering.sharpness_scores import evidence_bias
from gainmtl import metrics
from gainmtl.datasets.two_features import FEATURES, TwoFeatures
from gainmtl.model import GAINMTL
from gainmtl.types import Outputs

SHOWN: dict[str, tuple[str, ...]] = {"both": FEATURES, "strong": ("strong",), "weak": ("weak",)}
"""What a picture of a defective part shows."""
REACH = 4
"""A mask is grown by so many pixels before energy is counted on it: a cell of a stride of 4 that
the feature touches is a cell that may rightly be lit."""


class Answers(NamedTuple):
    """What a model says about D defective parts in every way of showing them, and N normal ones."""

    probability: dict[str, Tensor]
    """By `SHOWN`, (D,) defect probabilities; under "normal" (N,)."""
    evidence: dict[str, Tensor]
    """By `SHOWN`, (D, 1, h, w) evidence from the verdict's zero: what is positive says defect."""
    masks: dict[str, Tensor]
    """By feature, (D, 1, H, W), 0 or 1: grown masks."""


def grown(masks: Tensor, reach: int = REACH) -> Tensor:
    """Masks (B, 1, H, W) with every pixel at most `reach` away, by the larger of both distances."""
    return torch.nn.functional.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)


@torch.no_grad()
def ask(model: GAINMTL, parts: TwoFeatures, batch_size: int = 64) -> Answers:
    """Ask about every part of a split, images alone; the masks come in afterwards."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    bad, good = (np.flatnonzero(parts.labels == kind).tolist() for kind in (True, False))

    def say(images: list[Tensor]) -> tuple[Tensor, Tensor]:
        probability, evidence = [], []
        for start in range(0, len(images), batch_size):
            batch = torch.stack(images[start : start + batch_size]).to(device)
            out: Outputs = model(model.preprocess(batch))
            probability.append(out.defect_probability.cpu())
            evidence.append((out.cam + evidence_bias(model, out)).float().cpu())
        return torch.cat(probability), torch.cat(evidence)

    found = {
        name: say([parts.picture(i, *features) for i in bad]) for name, features in SHOWN.items()
    }
    probability = {name: values for name, (values, _) in found.items()}
    probability["normal"] = say([parts.picture(i) for i in good])[0]
    masks = {f: grown(torch.stack([parts.feature_mask(i, f) for i in bad])) for f in FEATURES}
    model.train(was_training)
    return Answers(probability, {name: maps for name, (_, maps) in found.items()}, masks)


def measure(answers: Answers, threshold: float) -> list[dict[str, Any]]:
    """Figures `{metric, condition, map, value, n}`.

    `auroc` and `recall` by what is `shown`, against the same normal parts; `positive_energy` `on`
    a feature's grown mask, by what is shown; `energy_balance`, with both shown, the weak mask's
    energy over that of both masks, NaN where neither has any; `cam_entropy` of what is shown.
    """
    found: list[dict[str, Any]] = []

    def add(metric: str, value: float, n: int, map: str | None = None, **condition: str) -> None:
        found.append(
            {"metric": metric, "condition": condition, "map": map, "value": float(value), "n": n}
        )

    normal = answers.probability["normal"].double().numpy()
    for shown in SHOWN:
        asked = answers.probability[shown].double().numpy()
        labels = np.arange(len(asked) + len(normal)) < len(asked)
        value = metrics.auroc(np.concatenate([asked, normal]), labels)
        add("auroc", value, len(labels), shown=shown)
        add("recall", float((asked >= threshold).mean()), len(asked), shown=shown)
        entropy = metrics.cam_entropy(answers.evidence[shown])
        add("cam_entropy", float(entropy.nanmean()), len(entropy), "cam", shown=shown)
    by_feature = {}
    for shown, on in (("both", "strong"), ("both", "weak"), ("strong", "strong"), ("weak", "weak")):
        energy = metrics.positive_energy(answers.evidence[shown], answers.masks[on])
        if shown == "both":
            by_feature[on] = energy
        add("positive_energy", float(energy.nanmean()), len(energy), "cam", on=on, shown=shown)
    balance = by_feature["weak"] / (by_feature["weak"] + by_feature["strong"])
    add("energy_balance", float(balance.nanmean()), len(balance), "cam", shown="both")
    return found
