"""Verdicts on image files by an exported model, for a production line: no torch is needed.

    python -m gainmtl predict model.onnx folder -o verdicts.csv
    python runner.py model.onnx folder -o verdicts.csv

The second line is for a computer without gainmtl: this file may be copied alone next to a model
that `gainmtl.export` wrote. It needs onnxruntime, NumPy and Pillow, and nothing else of the
package. `gainmtl.datasets` reads files with the functions of this module, so a model gets the
pixels that it was trained on.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import io
import json
import os
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

if sys.platform != "win32":
    import fcntl

IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff",
    ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
    ".tga", ".avif", ".pcx", ".sgi", ".ras", ".qoi",
})  # fmt: skip
"""Suffixes of image files, in lower or upper case."""
SYSTEM_FOLDERS = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information"})
"""Folders of file servers and systems that hold no data, in lower case."""
FULL_DEPTH = 1 << 14
"""With 16 bits white is expected above this. Cameras of 10 or 12 bits often stay below it."""
DARK = (
    "A picture with 16 or 32 bits has no grey value above 16383. Values are divided by 257, so few "
    "of the 256 grey levels are used. Scale the values so that white is 65535."
)
MAX_PIXELS = 10**9
"""Largest picture that is read. A file of a few KiB can declare any size, so there is a limit."""
PHOTOMETRIC, SAMPLE_FORMAT = 262, 339
"""Tags of TIFF files: 0 in the first means white is 0, 2 in the second signed values."""
RESIZE_MODES = ("squash", "pad")
METADATA_KEY = "gainmtl"
"""Of the model's description, a JSON object, in the metadata of the ONNX file."""
COLUMNS = (
    "name", "defect_probability", "threshold", "verdict", "peak", "peak_row", "peak_column",
    "defect_area", "height", "width", "map_file",
)  # fmt: skip
"""Of the CSV file: those of the inspection report's verdicts.csv that need no label."""
UNREADABLE = "unreadable"
"""The verdict of a file that can't be decoded; its other columns are empty."""

MAX_NAME = 240
"""Bytes of a file's name that leave room for `.map.png` and a temporary name in 255."""

AHEAD = 2
"""Batches that are decoded before the model needs them, and that may wait for their maps."""

Pixels = NDArray[np.uint8]


class Placement(NamedTuple):
    """Position and size of an image in its square, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and the columns of the image."""
        return (slice(self.top, self.top + self.height), slice(self.left, self.left + self.width))


