"""The networks that chapter 01 times: classifiers, and the prediction path of anomaly detectors.

All have random weights: time, memory and the number of parameters don't depend on their values. A
network takes normalised images (B, 3, S, S) and returns class logits (B, 1000), or an anomaly map
(B, 1, h, w). Detectors that the package does not have are built here as far as a prediction runs
them; they can't be trained.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainmtl.anomaly import MemoryBank, ReverseDistillation, Teacher, cosine_distance

NORMAL_IMAGES = 200
"""Normal images that a memory bank is made of; a class of MVTec AD has 242 on average."""
BANK_SHARE = 0.1
"""Share of their patches that the bank keeps, as in the published figure."""
CHANNELS = 384
"""Output channels of EfficientAD's teacher."""


class Subject(NamedTuple):
    """A network that is timed."""

    tag: str
    family: str
    """"classifier" or "detector"."""
    build: Callable[[int], nn.Module]
    """From the image side in pixels."""


class PatchNetwork(nn.Sequential):
    """EfficientAD's patch description network, small or medium: four or six convolutions.

    Convolutions with a ReLU after all but the last, and two average poolings, so a cell stands for
    4 x 4 pixels. Batzner, Heckler and König, "EfficientAD", WACV 2024, appendix.
    """

    def __init__(self, medium: bool, channels: int = CHANNELS) -> None:
        # Kernel, output channels; the pooling follows the first two.
        plan = [(4, 128), (4, 256), (3, 256), (4, channels)]
        if medium:
            plan = [(4, 256), (4, 512), (1, 512), (3, 512), (4, channels), (1, channels)]
        layers: list[nn.Module] = []
        inside = 3
        for place, (kernel, out) in enumerate(plan):
            layers += [nn.Conv2d(inside, out, kernel, padding=kernel // 2), nn.ReLU()]
            layers += [nn.AvgPool2d(2)] if place < 2 else []
            inside = out
        super().__init__(*layers[:-1])


class PatchAutoencoder(nn.Module):
    """EfficientAD's autoencoder of whole images: (B, 3, S, S) to (B, 384, h, w), h and w given.

    The images are resized to 256 pixels, as published, so that the code is one cell per image.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64, 64, 64)
        down: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            down += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(64, 64, 8))
        self.steps = nn.ModuleList(nn.Conv2d(64, 64, 4, padding=2) for _ in range(6))
        self.head = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, CHANNELS, 3, padding=1)
        )

    def forward(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Reconstruct the teacher's output on its grid `size`."""
        code = self.encoder(F.interpolate(images, 256, mode="bilinear"))
        for place, step in enumerate(self.steps):
            code = F.relu(step(F.interpolate(code, 4 * 2**place, mode="bilinear")))
        return self.head(F.interpolate(code, list(size), mode="bilinear"))


class EfficientAD(nn.Module):
    """Teacher, student and autoencoder: the mean of two squared distances is the map."""

    def __init__(self, medium: bool) -> None:
        super().__init__()
        self.teacher = PatchNetwork(medium)
        self.student = PatchNetwork(medium, 2 * CHANNELS)
        self.autoencoder = PatchAutoencoder()

    def forward(self, images: Tensor) -> Tensor:
        target = self.teacher(images)
        local, whole = self.student(images).chunk(2, 1)
        rebuilt = self.autoencoder(images, target.shape[2:])
        maps = [
            ((a - b) ** 2).mean(1, keepdim=True) for a, b in ((target, local), (rebuilt, whole))
        ]
        return (maps[0] + maps[1]) / 2


class FeaturePyramidPair(nn.Module):
    """STFPM: a teacher and a student of one architecture; distances of three levels, multiplied.

    Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.teacher, self.student = Teacher(backbone), Teacher(backbone)

    def forward(self, images: Tensor) -> Tensor:
        pairs = zip(self.teacher(images), self.student(images), strict=True)
        maps = [cosine_distance(a, b) for a, b in pairs]
        return torch.stack(
            [F.interpolate(m, maps[0].shape[2:], mode="bilinear") for m in maps]
        ).prod(0)


class FeatureDiscriminator(nn.Module):
    """SimpleNet: patch features, a linear adaptor, and a discriminator of two layers.

    Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR
    2023. The two linear layers are 1 x 1 convolutions here.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.features = MemoryBank(backbone, size=1)
        depth = self.features.bank.shape[1]
        self.head = nn.Sequential(
            nn.Conv2d(depth, depth, 1),
            nn.Conv2d(depth, 1024, 1), nn.BatchNorm2d(1024), nn.LeakyReLU(0.2),
            nn.Conv2d(1024, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features.patches(images))


def memory_bank(backbone: str, side: int) -> nn.Module:
    """A memory bank as full as one of `NORMAL_IMAGES` images of that side would be."""
    model = MemoryBank(backbone, size=1)
    cells = (side // model.teacher.strides[0]) ** 2
    model.bank = torch.randn(int(BANK_SHARE * NORMAL_IMAGES * cells), model.bank.shape[1])
    return _Map(model)


class _Map(nn.Module):
    """A detector of the package that returns its map alone."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        return self.detector(images).anomaly_map


def classifier(architecture: str, side: int) -> nn.Module:
    """A classifier of timm for images of that side."""
    import timm  # on demand: it takes a second

    # Windows of a Swin network depend on the image; other architectures have no such argument.
    more: dict[str, Any] = {"img_size": side} if architecture.startswith("swin") else {}
    return timm.create_model(architecture, pretrained=False, **more)


CLASSIFIERS = (
    "tiny_vit_21m_512", "tf_efficientnet_b3", "tf_efficientnet_b4", "tf_efficientnet_b6",
    "tf_efficientnet_b7", "swinv2_base_window12to24_192to384", "tf_efficientnetv2_s",
    "mobilenetv2_100",
)  # fmt: skip
"""The plan's candidates, and two backbones that the book uses."""


def _any_side(make: Callable[..., nn.Module], *arguments: Any) -> Callable[[int], nn.Module]:
    """A `Subject.build` of a network that does not depend on the image's side."""
    return lambda side: make(*arguments)


def _reverse_distillation(backbone: str) -> nn.Module:
    return _Map(ReverseDistillation(backbone))


_DETECTORS: dict[str, Callable[[int], nn.Module]] = {
    "efficientad-s": _any_side(EfficientAD, False),
    "efficientad-m": _any_side(EfficientAD, True),
    "simplenet-wide_resnet50_2": _any_side(FeatureDiscriminator, "wide_resnet50_2"),
}
for _name in ("resnet18", "wide_resnet50_2"):
    _DETECTORS[f"patchcore-{_name}"] = functools.partial(memory_bank, _name)
    _DETECTORS[f"stfpm-{_name}"] = _any_side(FeaturePyramidPair, _name)
for _name in ("resnet18", "resnet50", "wide_resnet50_2"):
    _DETECTORS[f"rd-{_name}"] = _any_side(_reverse_distillation, _name)

SUBJECTS = {
    **{n: Subject(n, "classifier", functools.partial(classifier, n)) for n in CLASSIFIERS},
    **{tag: Subject(tag, "detector", build) for tag, build in _DETECTORS.items()},
}
"""Every timed network by its tag."""
