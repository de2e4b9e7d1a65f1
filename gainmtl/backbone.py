"""Feature extractor: any timm model with feature maps, and the origin of its weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gainmtl.files import file_digest, read_json, read_tensors, user_path
from gainmtl.packaged_weights import PACKAGES, find_package, load_packaged

IMAGENET = "imagenet"
PACKAGE = "package"


class Features(NamedTuple):
    """Feature maps of one batch."""

    levels: list[Tensor]
    """One (B, C_i, h_i, w_i) map per level, finest first."""
    last: Tensor
    """(B, C, h, w): the backbone's final map, after its final convolution where it has one."""


class Backbone(nn.Module):
    """A timm model cut before its pooling, returning the feature maps of every level.

    Args:
        name: a timm model name (`timm.list_models()`).
        weights: `None` (random), `"imagenet"` (timm's own, from the hub), `"package"` (ImageNet
            weights from an installed package, see `gainmtl.packaged_weights`), or the path of a
            `.safetensors` file; a `.json` of the same stem may hold `create_kwargs`, `mean`
            and `std`.
        create_kwargs: extra arguments of `timm.create_model`; they replace those of the `.json`.

    Raises:
        ValueError: an unknown model, a model without feature maps or without a package, weights
            of another model, or a package's file that is not the known one.
        FileNotFoundError: the weights file does not exist.
        ModuleNotFoundError: the package of the weights is not installed.
        ConnectionError: the hub can't be reached.
    """

    def __init__(
        self, name: str, weights: str | None = None, create_kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.name = name
        _check_name(name)
        source = _read_weights(name, weights)
        card = source.card
        self.initial_weights = source.identity
        """`None` (random), `"imagenet"`, or the digest of the `.safetensors` file, which for
        `"package"` is the converted one; kept through training."""
        self.create_kwargs: dict[str, Any] = create_kwargs or card.get("create_kwargs", {})
        # Any: the attributes of timm's models are not declared in the type `nn.Module`.
        self.timm: Any = _create(name, weights == IMAGENET, self.create_kwargs)
        if source.tensors is not None:
            _load_weights(self.timm, source.tensors, name, source.label)
        if not hasattr(self.timm, "forward_intermediates"):
            raise ValueError(_no_maps(name))
        config: dict[str, Any] = self.timm.pretrained_cfg or {}
        self.mean: tuple[float, ...] = tuple(card.get("mean", config.get("mean", (0.5,) * 3)))
        self.std: tuple[float, ...] = tuple(card.get("std", config.get("std", (0.5,) * 3)))
        self._frozen: list[nn.Module] = []
        self.channels, self.strides, self.last_channels, self.last_stride = self._probe()

    @property
    def is_pretrained(self) -> bool:
        """Whether the initial weights were loaded, not drawn."""
        return self.initial_weights is not None

    def _probe(self) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
        """Run one small image to measure channels and strides, and to check that maps exist."""
        config: dict[str, Any] = self.timm.pretrained_cfg or {}
        fixed = config.get("fixed_input_size", False)
        size = int(config.get("input_size", (3, 224, 224))[-1]) if fixed else 128
        given = self.create_kwargs.get("img_size", size)
        size = int(given if isinstance(given, int) else given[-1])
        was_training = self.timm.training
        self.timm.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, 3, size, size))
        except (AssertionError, AttributeError, LookupError, RuntimeError, ValueError) as error:
            message = _no_maps(self.name)
            cause = "" if str(error) == message else f" Error of timm: {error}"
            raise ValueError(message + cause) from error
        finally:
            self.timm.train(was_training)
        strides = tuple(round(size / level.shape[-1]) for level in features.levels)
        if len(set(strides)) < 2:
            raise ValueError(_no_maps(self.name))
        last = features.last
        return (
            tuple(level.shape[1] for level in features.levels),
            strides,
            last.shape[1],
            round(size / last.shape[-1]),
        )

    def forward(self, images: Tensor) -> Features:
        """(B, 3, H, W) normalised images to their `Features`."""
        last, levels = self.timm.forward_intermediates(images, output_fmt="NCHW")
        if last.ndim != 4:
            raise ValueError(_no_maps(self.name))
        if last.shape[2:] != levels[-1].shape[2:] and last.shape[1:3] == levels[-1].shape[2:]:
            last = last.permute(0, 3, 1, 2)  # some transformers keep their maps channels-last
        return Features(list(levels), last)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images to the levels, without the layers after them."""
        return list(
            self.timm.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        )

    def freeze(self, stride: int, statistics: bool = False) -> None:
        """Freeze everything up to the level of this stride: parameters and batch statistics.

        0 unfreezes; `statistics=True` keeps the batch statistics of all layers fixed. Early layers
        detect generic edges and textures, and with few defective parts they overfit first. Frozen,
        they also need no backward pass.
        """
        for parameter in self.timm.parameters():
            parameter.requires_grad_(True)
        self._frozen = []
        if statistics:
            self._frozen = [m for m in self.timm.modules() if isinstance(m, _BatchNorm)]
        if stride == 0:
            self.train(self.training)
            return
        if stride not in self.strides:
            raise ValueError(
                f"freeze: expected 0 or one of the strides {self.strides} of {self.name}, "
                f"got {stride}"
            )
        level = max(i for i, s in enumerate(self.strides) if s == stride)
        end = str(self.timm.feature_info[level]["module"])
        modules = dict(self.timm.named_modules())
        if end not in modules:
            raise ValueError(
                f"freeze: {self.name} has no module {end!r} at the end of stride {stride}; use 0"
            )
        inside = False
        early: list[nn.Module] = []
        for name, module in modules.items():
            # Registration order is execution order in timm's staged models: everything
            # registered before the level's own module, and that module's inside, is frozen.
            inside_now = name == end or name.startswith(end + ".")
            if inside and not inside_now:
                break
            inside = inside or inside_now
            # A parent of the level's module also contains later modules, so it stays trainable.
            if name and not end.startswith(name + "."):
                early.append(module)
        for module in early:
            for parameter in module.parameters():
                parameter.requires_grad_(False)
        self._frozen += early
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`, but frozen layers keep their batch statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def _check_name(name: str) -> None:
    import timm  # on demand: it takes a second

    if timm.is_model(name.split(".")[0]):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=4)
    hint = f"near names: {', '.join(near)}" if near else "see timm.list_models()"
    raise ValueError(f"backbone: expected a timm model name, got {name!r}; {hint}")


def _no_maps(name: str) -> str:
    return (
        f"backbone {name!r} has no pyramid of feature maps, and without maps there is no class "
        "activation map. Use a convolutional or hierarchical model, for example "
        "tf_efficientnetv2_s, mobilenetv2_100, resnet50, convnext_tiny or tiny_vit_5m_224."
    )


def _create(name: str, pretrained: bool, create_kwargs: dict[str, Any]) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **create_kwargs)
    except TypeError as error:
        raise ValueError(f"backbone {name!r} does not take {create_kwargs}: {error}") from error
    except Exception as error:
        if not pretrained:
            raise ValueError(f"backbone {name!r} can't be built: {error}") from error
        raise ConnectionError(
            f"weights='imagenet': timm could not fetch the weights of {name} from the hub "
            f"({type(error).__name__}). Use weights=<path of a .safetensors file>, weights=None to "
            "start from random weights, or a backbone whose weights a package ships: "
            f"weights='package' with {', '.join(PACKAGES)}."
        ) from error


class _Weights(NamedTuple):
    """What the argument `weights` refers to."""

    label: str
    """The name in messages."""
    identity: str | None
    """See `Backbone.initial_weights`."""
    tensors: dict[str, Tensor] | None
    """By timm's names; `None` if timm draws or fetches them."""
    card: dict[str, Any]
    """The content of the `.json` beside a file."""