def placement(original: tuple[int, int], size: int, mode: str = "squash") -> Placement:
    """Position of an image of `original` (H, W) in a `size` x `size` square.

    Raises:
        ValueError: `mode` is unknown.
    """
    if mode not in RESIZE_MODES:
        raise ValueError(f"Expected resize to be one of {', '.join(RESIZE_MODES)}; found {mode!r}.")
    if mode == "squash":
        return Placement(0, 0, size, size)
    scale = size / max(original)
    height, width = (max(1, round(side * scale)) for side in original)
    return Placement((size - height) // 2, (size - width) // 2, height, width)


class Walk(NamedTuple):
    """The content of a folder and of its sub-folders, sorted by path."""

    images: list[Path]
    """Files with an image suffix."""
    left_out: list[Path]
    """Other files; pipes and devices; hidden files and folders, those that begin with `__`, and
    system folders; links to a folder that contains them."""


def walk(folder: str | Path) -> Walk:
    """All files below `folder`; symbolic links are followed.

    Raises:
        OSError: a folder that can't be read, or a link to nothing that is not named like an image;
            names it.
    """
    images: list[Path] = []
    left_out: list[Path] = []

    def visit(place: Path, above: frozenset[Path]) -> None:
        here = place.resolve()
        if here in above:
            left_out.append(place)
            return
        with os.scandir(place) as entries:
            for entry in entries:
                path = place / entry.name
                is_image = path.suffix.lower() in IMAGE_SUFFIXES
                if is_hidden(entry.name):
                    left_out.append(path)
                elif entry.is_dir():
                    visit(path, above | {here})
                elif not entry.is_file() and path.exists():  # a pipe would never end
                    left_out.append(path)
                elif not is_image and not path.exists():
                    raise FileNotFoundError(
                        f"Expected a file or folder at {path}; it is a link to {os.readlink(path)},"
                        " which does not exist. Mend or remove the link."
                    )
                else:
                    (images if is_image else left_out).append(path)

    try:
        visit(Path(folder), frozenset())
    except OSError as error:
        if error.filename is None:
            raise
        raise type(error)(
            f"Expected readable files and folders; {error.filename} can't be read "
            f"({error.strerror}). Change its permissions, or move it elsewhere."
        ) from error
    return Walk(sorted(images), sorted(left_out))


def is_hidden(name: str) -> bool:
    """Whether files and folders of this name are left out."""
    return name.startswith((".", "__")) or name.lower() in SYSTEM_FOLDERS


def named(paths: Sequence[Path], folder: Path, shown: int = 3) -> str:
    """The first paths relative to `folder`, as in "a.txt, b.txt and 5 more"."""
    names = [path.relative_to(folder).as_posix() for path in paths[:shown]]
    rest = len(paths) - len(names)
    return ", ".join(names) + (f" and {rest} more" if rest else "")


def find_images(folder: Path) -> tuple[list[Path], str]:
    """The images of `walk`, and a sentence on what it leaves out, empty if that is nothing.

    Raises:
        FileNotFoundError: the folder does not exist or contains no image.
        OSError: a folder that can't be read; names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder of images; {folder} is not a folder.")
    images, left_out = walk(folder)
    if not images:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise FileNotFoundError(
            f"Expected images in {folder}; found none. Accepted suffixes: {suffixes}"
        )
    if not left_out:
        return images, ""
    return images, (
        f"Files or folders in {folder} that are not read as images: {len(left_out)} "
        f"({named(left_out, folder)})."
    )


def read_pixels(path: str | Path) -> Pixels:
    """(H, W, 3) of an 8- or 16-bit grey, palette, RGB or RGBA file, rotated upright.

    16-bit grey is scaled from 65535 to 255, with a warning if no value is above `FULL_DEPTH`;
    transparent pixels become black. Of a file with several frames or pages the first is read, with
    a warning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, floating-point pixels, values outside 0 … 65535, or more than
            `MAX_PIXELS`; names the file.
    """
    with open_image(path) as image:
        frames = frame_count(image)
        pixels, is_dark = rgb_pixels(upright(image))
    if is_dark:
        # Without the file's name: Python shows the same warning once, not for each of many files.
        warnings.warn(DARK, stacklevel=2)
    if frames > 1:
        warnings.warn(f"{path} has {frames} frames; only the first is read.", stacklevel=2)
    return pixels


def rgb_pixels(image: Image.Image) -> tuple[Pixels, bool]:
    """(H, W, 3) of an upright image as `read_pixels` describes, and whether `DARK` holds for it."""
    is_dark = False
    if image.mode.startswith("I"):
        values = np.asarray(image)
        is_dark = bool(0 < values.max(initial=0) < FULL_DEPTH)
        image = Image.fromarray(eight_bits(values))
    elif image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    elif "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    # Pillow's conversion would copy an RGB image, and needs twice the memory for a grey one.
    pixels = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return (pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)), is_dark


def frame_count(image: Image.Image) -> int:
    """The frames or pages of a file; 1 for a JPEG, whose further pictures are previews."""
    return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned by its EXIF orientation, with black as 0."""
    image.load()
    # Pillow's TIFF reader turns the image when it decodes, and some releases then keep the tag.
    if image.format != "TIFF":
        ImageOps.exif_transpose(image, in_place=True)
    return black_is_zero(image)


def black_is_zero(image: Image.Image) -> Image.Image:
    """The image, inverted if it is a TIFF of 16 bits with white as 0; Pillow inverts 8 bits."""
    if image.mode.startswith("I;16") and _tiff_tag(image, PHOTOMETRIC) == 0:
        return Image.fromarray(65535 - np.asarray(image))
    return image


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag)


