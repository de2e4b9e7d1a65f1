"""Reverse distillation: a student that rebuilds the teacher's features from a small code.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. The
student learns on normal images to give the teacher's features back. What it never saw it gives
back badly, and the distance between the two, place by place, is the anomaly map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from torch import Tensor, nn

from gainmtl.anomaly.base import SMOOTHING, Detector
from gainmtl.anomaly.disturbance import disturb
from gainmtl.anomaly.feature_cache import KeptFeatures
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
from gainmtl.precision import full
from gainmtl.types import Batch

OPTIONS = {
    "embedding": ("trained", "stage4", "stage4-trained"),
    "decoder": ("auto", "resnet", "convnext", "light"),
    "loss": ("pixel", "flat", "squared"),
}
"""What `ReverseDistillation` can be built with."""


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """(B, C, h, w) twice to (B, 1, h, w) in [0, 2]: 1 - cos over the channels of each place."""
    return 1 - F.cosine_similarity(teacher, student, dim=1)[:, None]


def pixel_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """The paper's: Σ over levels of the mean over places of 1 - cos; every place counts alike."""
    return _summed(cosine_distance, teachers, students)


def flat_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """The published code's: Σ over levels of 1 - cos of the whole level as one vector per image.

    Places with strong features dominate, and channels are compared across places.
    """
    pairs = zip(teachers, students, strict=True)
    return torch.stack(
        [(1 - F.cosine_similarity(t.flatten(1), s.flatten(1), dim=1)).mean() for t, s in pairs]
    ).sum()


def squared_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """(B, C, h, w) twice to (B, 1, h, w) >= 0: (1/C) Σ_c (t_c - s_c)².

    For standardized features. A cosine looks at directions alone, and the most ordinary place of a
    surface has standardized features near zero: their direction is noise that no student can know.
    """
    return ((teacher - student) ** 2).mean(1, keepdim=True)


def squared_loss(teachers: Sequence[Tensor], students: Sequence[Tensor]) -> Tensor:
    """Σ over levels of the mean of (t - s)² over places and channels."""
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
"""What is made small in training, and the distance that the map is made of."""


