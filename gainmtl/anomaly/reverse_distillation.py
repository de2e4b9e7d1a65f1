"""Reverse distillation: a student that reconstructs the teacher's features from a small code.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. The
student is trained on normal images to reconstruct the features of a frozen teacher. It reconstructs
features of defects badly, and the distance between the two at each location is the anomaly map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainmtl.anomaly.base import SMOOTHING, Detector
from gainmtl.anomaly.disturbance import disturb
from gainmtl.anomaly.feature_cache import FeatureCache
from gainmtl.anomaly.student import (
    Decoder,
    Fusion,
    Stage,
    Upward,
    convnext_stage,
    light_stage,
    residual_stage,
)
from gainmtl.anomaly.teacher import STRIDES, Teacher
from gainmtl.precision import to_float32
from gainmtl.types import Batch

OPTIONS = {
    "embedding": ("trained", "stage4", "stage4-trained"),
    "decoder": ("auto", "resnet", "convnext", "light"),
    "loss": ("pixel", "flat", "squared"),
}
"""The values of the options of `ReverseDistillation`."""


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """1 - cos over the channels of each location: (B, C, h, w) twice to (B, 1, h, w) in [0, 2]."""
    return 1 - F.cosine_similarity(teacher, student, dim=1)[:, None]


def pixel_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """Σ over levels of the mean over locations of 1 - cos: the loss of the paper."""
    return _summed(cosine_distance, teachers, students)


def flat_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """Σ over levels of 1 - cos of the level as one vector per image.

    The loss of the published code. Locations with strong features dominate, and channels are
    compared across locations.
    """
    pairs = zip(teachers, students, strict=True)
    return torch.stack(
        [(1 - F.cosine_similarity(t.flatten(1), s.flatten(1), dim=1)).mean() for t, s in pairs]
    ).sum()


def squared_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """(1/C) Σ_c (t_c - s_c)²: (B, C, h, w) twice to (B, 1, h, w) >= 0.

    For standardized features. A cosine uses only directions, and at average locations of a surface
    standardized features are near zero, so their direction is noise that can't be learned.
    """
    return ((teacher - student) ** 2).mean(1, keepdim=True)


def squared_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """Σ over levels of the mean of (t - s)² over locations and channels."""
    return _summed(squared_distance, teachers, students)


def _summed(
    distance: Callable[..., Tensor], teachers: Sequence[Tensor], students: Sequence[Tensor]
) -> Tensor:
    pairs = zip(teachers, students, strict=True)
    return torch.stack([distance(t, s).mean() for t, s in pairs]).sum()


_LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "pixel": (pixel_loss, cosine_distance),
    "flat": (flat_loss, cosine_distance),
    "squared": (squared_loss, squared_distance),
}
"""The training loss, and the distance of the anomaly map."""


class Student(nn.Module):
    """Fusion, embedding and decoder: the trained part."""

    def __init__(
        self, fusion: nn.Module, bridge: nn.Module, embedding: nn.Module, dropout: float,
        decoder: Decoder,
    ) -> None:  # fmt: skip
        super().__init__()
        self.fusion, self.bridge, self.embedding = fusion, bridge, embedding
        self.dropout = nn.Dropout(dropout)
        self.decoder = decoder

    def encode(self, levels: Sequence[Tensor]) -> Tensor:
        """The code, at half the resolution of the coarsest level, from the teacher's levels."""
        fused = self.fusion(levels) if isinstance(self.fusion, Fusion) else levels[-1]
        return self.embedding(self.bridge(fused))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The reconstructed levels, of the same shapes as the teacher's."""
        return self.decoder(self.dropout(self.encode(levels)))