def eight_bits(values: NDArray[Any]) -> Pixels:
    """Grey values 0 … 65535 as 0 … 255, rounded."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(
            f"grey values from {low} to {high}, expected 0 to 65535; scale them to 16 bits"
        )
    # A table needs no wider copy of the pixels. 257 is odd, so no value lies between two results.
    return ((np.arange(high + 1) + 128) // 257).astype(np.uint8)[values]


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """The opened file; whatever fails within the context becomes an error that names the file."""
    try:
        # A handle instead of a path: Pillow maps some files at a path into memory, and then
        # scrambles TIFF files with an orientation of 5 to 8.
        with _large_pictures(), open(path, "rb") as file, Image.open(file) as image:
            width, height = image.size
            if image.mode == "L" and 2 in np.atleast_1d(_tiff_tag(image, SAMPLE_FORMAT)):
                raise ValueError("signed values of 8 bits; save it with unsigned ones")
            if width * height > MAX_PIXELS:
                raise ValueError(
                    f"{width} x {height} pixels, more than the limit of {MAX_PIXELS}; cut it into "
                    "parts"
                )
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"Expected an image at {path}; there is no such file.") from None
    except Exception as error:  # decoders raise many types of exceptions for damaged files
        raise ValueError(
            f"Expected a readable image; {path} can't be decoded ({error}). "
            "Replace or remove the file."
        ) from error


_pillow = threading.Lock()
_open_pictures = 0
_limit_of_pillow: int | None = None


@contextmanager
def _large_pictures() -> Iterator[None]:
    """Pillow's own limit of 89 megapixels is off while a picture is open; `MAX_PIXELS` holds."""
    global _open_pictures, _limit_of_pillow
    with _pillow:
        if not _open_pictures:
            _limit_of_pillow, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _open_pictures += 1
    try:
        yield
    finally:
        with _pillow:
            _open_pictures -= 1
            if not _open_pictures:
                Image.MAX_IMAGE_PIXELS = _limit_of_pillow


