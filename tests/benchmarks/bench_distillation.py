"""Our reverse distillation against anomalib's: `python tests/benchmarks/bench_distillation.py`.

The same backbone, random weights, images and batch, float32, in one process and in turns; the
figure is the median over the turns of the ratio within a turn, theirs over ours. Training is a
forward pass, the loss over whole levels (which is the one theirs has), a backward pass and a step
of Adam, of students that see undisturbed images, as published. Ours computes the frozen teacher's
features of a training image once per start (`kept_features`), so there is a line for a step with
the teacher, one for a step without, and one for a whole training of `--epochs`: one epoch of the
first kind, all others of the second. Validation is in neither. Inference ends with smoothed maps
and scores. Executed parameters are compared first: what theirs builds and never runs is left out.
Needs anomalib, which is no dependency of this project:
`pip install anomalib`. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from gainbook.lab.cost import median_ratio, side_by_side
from torch import nn

from gainmtl.anomaly.feature_cache import FeatureCache
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.types import Batch

TARGET = 2.0


def executed(model: nn.Module, images: torch.Tensor) -> int:
    """Parameters of the modules that a pass runs."""
    seen: set[nn.Module] = set()
    hooks = [
        module.register_forward_hook(lambda m, *_: seen.add(m))
        for module in model.modules()
        if not list(module.children())
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(p.numel() for module in seen for p in module.parameters(recurse=False))


def main() -> None:
    """Compare parameters, training and inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from anomalib.models.image.reverse_distillation.anomaly_map import (  # type: ignore
        AnomalyMapGenerationMode,
    )
    from anomalib.models.image.reverse_distillation.loss import (  # type: ignore
        ReverseDistillationLoss,
    )
    from anomalib.models.image.reverse_distillation.torch_model import (  # type: ignore
        ReverseDistillationModel,
    )

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    size = (args.image_size, args.image_size)
    other: Any = ReverseDistillationModel(
        args.backbone, size, ["layer1", "layer2", "layer3"], AnomalyMapGenerationMode.ADD, False
    )
    model = ReverseDistillation(args.backbone, loss="flat")
    model.set_scale(torch.tensor([1.0, 2.0]), 1.0)
    model.to(memory_format=torch.channels_last)
    images = torch.rand(args.batch_size, 3, *size)
    last = images.contiguous(memory_format=torch.channels_last)
    names = tuple(map(str, range(args.batch_size)))
    batch: Any = Batch(last, None, None, None, (), (), names)  # type: ignore[arg-type]
    levels = model.teacher(model.preprocess(last))
    known = FeatureCache(names, [level.permute(0, 2, 3, 1).contiguous() for level in levels])
    criterion = ReverseDistillationLoss()
    counts = executed(other.eval(), images), executed(model.eval(), last)
    print(f"executed parameters: theirs {counts[0]:,}, ours {counts[1]:,}")

    def trainer(module: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        wanted = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(wanted, 5e-3, betas=(0.5, 0.999))

        def step() -> None:
            module.train()
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    def own_loss(kept: FeatureCache | None) -> Callable[[], torch.Tensor]:
        def loss() -> torch.Tensor:
            model.cache = kept
            found = model.training_step(batch)["distillation"]
            model.cache = None
            return found

        return loss

    def infer(module: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
        def step() -> Any:
            module.eval()
            with torch.no_grad():
                return module(x)

        return step

    # Theirs leaves the gradients of its teacher switched on where the caller does not.
    for parameter in other.encoder.parameters():
        parameter.requires_grad_(False)
    steps = {
        "first": trainer(model, own_loss(None)),
        "later": trainer(model, own_loss(known)),
        "theirs": trainer(other, lambda: criterion(*other(images))),
    }
    took = side_by_side(steps, args.repeats)
    took["whole"] = [
        (first + (args.epochs - 1) * later) / args.epochs
        for first, later in zip(took["first"], took["later"], strict=True)
    ]
    ran = side_by_side({"ours": infer(model, last), "theirs": infer(other, images)}, args.repeats)

    def report(name: str, ours: list[float], theirs: list[float]) -> None:
        ratio = median_ratio(theirs, ours)
        rates = [args.batch_size / statistics.median(seconds) for seconds in (ours, theirs)]
        met = "met" if ratio >= TARGET else "MISSED"
        print(
            f"{args.backbone} {args.image_size} px, batch {args.batch_size}, load "
            f"{os.getloadavg()[0]:.1f}, {name}: ours {rates[0]:.1f}, theirs {rates[1]:.1f} "
            f"images/s; theirs / ours {ratio:.2f} (target {TARGET}): {met}"
        )

    report("training, teacher computed", took["first"], took["theirs"])
    report("training, features kept", took["later"], took["theirs"])
    report(f"training, {args.epochs} epochs", took["whole"], took["theirs"])
    report("inference", ran["ours"], ran["theirs"])


if __name__ == "__main__":
    main()
