"""`quantize`: 8-bit convolutions for an exported model."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gainmtl.files import atomic_path, user_path
from gainmtl.runner import METADATA_KEY, OnnxModel
from gainmtl.types import Sample

BATCH = 8
"""Images of one step of the calibration; its memory is that of all layers for so many images."""


def quantize(
    path: str | Path, dataset: Dataset[Sample], output: str | Path, images: int = 128
) -> Path:
    """Write the exported model `path` to `output` with 8-bit convolutions; a quarter of the size.

    A convolution reads its input as 8-bit integers. Their range leaves out the most extreme 0.001 %
    of the values that the layer reads in `images` images, evenly spaced in `dataset`. Its weights
    get 7 bits, with a scale per output channel: sums of 8-bit products overflow on x86 processors
    without VNNI. All other operations stay in float32. Sources: Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018;
    onnxruntime's static quantization with the percentile calibration.

    Scores and maps change, so verdicts near the threshold do, too, and the false alarm rate is no
    longer the one that `fit` set: measure both on validation images before use
    (`tests/benchmarks/bench_export.py`). Measured once, on 201 magnetic tiles of 128 px with an
    EfficientNet-Lite0 trained for 3 epochs: AUROC fell from 0.718 to 0.697, the pixels' average
    precision from 0.356 to 0.315, and 18 verdicts changed.

    Args:
        dataset: the training part, at the image size of the model; labels and masks are not read.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `OnnxModel`; images of another size, or none.
    """
    path, output = user_path(path), user_path(output)
    model = OnnxModel(path)
    # On demand: the extra `onnx` is for those who export.
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = onnx.load(path)
    # Without this mark a warning recommends a preparation that the exporter has done.
    onnx.helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})
    reader = _Reader(dataset, model.image_size, images)
    with atomic_path(output) as temporary, contextlib.redirect_stdout(None):
        quantize_static(
            proto,
            temporary,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibStridedMinMax": 1},  # for all methods: one batch at a time
        )
        quantized = onnx.load(temporary)
        changed = {"precision": "int8", "calibration_images": len(reader.chosen)}
        description = json.dumps(model.description | changed)
        onnx.helper.set_model_props(quantized, {METADATA_KEY: description})
        temporary.write_bytes(quantized.SerializeToString(deterministic=True))
    return output


class _Reader:
    """Batches of images in the form that onnxruntime's calibration reads."""

    def __init__(self, dataset: Any, size: int, images: int) -> None:
        if not len(dataset) or images < 1:
            raise ValueError(
                f"quantize: expected at least one image, got {len(dataset)} and images={images}"
            )
        count = min(images, len(dataset))
        self.dataset, self.size = dataset, size
        self.chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)
        self.range = range(0)

    def __len__(self) -> int:
        return -(-len(self.chosen) // BATCH)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.range = range(start_index, end_index)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        if not self.range:
            return None
        start, self.range = self.range[0] * BATCH, self.range[1:]
        pictures = [self.dataset[int(i)].image for i in self.chosen[start : start + BATCH]]
        if pictures[0].shape != (3, self.size, self.size):
            raise ValueError(
                f"quantize: expected images (3, {self.size}, {self.size}) as the model, got "
                f"{tuple(pictures[0].shape)}; load the set with image_size={self.size}"
            )
        pixels = np.stack([picture.numpy() for picture in pictures])
        return {"images": np.rint(pixels * 255).astype(np.uint8)}