def resize_pixels(pixels: Pixels, size: int, mode: str = "squash") -> Pixels:
    """(H, W, 3) to (size, size, 3), bit for bit as `gainmtl.datasets.transforms.resize_pair`.

    Bilinear with antialiasing, columns first, in integers: the weights have as many binary digits
    as fit into 16 bits, and each of the two passes is rounded to 8 bits. Source: the kernel for
    uint8 of PyTorch's `interpolate`, which is used on processors with AVX2 and on ARM; on others
    torchvision computes in float32, and pixels may differ by 1.
    """
    height, width = pixels.shape[:2]
    place = placement((height, width), size, mode)
    small = pixels
    if place.width != width:
        # In blocks, because the contiguous copy of a large picture would take its memory again.
        blocks = np.array_split(pixels, min(height, 1 + pixels.size // 2**24))
        columns = [_resized_rows(block.swapaxes(0, 1), place.width) for block in blocks]
        small = np.concatenate(columns, 1).swapaxes(0, 1)
    if place.height != height:
        small = _resized_rows(small, place.height)
    if small.shape[:2] == (size, size):
        return small
    square = np.empty((size, size, 3), np.uint8)
    square[:] = np.rint(small.mean((0, 1)))
    square[place.inside] = small
    return square


class _Taps(NamedTuple):
    """The rows that each resized row is a weighted sum of."""

    first: NDArray[np.int64]
    """(count,) the first of them; the others follow it."""
    weights: NDArray[np.int32]
    """(taps, count), scaled by 2 to the power of `digits`."""
    digits: int


@functools.lru_cache(maxsize=64)
def _taps(source: int, target: int) -> _Taps:
    weights = _weights(source, target)
    highest = float(weights.max())
    digits = next(n for n in range(23) if n == 22 or int(0.5 + highest * 2 ** (n + 1)) >= 2**15)
    whole = np.floor(0.5 + weights * 2**digits).astype(np.int32)
    taps = int((whole > 0).sum(1).max())
    first = np.minimum((whole > 0).argmax(1), source - taps)
    return _Taps(
        first, np.stack([whole[np.arange(target), first + k] for k in range(taps)]), digits
    )


def _resized_rows(pixels: Pixels, count: int) -> Pixels:
    """(N, …) to (count, …) along the first axis."""
    taps = _taps(len(pixels), count)
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    total = np.full((count, rows.shape[1]), 2**taps.digits // 2, np.int32)
    part = np.empty_like(total)
    for offset, weights in enumerate(taps.weights):
        total += np.multiply(rows[taps.first + offset], weights[:, None], out=part)
    total >>= taps.digits
    return np.minimum(total, 255).astype(np.uint8).reshape(count, *pixels.shape[1:])


@functools.lru_cache(maxsize=4)  # few: those of a large picture take megabytes
def _weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source): a triangle as wide as two source or two target pixels, the wider; Σ = 1."""
    scale = source / target
    centre = scale * (np.arange(target)[:, None] + 0.5)
    distance = np.abs(np.arange(source) + 0.5 - centre) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    weights /= weights.sum(1, keepdims=True)
    weights.flags.writeable = False  # it is shared by all calls
    return weights


def restore_map(
    values: NDArray[np.float32], original: tuple[int, int], mode: str
) -> NDArray[np.float32]:
    """A map (S, S) of the square resized bilinearly to the original (H, W), without the padding."""
    inside = values[placement(original, len(values), mode).inside]
    for axis, side in enumerate(original):
        if inside.shape[axis] != side:
            weights = _weights(inside.shape[axis], side).astype(np.float32)
            inside = weights @ inside if axis == 0 else inside @ weights.T
    return np.ascontiguousarray(inside)


class OnnxOutputs(NamedTuple):
    """The outputs of an exported model for B images of S x S pixels."""

    probability: NDArray[np.float64]
    """(B,) in [0, 1]: of a defect."""
    verdict: NDArray[np.bool_]
    """(B,): true for defective, by the stored threshold."""
    defect_map: NDArray[np.float32]
    """(B, 1, S, S) in [0, 1]: where the defect is."""
    evidence_map: NDArray[np.float32] | None
    """(B, 1, S, S), unbounded: the evidence, or a detector's distances; `None` for a model that
    has no such map."""


class OnnxModel:
    """A model that `gainmtl.export` wrote, run by onnxruntime.

    Args:
        path: the `.onnx` file.
        threads: of onnxruntime; 0: as many as it chooses.
        providers: onnxruntime's execution providers, the preferred one first.

    Raises:
        FileNotFoundError: no such file.
        ImportError: onnxruntime is not installed.
        ValueError: not an ONNX file, one without a whole description, or a negative number of
            threads.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "an exported model needs onnxruntime: pip install onnxruntime"
            ) from error
        if threads < 0:
            raise ValueError(f"threads: expected 0 or more, got {threads}")
        place = Path(path).expanduser()
        if not place.is_file():
            raise FileNotFoundError(
                f"Expected a model at {path}; there is no such file. gainmtl.export writes one."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        content = place.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        """SHA-256 of the file."""
        try:
            self.session = onnxruntime.InferenceSession(content, options, list(providers))
        except Exception as error:  # onnxruntime's own types of exceptions, all without a base
            raise ValueError(
                f"Expected an ONNX file; onnxruntime can't load {path} ({error}). Export the model "
                "again with gainmtl.export."
            ) from error
        stored = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if stored is None:
            raise ValueError(
                f"Expected a model with its description; the metadata of {path} have no entry "
                f"{METADATA_KEY!r}. Write the file with gainmtl.export."
            )
        self.description: dict[str, Any] = json.loads(stored)
        """Classes, threshold, image size, resize rule, normalisation, origin of the weights."""
        try:
            self.threshold = float(self.description["threshold"])
            """Of the defect probability."""
            self.image_size = int(self.description["image_size"])
            self.resize = str(self.description["resize"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected threshold, image_size and resize in the description of {path}; found "
                f"another content ({error!r}). Write the file with gainmtl.export."
            ) from error

    def __call__(self, images: Pixels) -> OnnxOutputs:
        """Outputs for images (B, 3, S, S) uint8 of the exported size S, in RGB.

        Raises:
            ValueError: images of another shape or type, or a probability that is not finite.
        """
        size = self.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"Expected images (B, 3, {size}, {size}) of type uint8; found {images.shape} of "
                f"type {images.dtype}. The size is fixed by the export; resize with "
                "runner.resize_pixels, or train and export a model of the other size."
            )
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, {"images": images}), strict=True))
        out = OnnxOutputs._make(map(found.get, OnnxOutputs._fields))
        if not np.isfinite(out.probability).all():
            # NaN is not above the threshold, and the image would pass as normal.
            raise ValueError(
                "Expected finite probabilities; the model computed NaN or infinity. Export it "
                "again from intact weights."
            )
        clear = np.abs(out.probability - self.threshold) > 1e-4
        if (out.verdict != (out.probability >= self.threshold))[clear].any():
            raise ValueError(
                f"Expected verdicts by the threshold {self.threshold:g} of the description; the "
                "graph has another one, so the description was edited. Export the model again."
            )
        return out