class Student(nn.Module):
    """Fusion, embedding, decoder: all that is trained."""

    def __init__(
        self, fusion: nn.Module, bridge: nn.Module, embedding: nn.Module, dropout: float,
        decoder: Decoder,
    ) -> None:  # fmt: skip
        super().__init__()
        self.fusion, self.bridge, self.embedding = fusion, bridge, embedding
        self.dropout = nn.Dropout(dropout)
        self.decoder = decoder

    def encode(self, levels: Sequence[Tensor]) -> Tensor:
        """The teacher's levels to the code, at half the resolution of the coarsest."""
        fused = self.fusion(levels) if isinstance(self.fusion, Fusion) else levels[-1]
        return self.embedding(self.bridge(fused))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The teacher's levels to the student's, of the same shapes."""
        return self.decoder(self.dropout(self.encode(levels)))


class ReverseDistillation(Detector):
    """Reverse distillation for any timm backbone with feature maps.

    Args:
        backbone, weights, features, strides, neighborhood, create_kwargs: of the `Teacher`.
        fusion: fuse the levels before the embedding; else it sees the coarsest level alone.
        embedding: "trained" from scratch, as in the paper; "stage4": the backbone's own next stage
            with its weights, frozen; "stage4-trained": the same, trained on.
        decoder: "resnet" and "convnext" mirror such a teacher's stages (for another one they use
            its channels and two or three blocks), "light" resizes and convolves, "auto" is the
            teacher's own kind, light where it has none.
        projection: a linear 1 x 1 convolution behind each decoder stage; `None`: for the light one.
        loss: "pixel", "flat" or "squared"; see `pixel_loss`, `flat_loss` and `squared_loss`. The
            map of the first two is made of `cosine_distance`, of the last of `squared_distance`.
        layer_scale: first value of ConvNeXt's layer scale; `None` leaves it out.
        code_channels: of a trained embedding; `None`: as many as its decoder's kind asks for, twice
            the coarsest level's or those of the backbone's next stage. Fewer leave less room for
            what is not needed on normal parts, and cost less time.
        dropout: of the code, in training.
        denoise: share of the training images that the teacher sees disturbed (`disturb`) for what
            the student gets, and as they are for what the student has to give back; 0: none, as
            published. After Tien et al., "Revisiting Reverse Distillation for Anomaly Detection",
            and Zhang et al., "DeSTSeg", both CVPR 2023; simpler than either: no further loss and no
            further layer.
        width: least width of the light decoder.
        smoothing: see `SMOOTHING`.
        flat_field: take shading out of pictures; see `Detector.preprocess`. 0: as they are.
        balanced: put the levels on one scale by normal validation images; see `Detector`.

    Raises:
        ValueError: an option that does not exist or that this backbone does not have.
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
                f"code_channels: expected None or at least 1 and a trained embedding, got "
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
        self.kept: KeptFeatures | None = None
        """The teacher's levels of the images that `training_step` gets, while a run lends them."""
        self.frozen: list[nn.Module] = []
        if embedding == "stage4":
            self.frozen = [self.student.embedding.requires_grad_(False)]
        self.train()

    def train(self, mode: bool = True) -> ReverseDistillation:
        """As `nn.Module.train`; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def both(
        self,
        images: Tensor,
        disturbed: Tensor | None = None,
        known: Sequence[Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The teacher's levels of `images` and the student's, (B, C_i, h_i, w_i) each.

        With `disturbed` images of the same shape the student sees the teacher's levels of those.
        With `known` those are the levels of `images`, and the teacher is not asked again.

        Raises:
            ValueError: sides that can't be halved once behind the coarsest level and doubled again.
        """
        least = 2 * self.teacher.strides[-1]
        if images.shape[2] % least or images.shape[3] % least:
            raise ValueError(
                f"reverse distillation at strides {self.teacher.strides} needs sides that are "
                f"multiples of {least} pixels, found {images.shape[2]} x {images.shape[3]}; change "
                "image_size, or take finer strides"
            )
        wanted: Sequence[Tensor]
        seen: Sequence[Tensor]
        if known is not None:
            wanted, seen = known, known if disturbed is None else self.teacher(disturbed)
        elif disturbed is None:
            wanted = seen = self.teacher(images)
        else:
            # Together: the teacher normalises by stored statistics, so no image knows of another.
            together = self.teacher(torch.cat([images, disturbed]))
            wanted, seen = zip(*(level.chunk(2) for level in together), strict=True)
        return [full(x) for x in wanted], [full(x) for x in self.student(seen)]

    def level_maps(self, images: Tensor) -> list[Tensor]:
        """The loss's distance at every place of every level, (B, 1, h_i, w_i)."""
        distance = _LOSSES[self.loss][1]
        return [distance(t, s) for t, s in zip(*self.both(images), strict=True)]

    def training_step(self, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
        """The named loss of a batch of normal images; masks and labels are not looked at."""
        images, disturbed = full(batch.image), None
        if self.training and self.denoise:
            disturbed = self.preprocess(disturb(images, self.denoise))
        known = None if self.kept is None else self.kept.of(batch.name)
        if known is None:
            images = self.preprocess(images)
        teachers, students = self.both(images, disturbed, known)
        return {"distillation": _LOSSES[self.loss][0](teachers, students)}


def _student(
    teacher: Teacher, fusion: bool, embedding: str, decoder: str, projection: bool | None,
    layer_scale: float | None, code_channels: int | None, dropout: float, width: int,
) -> Student:  # fmt: skip
    channels, network, behind = teacher.channels, teacher.network, teacher.next_stage
    if decoder == "auto":
        decoder = (
            "resnet" if isinstance(network, ResNet)
            else "convnext" if isinstance(network, ConvNeXt) else "light"
        )  # fmt: skip
    norm = "layer" if decoder == "convnext" else "batch"
    fused: nn.Module = Fusion(channels, norm) if fusion else nn.Identity()
    inside = fused.out_channels if isinstance(fused, Fusion) else channels[-1]
    bridge: nn.Module = nn.Identity()
    if embedding == "trained":
        body, code = _embedding(teacher, decoder, inside, layer_scale, code_channels)
    elif behind is None:
        raise ValueError(
            f"embedding={embedding!r}: {teacher.name} has no stage behind stride "
            f"{teacher.strides[-1]}; use 'trained'"
        )
    else:
        body = behind
        if inside != channels[-1]:
            bridge = nn.Conv2d(inside, channels[-1], 1)
        with torch.no_grad():
            code = body.eval()(torch.zeros(1, channels[-1], 4, 4)).shape[1]
    stages, widths = _decoder_stages(teacher, decoder, code, layer_scale, width)
    if projection is None:
        projection = decoder == "light"
    head = Decoder(stages, widths, channels[::-1], projection)
    return Student(fused, bridge, body, dropout, head)


def _residual(layer: Any) -> Stage:
    """How a ResNet's layer is made."""
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
    """The one-class embedding at stride 2, and its channels: as wanted, or shaped as the
    teacher's next stage."""
    behind: Any = teacher.next_stage
    if decoder == "resnet":
        plan = Stage(False, 2 * teacher.channels[-1], 2 * teacher.channels[-1], 2)
        if isinstance(teacher.network, ResNet) and behind is not None:
            plan = _residual(behind[0])
        if code_channels is not None:
            plan = plan._replace(channels=code_channels)
        return residual_stage(inside, plan, 2), plan.channels
    code, blocks = 2 * teacher.channels[-1], 3
    if isinstance(teacher.network, ConvNeXt) and behind is not None:
        code, blocks = behind[0].downsample[-1].out_channels, len(behind[0].blocks)
    code = code_channels or code
    if decoder == "convnext":
        return convnext_stage(inside, code, blocks, False, layer_scale), code
    return light_stage(inside, code, "batch"), code


def _decoder_stages(
    teacher: Teacher, decoder: str, code: int, layer_scale: float | None, width: int
) -> tuple[list[nn.Module], list[int]]:
    """Decoder stages, coarsest first, and their widths."""
    channels, network = teacher.channels, teacher.network
    stages: list[nn.Module] = []
    widths = list(channels[::-1])
    inside = code
    if decoder == "resnet":
        plans = [Stage(False, c, c, 2) for c in channels]
        if isinstance(network, ResNet):
            layers: list[Any] = [getattr(network, f"layer{level}") for level in teacher.levels]
            # The paper's code keeps the teacher's numbers of blocks in their order, so that the
            # finest stage of the decoder is the deepest.
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
        if isinstance(network, ConvNeXt):
            trunk: Any = network.stages
            depths = [len(trunk[level].blocks) for level in teacher.levels]
        for out, depth in zip(widths, depths[::-1], strict=True):
            stages.append(convnext_stage(inside, out, depth, True, layer_scale))
            inside = out
    else:
        widths = [max(width, c) for c in widths]
        for out in widths:
            stages.append(Upward(inside, out, "batch"))
            inside = out
    return stages, widths
