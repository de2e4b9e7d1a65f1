"""`export`: write a trained model as one ONNX file, with its description in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gainmtl.anomaly.base import DETECTOR_THRESHOLD, Detector
from gainmtl.files import atomic_path, plain, user_path
from gainmtl.interface import DefectModel, check_model, encoder_of
from gainmtl.packaged_weights import PACKAGES
from gainmtl.runner import METADATA_KEY, OnnxModel

FORMAT = 1
"""Of the description."""
OPSET = 20
TOLERANCE = 1e-3
"""Largest difference between the file and the model on the images that check an export."""


def export(model: DefectModel | Detector, path: str | Path, licence: str | None = None) -> Path:
    """Write a trained classifier, baseline or anomaly detector as one ONNX file, atomically.

    The graph takes `images` (B, 3, S, S) uint8 in RGB, with S = `model.image_size` and any B.
    Scaling, normalisation and flat field are inside. Its outputs are

        probability     (B,) float64 in [0, 1], of a defect
        verdict         (B,) bool, true for defective: at or above the stored threshold
        defect_map      (B, 1, S, S) float32 in [0, 1]
        evidence_map    (B, 1, S, S) float32: the evidence of a GAINMTL, the anomaly map of a
                        detector; a U-Net and a BoxDetector have none

    as `gainmtl.predict` computes them. The metadata hold `describe(model)`. Outputs are compared
    with the model's for one and for three images before the file gets its name. `gainmtl.runner`
    applies it to image files, without torch.

    Args:
        licence: of the initial weights; see `describe`.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: a path that does not end in .onnx, a model that was never trained, or one that
            torch can't export.
    """
    path = user_path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"export: expected a path that ends in .onnx, got {path.name}")
    description = describe(model, licence)
    size = description["image_size"]
    try:
        import onnx
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise ImportError(
            f"export needs {error.name}: pip install 'gainmtl[onnx]', or onnx, onnxscript and "
            "onnxruntime"
        ) from error
    # On demand: torchvision takes a second.
    from gainmtl.deployment.boxes import keep_boxes_in_onnx
    from gainmtl.deployment.graph import Graph

    graph = Graph(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=generator)
    try:
        with torch.no_grad():
            names = list(graph(images))
            program = torch.onnx.export(
                graph,
                (images,),
                input_names=["images"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                custom_translation_table={torch.ops.gainmtl.keep_boxes.default: keep_boxes_in_onnx},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"export: torch can't export {description['backbone']} ({error}); use another backbone"
        ) from error
    assert program is not None
    proto = program.model_proto
    _clean(proto)
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(plain(description))})
    onnx.checker.check_model(proto)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        for count in (3, 1):
            _check(OnnxModel(temporary), graph, images[:count])
    return path


def describe(model: DefectModel | Detector, licence: str | None = None) -> dict[str, Any]:
    """What a user of the file needs to know, as JSON.

    `kind`, `backbone` and `strategy`; `classes`; `threshold` of the probability; `image_size`,
    `resize`, `mean` and `std`: the reading of a file; `initial_weights`: `None` (random),
    `"imagenet"` or a SHA-256; `licence` of those weights, looked up for `"imagenet"` and
    `"package"` unless given, `None` if unknown. For an anomaly detector also `score_threshold`
    and `spread`, see `AnomalyOutputs`.

    Raises:
        TypeError: no model.
        ValueError: a model that was never trained, or one with an impossible threshold or size.
    """
    check_model("export", model, (DefectModel, Detector), "read a saved one with gainmtl.load")
    if model.image_size is None or not np.isfinite(model.threshold):
        raise ValueError(
            "export: expected a trained model, got one without image_size or finite threshold; "
            "call gainmtl.fit or gainmtl.fit_detector, or load a trained model"
        )
    encoder = encoder_of(model)
    network = encoder.network if isinstance(model, Detector) else encoder.timm
    weights = encoder.initial_weights
    if licence is None and weights == "imagenet":
        licence = (network.pretrained_cfg or {}).get("license")
    if licence is None and weights in {f"sha256:{one.converted}" for one in PACKAGES.values()}:
        licence = "apache-2.0"  # of each of the packages
    common = {
        "format": FORMAT,
        "precision": "float32",
        "kind": model.kind or "gainmtl",
        "backbone": encoder.name,
        "classes": list(getattr(model, "classes", ("normal", "defective"))),
        "image_size": model.image_size,
        "resize": model.resize,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "initial_weights": weights,
        "licence": licence,
    }
    if isinstance(model, Detector):
        scale = {"score_threshold": model.threshold, "spread": model.spread}
        return {**common, "threshold": DETECTOR_THRESHOLD, **scale}
    return {**common, "threshold": model.threshold, "strategy": model.strategy.name}


def _clean(proto: Any) -> None:
    """Remove the exporter's notes: source lines with the paths of this machine."""
    graph = proto.graph
    for noted in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                  *graph.initializer, *proto.functions):  # fmt: skip
        del noted.metadata_props[:]
        noted.doc_string = ""


def _check(exported: OnnxModel, graph: Any, images: torch.Tensor) -> None:
    """Raise a ValueError unless the file gives the model's outputs for these images.

    Of the maps the mean difference counts: by rounding, a box may be painted or not.
    """
    with torch.no_grad():
        wanted = graph.outputs(images)
    try:
        found = exported(images.numpy())
    except Exception as error:  # onnxruntime's own types
        raise ValueError(f"export: the graph fails for {len(images)} images ({error})") from error
    off = [np.abs(found.probability - wanted.probability.numpy()).max()]
    off.append(np.abs(found.defect_map - wanted.defect_map.numpy()).mean())
    if not max(off) <= TOLERANCE:
        raise ValueError(
            f"export: expected outputs of the file within {TOLERANCE} of the model's, found "
            f"differences of {off[0]:.2g} in probability and {off[1]:.2g} in the map; use another "
            "backbone, or another version of torch"
        )