def verdict_row(
    name: str,
    probability: float,
    is_defective: bool,
    threshold: float,
    defect_map: NDArray[np.float32],
) -> dict[str, Any]:
    """A row of the table of predictions, see `gainmtl.Predictions`; `defect_map` is (H, W)."""
    row, column = divmod(int(defect_map.argmax()), defect_map.shape[1])
    return {
        "name": name,
        "defect_probability": probability,
        "verdict": "defective" if is_defective else "normal",
        "threshold": threshold,
        "peak": float(defect_map[row, column]),
        "peak_row": row,
        "peak_column": column,
        "defect_area": float((defect_map >= 0.5).mean()),
    }


class Summary(NamedTuple):
    """Counts of a run of `predict_folder`."""

    images: int
    defective: int
    unreadable: int


def predict_folder(
    model: OnnxModel,
    folder: str | Path,
    output: str | Path,
    maps: str | Path | None = None,
    batch_size: int = 8,
) -> Summary:
    """Write a row of `COLUMNS` to the CSV file `output` for each image below `folder`, in order.

    `maps` is a folder for `<name>.map.png`, the defect map at the image's size with 255 for 1. A
    file that can't be read is named on stderr and has the verdict `UNREADABLE`. Progress and files
    that are left out go to stderr. Memory does not depend on the number of images, except for their
    names.

    Rows are collected in a hidden file beside `output`, which replaces `output` at the end. Called
    again with the same model, folder and maps, an interrupted run continues there, from the first
    image that has changed since or whose map is gone. While the model computes, threads decode the
    next images and write the maps of those before.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        OSError: another run is writing the same file, or nothing can be written, as on a full disk.
        ValueError: a batch size below 1; `maps` inside `folder`, where maps would be read as
            images, or no folder; an `output` that exists and is no table of verdicts.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    folder, output = Path(folder).expanduser(), Path(output).expanduser().resolve()
    images, left_out = find_images(folder)
    if left_out:
        print(left_out, file=sys.stderr)
    _check_output(output)
    if maps is not None:
        maps = _maps_folder(maps, folder)
    run = f"{model.digest} {folder.resolve()} {maps}"
    digest = hashlib.sha256(run.encode("utf-8", "surrogateescape")).hexdigest()
    partial = output.with_name(f".{output.name}.{digest[:16]}.part")
    names = [path.relative_to(folder).as_posix() for path in images]
    shown = time.monotonic()
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        # As in the report: bytes of names that are not valid UTF-8 are escaped.
        # Opened to append: only the run that holds the lock may empty it. The threads end before
        # the lock does.
        with (
            partial.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file,
            ThreadPoolExecutor(2 * AHEAD) as pool,
        ):
            _lock(file, output)
            rows = _finished_rows(partial, images, names, maps)
            head = _lines(rows)
            if partial.read_bytes().startswith(head):  # nothing is lost if this process is killed
                file.truncate(len(head))
            else:
                file.truncate(0)
                file.write(head.decode("utf-8"))
            counts = Counter(row["verdict"] for row in rows)
            rest = images[len(rows) :]
            chunks = (rest[i : i + batch_size] for i in range(0, len(rest), batch_size))
            read = _ahead(pool, lambda paths: _read(model, folder, paths), chunks)
            judged = ((chunk, model(chunk.squares) if chunk.sizes else None) for chunk in read)
            written = _ahead(
                pool, lambda one: _finish(model, one[0], one[1], output.parent, maps), judged
            )
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            for new in written:
                table.writerows(new)
                file.flush()
                counts.update(row["verdict"] for row in new)
                if time.monotonic() - shown > 2:
                    shown = time.monotonic()
                    print(f"{counts.total()} of {len(images)} images", file=sys.stderr)
            os.fsync(file.fileno())
        os.replace(partial, output)
    return Summary(counts.total(), counts["defective"], counts[UNREADABLE])


def _check_output(output: Path) -> None:
    """Raise a ValueError unless a table of verdicts can stand at a path without loss."""
    found = ""
    if output.is_file():
        with output.open("rb") as file:
            line = file.readline(1000)
        if line and not line.startswith(f"{COLUMNS[0]},{COLUMNS[1]},".encode()):
            found = "a file that is no table of verdicts"
    elif output.exists():
        found = "a folder" if output.is_dir() else "a pipe or a device"
    if found:
        raise ValueError(
            f"Expected a new file, or a table of verdicts to replace; found {found} at {output}. "
            "Choose another name."
        )


def _maps_folder(maps: str | Path, folder: Path) -> Path:
    place = Path(maps).expanduser().resolve()
    if not str(maps) or (place.exists() and not place.is_dir()):
        raise ValueError(f"Expected a folder for the maps; found {str(maps)!r}, which is none.")
    if place.is_relative_to(folder.resolve()):
        raise ValueError(
            f"Expected maps outside the folder of the images; found {maps} inside {folder}. "
            "Choose another folder."
        )
    return place


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """An error of the system within the context becomes one with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # our own
            raise
        raise OSError(
            f"Expected to write {output} and its maps; found that the system reports: {error}. "
            "Finished rows are kept. Make room, or give a place that can be written to, and start "
            "again."
        ) from error


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """`function` of each item, in order, computed by threads up to `AHEAD` items in advance."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _lock(file: Any, output: Path) -> None:
    """Lock the file of rows until it is closed or the process ends; no lock on Windows.

    Raises:
        OSError: another run has locked it.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(
            f"Expected no other run that writes {output}; found one with the same model and "
            "folder. Wait until it has ended, or choose another output."
        ) from error


