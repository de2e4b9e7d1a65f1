"""Deployment: a trained model as one ONNX file, which `gainmtl.runner` applies without torch."""

from gainmtl.deployment.exporting import describe as describe
from gainmtl.deployment.exporting import export as export
from gainmtl.deployment.quantization import quantize as quantize