class ReverseDistillation(Detector):
    """Reverse distillation for any timm backbone with feature maps.

    Args:
        backbone, weights, features, strides, neighborhood, create_kwargs: of the `Teacher`.
        fusion: fuse the levels before the embedding; otherwise it gets only the coarsest level.
        embedding: "trained" from scratch, as in the paper; "stage4": the backbone's next stage with
            its weights, frozen; "stage4-trained": the same, fine-tuned.
        decoder: "resnet" and "convnext" mirror the stages of such a teacher; for other teachers
            they use its channels and two or three blocks. "light" upsamples and convolves. "auto"
            is the teacher's type, or light if it is neither.
        projection: a linear 1 x 1 convolution after each decoder stage; `None`: only if light.
        loss: "pixel", "flat" or "squared"; see `pixel_loss`, `flat_loss` and `squared_loss`. The
            map uses `cosine_distance` for the first two and `squared_distance` for the last.
        layer_scale: initial value of ConvNeXt's layer scale; `None` disables it.
        code_channels: of a trained embedding; `None`: those of the backbone's next stage if it has
            the decoder's type, else twice those of the coarsest level. Fewer channels leave less
            capacity for abnormal features and take less time.
        dropout: of the code, in training.
        denoise: share of the training images that are disturbed by `disturb` for the student's
            input, while its target is the undisturbed image; 0: none, as published. After Tien et
            al., "Revisiting Reverse Distillation for Anomaly Detection", and Zhang et al.,
            "DeSTSeg", both CVPR 2023; without their additional losses and layers.
        width: smallest number of channels of the light decoder.
        smoothing: see `SMOOTHING`.
        flat_field: width of the flat-field filter as a share of the side; 0 disables it.
        balanced: scale the levels by normal validation images; see `Detector`.

    Raises:
        ValueError: an unknown option, or one that this backbone does not support.
    """

    kind: ClassVar[str] = "rd"

    def __init__(
        self,
        backbone: str,
        weights: str | None = None,
        *,
        features: str = "raw",
        strides: tuple[int, ...] = STRIDES,
        fusion: bool = True,
        embedding: str = "trained",
        decoder: str = "auto",
        projection: bool | None = None,
        loss: str = "pixel",
        layer_scale: float | None = 1e-6,
        code_channels: int | None = None,
        dropout: float = 0.0,
        denoise: float = 0.0,
        width: int = 64,
        smoothing: float = SMOOTHING,
        neighborhood: int = 1,
        balanced: bool = False,
        flat_field: float = 0.0,
        create_kwargs: dict[str, Any] | None = None,
    ) -> None:
        for name, value in (("embedding", embedding), ("decoder", decoder), ("loss", loss)):
            if value not in OPTIONS[name]:
                known = ", ".join(OPTIONS[name])
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        if not 0 <= denoise <= 1:
            raise ValueError(f"denoise: expected a share in [0, 1], got {denoise}")
        if code_channels is not None and (code_channels < 1 or embedding != "trained"):
            raise ValueError(
                f"code_channels: expected None, or at least 1 and a trained embedding, got "
                f"{code_channels} with embedding={embedding!r}"
            )
        teacher = Teacher(backbone, weights, features, tuple(strides), create_kwargs, neighborhood)
        config = {
            "backbone": backbone, "features": features, "strides": list(strides), "fusion": fusion,
            "embedding": embedding, "decoder": decoder, "projection": projection, "loss": loss,
            "layer_scale": layer_scale, "code_channels": code_channels, "dropout": dropout,
            "denoise": denoise, "width": width, "smoothing": smoothing,
            "neighborhood": neighborhood, "balanced": balanced, "flat_field": flat_field,
        }  # fmt: skip
        super().__init__(teacher, smoothing, len(teacher.strides), balanced, flat_field, config)
        self.loss, self.denoise = loss, denoise
        self.student = _student(teacher, fusion, embedding, decoder, projection, layer_scale,
                                code_channels, dropout, width)  # fmt: skip
        self.cache: FeatureCache | None = None
        """The teacher's levels of the images of `training_step`; set by the run that trains it."""
        self.frozen: list[nn.Module] = []
        if embedding == "stage4":
            self.frozen = [self.student.embedding.requires_grad_(False)]
        self.train()

    def train(self, mode: bool = True) -> ReverseDistillation:
        """As `nn.Module.train`; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def teacher_and_student(
        self,
        images: Tensor,
        disturbed: Tensor | None = None,
        cached: Sequence[Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The teacher's levels of `images` and the student's, (B, C_i, h_i, w_i) each.

        With `disturbed`, images of the same shape, the student's input are the teacher's levels of
        those. With `cached`, the levels of `images`, the teacher is not run on `images`.

        Raises:
            ValueError: sides that are not a multiple of twice the largest stride.
        """
        least = 2 * self.teacher.strides[-1]
        if images.shape[2] % least or images.shape[3] % least:
            raise ValueError(
                f"reverse distillation at strides {self.teacher.strides} needs sides that are "
                f"multiples of {least} pixels, found {images.shape[2]} x {images.shape[3]}; change "
                "image_size, or use smaller strides"
            )
        target: Sequence[Tensor]
        inputs: Sequence[Tensor]
        if cached is not None:
            target, inputs = cached, cached if disturbed is None else self.teacher(disturbed)
        elif disturbed is None:
            target = inputs = self.teacher(images)
        else:
            # In one batch: the teacher uses stored statistics, so images don't affect each other.
            levels = self.teacher(torch.cat([images, disturbed]))
            target, inputs = zip(*(level.chunk(2) for level in levels), strict=True)
        return [to_float32(x) for x in target], [to_float32(x) for x in self.student(inputs)]

    def level_maps(self, images: Tensor) -> list[Tensor]:
        """The distances (B, 1, h_i, w_i) at all locations of all levels."""
        distance = _LOSSES[self.loss][1]
        return [distance(t, s) for t, s in zip(*self.teacher_and_student(images), strict=True)]

    def training_step(self, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
        """The loss `distillation` of a batch of normal images; masks and labels are not used."""
        images, disturbed = to_float32(batch.image), None
        if self.training and self.denoise:
            disturbed = self.preprocess(disturb(images, self.denoise))
        cached = None if self.cache is None else self.cache.levels(batch.name)
        if cached is None:
            images = self.preprocess(images)
        teachers, students = self.teacher_and_student(images, disturbed, cached)
        return {"distillation": _LOSSES[self.loss][0](teachers, students)}


def _student(
    teacher: Teacher, fusion: bool, embedding: str, decoder: str, projection: bool | None,
    layer_scale: float | None, code_channels: int | None, dropout: float, width: int,
) -> Student:  # fmt: skip
    channels, network, next_stage = teacher.channels, teacher.network, teacher.next_stage
    if decoder == "auto":
        decoder = _family(network)
    norm = "layer" if decoder == "convnext" else "batch"
    fused: nn.Module = Fusion(channels, norm) if fusion else nn.Identity()
    inside = fused.out_channels if isinstance(fused, Fusion) else channels[-1]
    bridge: nn.Module = nn.Identity()
    if embedding == "trained":
        body, code = _embedding(teacher, decoder, inside, layer_scale, code_channels)
    elif next_stage is None:
        raise ValueError(
            f"embedding={embedding!r}: {teacher.name} has no stage after stride "
            f"{teacher.strides[-1]}; use 'trained'"
        )
    else:
        body = next_stage
        if inside != channels[-1]:
            bridge = nn.Conv2d(inside, channels[-1], 1)
        with torch.no_grad():
            code = body.eval()(torch.zeros(1, channels[-1], 4, 4)).shape[1]
    stages, widths = _decoder_stages(teacher, decoder, code, layer_scale, width)
    if projection is None:
        projection = decoder == "light"
    head = Decoder(stages, widths, channels[::-1], projection)
    return Student(fused, bridge, body, dropout, head)


def _family(network: nn.Module) -> str:
    """The decoder that mirrors a backbone: "resnet", "convnext", or "light" for all others."""
    from timm.models.convnext import ConvNeXt  # on demand: timm takes a second
    from timm.models.resnet import ResNet

    if isinstance(network, ResNet):
        return "resnet"
    return "convnext" if isinstance(network, ConvNeXt) else "light"


def _residual(layer: Any) -> Stage:
    """The dimensions of a ResNet's stage."""
    block = layer[0]
    if hasattr(block, "conv3"):
        return Stage(True, block.conv3.out_channels, block.conv2.out_channels, len(layer))
    return Stage(False, block.conv2.out_channels, block.conv1.out_channels, len(layer))


def _embedding(
    teacher: Teacher,
    decoder: str,
    inside: int,
    layer_scale: float | None,
    code_channels: int | None,
) -> tuple[nn.Module, int]:
    """The one-class embedding, which halves the resolution, and its output channels."""
    next_stage: Any = teacher.next_stage
    if decoder == "resnet":
        plan = Stage(False, 2 * teacher.channels[-1], 2 * teacher.channels[-1], 2)
        if _family(teacher.network) == "resnet" and next_stage is not None:
            plan = _residual(next_stage[0])
        if code_channels is not None:
            plan = plan._replace(channels=code_channels)
        return residual_stage(inside, plan, 2), plan.channels
    code, blocks = 2 * teacher.channels[-1], 3
    if _family(teacher.network) == "convnext" and next_stage is not None:
        code, blocks = next_stage[0].downsample[-1].out_channels, len(next_stage[0].blocks)
    code = code_channels or code
    if decoder == "convnext":
        return convnext_stage(inside, code, blocks, False, layer_scale), code
    return light_stage(inside, code, 2), code


def _decoder_stages(
    teacher: Teacher, decoder: str, code: int, layer_scale: float | None, width: int
) -> tuple[list[nn.Module], list[int]]:
    """Decoder stages, coarsest first, and their output channels."""
    channels, network = teacher.channels, teacher.network
    stages: list[nn.Module] = []
    widths = list(channels[::-1])
    inside = code
    if decoder == "resnet":
        plans = [Stage(False, c, c, 2) for c in channels]
        if _family(network) == "resnet":
            layers: list[Any] = [getattr(network, f"layer{level}") for level in teacher.levels]
            # As in the published code, the coarsest decoder stage has as many blocks as the
            # teacher's finest stage, and so on, so the finest decoder stage is the deepest.
            counts = [len(layer) for layer in layers][::-1]
            plans = [
                _residual(layer)._replace(blocks=count)
                for layer, count in zip(layers, counts, strict=True)
            ]
        for plan in plans[::-1]:
            stages.append(residual_stage(inside, plan, -2))
            inside = plan.channels
    elif decoder == "convnext":
        depths = [3] * len(channels)
        if _family(network) == "convnext":
            trunk: Any = network.stages
            depths = [len(trunk[level].blocks) for level in teacher.levels]
        for out, depth in zip(widths, depths[::-1], strict=True):
            stages.append(convnext_stage(inside, out, depth, True, layer_scale))
            inside = out
    else:
        widths = [max(width, c) for c in widths]
        for out in widths:
            stages.append(Upward(inside, out))
            inside = out
    return stages, widths