def _finished_rows(
    partial: Path, images: list[Path], names: list[str], maps: Path | None
) -> list[dict[str, Any]]:
    """The rows of an interrupted run as far as they belong to the first images as they are now."""
    if not partial.is_file():
        return []
    text = partial.read_text("utf-8", "replace")
    whole = io.StringIO(text[: text.rfind("\n") + 1])  # without a row that was being written
    written, rows = partial.stat().st_mtime_ns, []
    for path, name, row in zip(images, names, csv.DictReader(whole), strict=False):
        escaped = name.encode("utf-8", "backslashreplace").decode()
        if tuple(row) != COLUMNS or None in row.values() or row["name"] != escaped:
            break
        # The time of the last change, which a copied or moved file has as well.
        changed = max(path.lstat().st_ctime_ns, path.stat().st_ctime_ns) if path.exists() else 0
        if changed > written:
            break
        if maps and row["verdict"] != UNREADABLE and not (maps / _map_name(name)).is_file():
            break
        rows.append(row)
    return rows


def _lines(rows: list[dict[str, Any]]) -> bytes:
    """The header and rows as the file of rows has them."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


class _Chunk(NamedTuple):
    """Files that are read together."""

    rows: list[dict[str, Any]]
    """One per file, with its name; the others come later, except of files that can't be read."""
    squares: Pixels
    """(B, 3, S, S) of those that can be read."""
    sizes: list[tuple[int, int]]
    """Height and width of their files."""


