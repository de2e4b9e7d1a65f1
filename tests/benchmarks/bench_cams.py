"""Our class activation maps against pytorch-grad-cam: `python tests/benchmarks/bench_cams.py`.

The same network with random weights, the same images, float32, in one process and in turns, so that
a slow moment of the machine hits both; the figure is the median over the turns of the ratio within
a turn, theirs over ours. Both get a batch and make a map in [0, 1] at the image's size for every
image: theirs through its public call, ours the raw map, then ReLU, resizing and division by the
maximum. Score-CAM runs on fewer images, one pass per channel, in equal chunks. Before anything is
timed the raw maps are compared. Theirs runs in the layout that is faster for it, ours in channels
last, as `fit` and `predict` do. Run it on an idle machine; the load is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
from collections.abc import Callable
from typing import Any

import timm
import torch
from gainbook.lab.cost import median_ratio, side_by_side
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from gainmtl.cam import resize_map
from gainmtl.explanation.gradient import (
    LIBRARY_EPSILON,
    Explanation,
    Target,
    grad_cam,
    grad_cam_plus_plus,
    over_maximum,
)
from gainmtl.explanation.perturbation import score_cam

TARGETS = {"Grad-CAM": 5.0, "Grad-CAM++": 5.0, "Score-CAM": 1.5}
LIBRARY = {"Grad-CAM": GradCAM, "Grad-CAM++": GradCAMPlusPlus, "Score-CAM": ScoreCAM}
LAYERS = {"test_efficientnet": "bn2", "mobilenetv2_100": "bn2", "resnet18": "layer4"}
"""The module whose output `forward_features` returns."""


@torch.no_grad()
def ours(model: Any, images: Tensor, name: str, classes: Tensor, chunk: int) -> Explanation:
    """The raw map; only the head is run backwards."""
    features, target = model.forward_features(images), Target("logit", classes)
    if name == "Score-CAM":
        return score_cam(images, features, model, target, chunk, align_corners=True)
    if name == "Grad-CAM":
        return grad_cam(features, model.forward_head, target)
    return grad_cam_plus_plus(features, model.forward_head, target, epsilon=LIBRARY_EPSILON)


def finished(found: Explanation, size: tuple[int, int]) -> Tensor:
    return over_maximum(resize_map(found.map, size))


class Library:
    """pytorch-grad-cam's call, with the raw map kept aside."""

    def __init__(self, model: Any, layer: str, name: str, classes: Tensor, chunk: int) -> None:
        base: Any = LIBRARY[name]
        self.raw: list[Any] = []

        def get_cam_image(cam: Any, *given: Any, **named: Any) -> Any:
            self.raw = [base.get_cam_image(cam, *given, **named)]
            return self.raw[0]

        kept: Any = type(base.__name__, (base,), {"get_cam_image": get_cam_image})
        self.cam = kept(model=model, target_layers=[getattr(model, layer)])
        self.cam.batch_size = chunk
        self.targets = [ClassifierOutputTarget(int(c)) for c in classes]

    def __call__(self, images: Tensor) -> Any:
        # Its Score-CAM draws a progress bar for every image.
        with contextlib.redirect_stderr(io.StringIO()):
            return self.cam(input_tensor=images, targets=self.targets)


def compare(backbone: str, name: str, arguments: argparse.Namespace) -> float:
    """Print what both took, and return theirs over ours."""
    torch.manual_seed(0)
    size, count = arguments.image_size, arguments.batch_size
    if name == "Score-CAM":
        count = arguments.score_cam_images
    model = timm.create_model(backbone, num_classes=10).eval()
    other = timm.create_model(backbone, num_classes=10).eval()
    other.load_state_dict(model.state_dict())
    model = model.to(memory_format=torch.channels_last)
    classes = torch.arange(count) % 10
    images = torch.randn(count, 3, size, size)
    last = images.contiguous(memory_format=torch.channels_last)
    call = Library(other, LAYERS[backbone], name, classes, arguments.chunk)
    call(images)
    theirs = torch.as_tensor(call.raw[0])[:, None]
    mine = ours(model, last, name, classes, arguments.chunk).raw
    apart = float((mine - theirs).abs().max() / theirs.abs().max())
    steps: dict[str, Callable[[], Any]] = {
        "ours": lambda: finished(ours(model, last, name, classes, arguments.chunk), (size, size)),
        "theirs": lambda: call(images),
    }
    if name != "Score-CAM":
        twin = timm.create_model(backbone, num_classes=10).eval()
        twin.load_state_dict(model.state_dict())
        twin = twin.to(memory_format=torch.channels_last)
        also = Library(twin, LAYERS[backbone], name, classes, arguments.chunk)
        steps["theirs, channels last"] = lambda: also(last)
    took = side_by_side(steps, arguments.repeats if name != "Score-CAM" else 3)
    per_image = {key: 1e3 * statistics.median(values) / count for key, values in took.items()}
    # Whichever layout suits theirs better is the one to beat.
    rival = min((key for key in took if key != "ours"), key=lambda key: per_image[key])
    ratio = median_ratio(took[rival], took["ours"])
    target = TARGETS[name]
    met = "met" if ratio >= target and apart <= 1e-4 else "MISSED"
    shown = ", ".join(f"{key} {value:.2f} ms" for key, value in per_image.items())
    print(
        f"{backbone:18s} {name:11s} batch {count:2d}: {shown} per image; {rival} / ours "
        f"{ratio:.2f} (target {target:g}), raw maps apart {apart:.1e}: {met}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["test_efficientnet", "resnet18"])
    parser.add_argument("--methods", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--score-cam-images", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=32, help="Score-CAM's images per pass")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{arguments.image_size} px, {arguments.threads} threads, median of {arguments.repeats} "
        f"turns, 3 for Score-CAM; load {load:.1f} on {os.cpu_count()} cores"
    )
    for backbone in arguments.backbones:
        for name in arguments.methods:
            compare(backbone, name, arguments)


if __name__ == "__main__":
    main()
