"""Pretraining of a backbone on pictures by formula, resumable after every epoch."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from gainmtl.datasets.synthetic.fractals import draw_systems, fractal_batch
from gainmtl.files import atomic_path, plain, read_json, write_json
from gainmtl.training.checkpoint import read_checkpoint, write_checkpoint

MEAN = STD = (0.5, 0.5, 0.5)
HELD_OUT = 10**9
"""Number of the first batch that is only measured and never trained on."""


class Pretraining(NamedTuple):
    """The settings of a pretraining run."""

    backbone: str
    classes: int = 200
    image_size: int = 64
    epochs: int = 20
    steps: int = 64
    """Batches per epoch; no picture is shown twice."""
    batch_size: int = 64
    learning_rate: float = 2e-3
    """Peak rate of AdamW: linear warm-up over the first 5 % of steps, then cosine to 1 %."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    seed: int = 0
    precision: str = "32-true"
    """"32-true" or "bf16-mixed". "16-mixed" would need a scaled loss."""


PRECISIONS = ("32-true", "bf16-mixed")


def pretrain(
    plan: Pretraining, path: str | Path, accelerator: str = "auto", keep_half: bool = False
) -> pd.DataFrame:
    """Train and write `path` (.safetensors) and the `.json` that `weights=<path>` reads.

    A checkpoint is written after every epoch, and a restarted run continues from it, on a CPU with
    the same bits. `keep_half` stores the result in half precision, which halves the bytes.

    Returns:
        One row per epoch: `epoch`, `loss`, `accuracy` on held-out pictures of the same classes,
        `seconds`.

    Raises:
        ValueError: the checkpoint is of another plan, or a precision not in `PRECISIONS`.
        FloatingPointError: the loss became NaN or infinite.
    """
    if plan.precision not in PRECISIONS:
        raise ValueError(
            f"pretrain: precision: expected one of {', '.join(PRECISIONS)}, got {plan.precision!r}"
        )
    path = Path(path)
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    mixed = plan.precision == "bf16-mixed"
    torch.manual_seed(plan.seed)
    model: Any = timm.create_model(plan.backbone, num_classes=plan.classes)
    model.to(device, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay},
              {"params": rest, "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate)
    systems = draw_systems(plan.classes, plan.seed)
    checkpoint = path.with_name(f"{path.stem}.checkpoint.safetensors")
    history = _resume(checkpoint, plan, model, optimizer)

    def batch(number: int) -> tuple[Tensor, Tensor]:
        images, labels = fractal_batch(systems, plan.image_size, plan.batch_size, plan.seed, number)
        return _normalised(images, device), labels.to(device)

    while len(history) < plan.epochs:
        start, epoch = time.perf_counter(), len(history)
        torch.manual_seed(plan.seed * 100_003 + epoch)
        model.train()
        total = 0.0
        for index in range(plan.steps):
            step = epoch * plan.steps + index
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * rate_at(step, plan.epochs * plan.steps)
            images, labels = batch(step)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                logits = model(images)
            loss = torch.nn.functional.cross_entropy(
                logits.float(), labels, label_smoothing=plan.label_smoothing
            )
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"pretrain: expected a finite loss, found {float(loss)} in epoch {epoch + 1}; "
                    f"lower learning_rate. {checkpoint} has the state before this epoch"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
        model.eval()
        right = []
        with torch.no_grad():
            for number in range(4):
                images, labels = batch(HELD_OUT + number)
                right.append((model(images).argmax(1) == labels).float().mean())
        history.append(
            {
                "epoch": epoch,
                "loss": total / plan.steps,
                "accuracy": float(torch.stack(right).mean()),
                "seconds": time.perf_counter() - start,
            }
        )
        _save(checkpoint, plan, model, optimizer, history)
    state = {
        k: (v.half() if keep_half and v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in model.state_dict().items()
        if k.split(".")[0] not in ("fc", "classifier", "head") or k.startswith("head.norm")
    }
    with atomic_path(path) as temporary:
        save_file(state, temporary)
    facts = {"images": "formulas", **plan._asdict(), "accuracy": history[-1]["accuracy"]}
    write_json(path.with_suffix(".json"), {"create_kwargs": {}, "mean": MEAN, "std": STD,
                                           "trained_on": facts})  # fmt: skip
    return pd.DataFrame(history)


def pretraining_card(weights: str | Path | None) -> dict[str, Any]:
    """The description of weights made by `pretrain`, from their `.json`; empty for other weights.

    The plan's fields, and `accuracy`, the share of held-out pictures that are classified correctly.
    """
    path = None if weights is None else Path(weights).with_suffix(".json")
    if path is None or not path.is_file():
        return {}
    card = read_json(path).get("trained_on", {})
    return dict(card) if card.get("images") == "formulas" else {}


def pretraining_task(weights: str | Path | None) -> tuple[Any, ...]:
    """The pictures that the accuracy of weights refers to; empty without a card."""
    card = pretraining_card(weights)
    return tuple(card[key] for key in ("classes", "image_size", "seed")) if card else ()


def rate_at(step: int, total: int) -> float:
    """The learning-rate factor at a step of `total`."""
    warm = max(1, total // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _normalised(images: Tensor, device: torch.device) -> Tensor:
    # Grey levels in [0, 1] to [-1, 1]: MEAN and STD.
    return (images.to(device).contiguous(memory_format=torch.channels_last) - 0.5) / 0.5


def _save(
    path: Path, plan: Pretraining, model: Any, optimizer: Any, history: list[dict[str, float]]
) -> None:
    write_checkpoint(
        path, {"model": model}, optimizer, {"plan": plan._asdict(), "history": history}
    )


def _resume(path: Path, plan: Pretraining, model: Any, optimizer: Any) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    stored = read_checkpoint(path)
    found = {"precision": "32-true", **stored.meta.get("plan", {})}  # old checkpoints have none
    if found != plain(plan._asdict()):
        raise ValueError(
            f"pretrain: expected the plan {plain(plan._asdict())}, found {path.name} of another "
            f"plan, {found}; delete it to start over"
        )
    stored.restore({"model": model}, optimizer)
    return list(stored.meta["history"])
