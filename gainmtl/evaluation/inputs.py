"""The images that `predict` takes: files, folders, pictures, arrays and tensors, one by one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from gainmtl.datasets import list_images
from gainmtl.datasets.images import read_image
from gainmtl.datasets.transforms import resize_pair
from gainmtl.files import user_path
from gainmtl.runner import DARK, black_is_zero, rgb_pixels

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, a PIL picture, an array (H, W), (H, W, 1) or (H, W, 3), or a tensor (3, H, W); numbers
are uint8, or floating-point in [0, 1]; colours are RGB."""
Images: TypeAlias = Picture | Iterable[Picture]
"""Also a folder, an array (B, H, W, 3), a tensor (B, 3, H, W), or a list or generator of pictures
of any sizes."""
TAKEN = (
    "a folder, a file, a PIL picture, an array (H, W), (H, W, 3) or (B, H, W, 3), a tensor "
    "(3, H, W) or (B, 3, H, W), or a list or generator of such pictures"
)


class Loaded(NamedTuple):
    """One image for a model."""

    name: str
    image: Tensor
    """(3, H, W) float32 in [0, 1]; H = W = the model's image size, if it has one."""
    original: tuple[int, int] | None
    """(H, W) before the image was resized; `None` if it was not."""


def load_images(model: Any, images: Images) -> Iterator[Loaded]:
    """Each image of `images`, resized as in training unless it has the model's size.

    Names are paths relative to a folder, file names, or `image <i>` with the position i.

    Raises:
        FileNotFoundError: no such file or folder, or a folder without images.
        TypeError: something that is no image.
        ValueError: an unreadable file; an array or a tensor of another shape, type or range; a file
            or a picture for a model without an image size.
    """
    for index, (name, picture) in enumerate(_pictures(images)):
        pixels = _pixels(picture)
        size, found = model.image_size, (pixels.shape[1], pixels.shape[2])
        if size is None and not isinstance(picture, Tensor):
            raise ValueError(
                "predict: expected a trained model, got one without image_size; fit it, or "
                "set model.image_size"
            )
        original = None
        if size is not None and found != (size, size):
            original = found
            pixels, _ = resize_pair(pixels, None, size, model.resize)
        scale = 255 if pixels.dtype == torch.uint8 else 1
        yield Loaded(name or f"image {index}", pixels.float() / scale, original)


def _pictures(images: Images) -> Iterator[tuple[str | None, Picture]]:
    """Single pictures with their names; `None` for those without."""
    if isinstance(images, str | Path):
        path = user_path(images)
        if not path.exists():
            raise FileNotFoundError(
                f"predict: expected an image file or a folder of images at {path}; there is no "
                "such file or folder. Correct the path"
            )
        files = [path] if path.is_file() else list_images(path)
        base = path.parent if path.is_file() else path
        yield from ((file.relative_to(base).as_posix(), file) for file in files)
    elif isinstance(images, Image.Image):
        yield None, images
    elif isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            yield from ((None, picture) for picture in images)
        else:
            yield None, images
    elif isinstance(images, Iterable) and not isinstance(images, bytes | dict):
        for picture in images:
            if isinstance(picture, str | Path):
                path = user_path(picture)
                yield path.name, path
            else:
                yield None, picture
    else:
        raise TypeError(f"predict: expected {TAKEN}, got {type(images).__name__}")


def _pixels(picture: Picture) -> Tensor:
    """(3, H, W): uint8, or float32 in [0, 1]."""
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return _from_pil(picture)
    if isinstance(picture, np.ndarray):
        if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3)):
            raise ValueError(
                f"predict: expected arrays (H, W), (H, W, 1) or (H, W, 3), got {picture.shape}; "
                "channels come last, and a fourth channel has no meaning here"
            )
        if picture.dtype.kind not in "buif":
            raise ValueError(
                f"predict: expected arrays of numbers, got {picture.dtype}; convert them to uint8, "
                "or to floating-point numbers in [0, 1]"
            )
        planes = picture[..., None] if picture.ndim == 2 else picture
        planes = np.broadcast_to(planes, (*planes.shape[:2], 3)).transpose(2, 0, 1)
        return _checked(torch.from_numpy(np.ascontiguousarray(planes)))
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(
                f"predict: expected images (B, 3, H, W), got {tuple(picture.shape)}; repeat a grey "
                "channel three times"
            )
        return _checked(picture.detach().cpu())
    raise TypeError(f"predict: expected {TAKEN}; one of them is of type {type(picture).__name__}")


def _checked(pixels: Tensor) -> Tensor:
    if 0 in pixels.shape:
        raise ValueError(f"predict: expected images with pixels, got {tuple(pixels.shape)}")
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ValueError(
            f"predict: expected uint8, or floating-point numbers in [0, 1], got {pixels.dtype}; "
            "divide by the largest value that the camera can give"
        )
    pixels = pixels.float()
    if not (0 <= pixels.min() and pixels.max() <= 1):
        raise ValueError(
            f"predict: expected values in [0, 1], got {pixels.min():.3g} to {pixels.max():.3g}; "
            "don't normalise, model.preprocess does; values to 255 belong in a uint8 tensor"
        )
    return pixels


def _from_pil(picture: Image.Image) -> Tensor:
    """The pixels that the same picture has in a file: depth, palette and transparency alike."""
    upright = ImageOps.exif_transpose(black_is_zero(picture))
    if upright.mode == "F":
        raise ValueError("predict: expected a picture of 8 or 16 bits, got floating-point pixels")
    pixels, is_dark = rgb_pixels(upright)
    if is_dark:
        warnings.warn(DARK, stacklevel=2)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