def _read(model: OnnxModel, folder: Path, paths: list[Path]) -> _Chunk:
    rows: list[dict[str, Any]] = []
    squares, sizes = [], []
    for path in paths:
        row: dict[str, Any] = {"name": path.relative_to(folder).as_posix()}
        try:
            pixels = read_pixels(path)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            row["verdict"] = UNREADABLE
        else:
            squares.append(resize_pixels(pixels, model.image_size, model.resize))
            sizes.append((pixels.shape[0], pixels.shape[1]))
        rows.append(row)
    shape = (-1, model.image_size, model.image_size, 3)
    stacked = np.array(squares, dtype=np.uint8).reshape(shape)
    return _Chunk(rows, np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)), sizes)


def _finish(
    model: OnnxModel, chunk: _Chunk, out: OnnxOutputs | None, beside: Path, maps: Path | None
) -> list[dict[str, Any]]:
    """The whole rows of a chunk; its maps are written."""
    if out is None:
        return chunk.rows
    readable = [row for row in chunk.rows if "verdict" not in row]
    for index, (row, size) in enumerate(zip(readable, chunk.sizes, strict=True)):
        defect_map = restore_map(out.defect_map[index, 0], size, model.resize)
        probability, is_defective = float(out.probability[index]), bool(out.verdict[index])
        row |= verdict_row(row["name"], probability, is_defective, model.threshold, defect_map)
        row |= {"height": size[0], "width": size[1]}
        if maps is not None:
            path = maps / _map_name(row["name"])
            _write_map(defect_map, path)
            row["map_file"] = Path(os.path.relpath(path, beside)).as_posix()
    return chunk.rows


def _map_name(name: str) -> str:
    """The path of an image's map in the folder of maps; a long name is cut and gets a digest."""
    folder, _, last = name.rpartition("/")
    given = os.fsencode(last)
    if len(given) > MAX_NAME:
        start = given[: MAX_NAME - 20].decode("utf-8", "ignore")
        last = f"{start}-{hashlib.sha256(given).hexdigest()[:16]}"
    return f"{folder}/{last}.map.png".removeprefix("/")


def _write_map(defect_map: NDArray[np.float32], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    grey = np.rint(255 * np.clip(defect_map, 0, 1)).astype(np.uint8)
    # The default level takes almost three times as long for two thirds of the size.
    Image.fromarray(grey).save(temporary, format="PNG", compress_level=1)
    os.replace(temporary, path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.add_argument("model", help="a file that gainmtl.export wrote")
    parser.add_argument("folder", help="images, also in sub-folders")
    parser.add_argument("-o", "--output", default="verdicts.csv", help="default: %(default)s")
    parser.add_argument("--maps", help="folder for the defect maps; without it none is written")
    parser.add_argument("--batch-size", type=int, default=8, help="default: %(default)s")
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="of the network; 0, the default: all. Up to 4 more decode images and write maps",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict a folder; status 0, 1 if a file could not be read, 2 if nothing was predicted."""
    try:
        model = OnnxModel(arguments.model, arguments.threads)
        counts = predict_folder(
            model, arguments.folder, arguments.output, arguments.maps, arguments.batch_size
        )
    except (OSError, ImportError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{counts.images} images: {counts.defective} defective, "
        f"{counts.images - counts.defective - counts.unreadable} normal, {counts.unreadable} "
        f"unreadable; written to {arguments.output}",
        file=sys.stderr,
    )
    return 1 if counts.unreadable else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