def _read_weights(name: str, weights: str | None) -> _Weights:
    if weights is None or weights == IMAGENET:
        return _Weights("timm", weights, None, {})
    if weights == PACKAGE:
        package = find_package(name)
        return _Weights(package.package, f"sha256:{package.converted}", load_packaged(name), {})
    path = user_path(weights)
    if path.suffix != ".safetensors":
        raise ValueError(
            "weights: expected None, 'imagenet', 'package' or the path of a .safetensors file, "
            f"got {path.name!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {path}; give the path of one")
    beside = path.with_suffix(".json")
    card = read_json(beside) if beside.is_file() else {}
    try:
        check_normalisation({"mean": (0.5,) * 3, "std": (0.5,) * 3, **card})
        if not isinstance(card.get("create_kwargs", {}), dict):
            raise ValueError("create_kwargs are not an object")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"weights: expected {beside.name} to be an object that may hold create_kwargs, mean "
            f"and std, found another content: {error}. Correct it, or remove it"
        ) from error
    return _Weights(path.name, file_digest(path), read_tensors(path).tensors, card)


def check_normalisation(entries: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`mean` and `std` of a description: three numbers each, in (-9, 9) and in (0, 9).

    Raises:
        KeyError, TypeError, ValueError: there are no such numbers.
    """
    mean, std = (tuple(float(x) for x in entries[name]) for name in ("mean", "std"))
    fits = all(-9 < m < 9 for m in mean) and all(0 < s < 9 for s in std)
    if not (fits and len(mean) == len(std) == 3):
        raise ValueError(f"mean {mean}, std {std}")
    return mean, std


def _load_weights(model: Any, state: dict[str, Tensor], name: str, label: str) -> None:
    """Load a timm state dict, ignoring the classifier, which is not built here."""
    heads = {"classifier", "fc", "head"} | {str(model.pretrained_cfg.get("classifier", "fc"))}
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    wrong = [key for key in expected if key in state and expected[key].shape != state[key].shape]
    extra = [key for key in state if key not in expected and key.split(".")[0] not in heads]
    if missing or wrong or extra:
        first = (missing + wrong + extra)[0]
        raise ValueError(
            f"weights: {label} does not fit backbone {name!r}: {len(missing)} tensors missing, "
            f"{len(wrong)} of another shape, {len(extra)} unknown (first: {first}). Give the "
            "weights of this backbone, or its create_kwargs in a .json of the same stem."
        )
    model.load_state_dict({key: state[key] for key in expected})
