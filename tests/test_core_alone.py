"""The core trains, predicts, saves and loads without the libraries of the book."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ABSENT = (
    "matplotlib", "seaborn", "papermill", "IPython", "ipywidgets", "dask", "distributed", "yaml",
    "nbformat", "gainbook", "segmentation_models_pytorch", "sklearn", "torchmetrics",
    "onnx", "onnxruntime", "onnxscript",
)  # fmt: skip
"""Libraries that `pip install .` without extras does not need."""

SCRIPT = """
import importlib.util, sys, pandas, torch, gainmtl

assert importlib.util.find_spec("seaborn") is None

# Imported only by the functions that need them, because each takes a second.
slow = {"timm", "torchvision", "lightning_fabric", "scipy.stats"} & set(sys.modules)
assert not slow, slow
data = gainmtl.datasets.load("synthetic", image_size=32, train=8, val=8, test=4)
model = gainmtl.GAINMTL("test_efficientnet", "S1")
settings = {"accelerator": "cpu", "progress": False}
history = gainmtl.fit(model, data, 1, batch_size=4, **settings)
assert len(history) == 1
images = torch.stack([data.test[i].image for i in range(4)])
table = gainmtl.predict(model, images).table
assert len(table) == 4
assert not gainmtl.evaluate(model, data.test, resamples=10).empty
with torch.no_grad():
    assert gainmtl.explain(model, model.preprocess(images), "grad_cam").map.shape[0] == 4
again = gainmtl.load(gainmtl.save(model, FOLDER + "/model"))
assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
# Equal weights in another memory layout: equal up to the order of sums over several threads.
pandas.testing.assert_frame_equal(gainmtl.predict(again, images).table, table, rtol=1e-5)
bank = gainmtl.MemoryBank("test_efficientnet")
gainmtl.fit_detector(bank, data, **settings)
assert gainmtl.load(gainmtl.save(bank, FOLDER + "/bank")).threshold == bank.threshold
"""


def test_the_core_needs_none_of_the_books_libraries(
    tmp_path: Path, run_hiding: Callable[[str, str, Path], None]
) -> None:
    run_hiding(repr(ABSENT), f"FOLDER = {str(tmp_path)!r}\n{SCRIPT}", ROOT)
