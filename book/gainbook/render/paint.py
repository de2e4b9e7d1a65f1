"""A section of a page in which a reader paints on a part and exported networks judge it.

Everything runs in the browser, without a server and with the network off: `book/_static/paint`
has the script, `book/vendor/onnxruntime` the runtime. A page that is opened from a disk may
not fetch files, so runtime and networks travel as text within scripts.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gainbook.chapters.ch16_explorer.networks import BlankPart, Example, Judge
from gainbook.render import montage
from gainbook.render.explorer import MAPS
from gainbook.render.widgets import to_image, to_png
from gainmtl.files import atomic_path
from gainmtl.runner import OnnxModel, OnnxOutputs

STATIC = Path(__file__).resolve().parents[2] / "_static"
RUNTIME = STATIC.parent / "vendor" / "onnxruntime"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz"
FOLDER = "_static/paint"
"""Of the scripts in the built book, beside the notebooks' folder."""
SAMPLES = 50
"""Pixels of each map that the page compares with Python's."""
TRAP = 20, 24
"""Row and column of the mark that the button *Show the trap* prints."""
COLOURS = {MAPS[0]: "cividis", MAPS[1]: "PuOr_r"}


def scripts(judges: Sequence[Judge]) -> dict[str, str]:
    """The generated scripts by name, without the parts: `runtime.js` and `networks.js`."""
    runtime = {
        "module": _base64(gzip.compress((RUNTIME / MODULE).read_bytes(), 9, mtime=0)),
        "wasm": _base64((RUNTIME / WASM).read_bytes()),
    }
    networks = {one.name: _base64(one.file.read_bytes()) for one in judges}
    return {
        "runtime.js": f"window.paintRuntime = {json.dumps(runtime)};\n",
        "networks.js": f"window.paintNetworks = {json.dumps(networks)};\n",
    }


def still(example: Example) -> Any:
    """The trap as a figure: the part, with the mark outlined, and the defect maps."""
    columns = [
        montage.Column(_verdict(system, out), torch.from_numpy(out.defect_map))
        for system, out in example.seen.items()
    ]
    return montage.panels(example.image[None], columns, marks=example.mark[None])


def still_text(example: Example) -> str:
    """What `still` shows."""
    verdicts = " ".join(f"{_verdict(*one)}." for one in example.seen.items())
    return f"A normal part with a printed mark, and two defect maps. {verdicts}"


def _verdict(system: str, out: OnnxOutputs) -> str:
    verdict = "defective" if out.verdict[0] else "normal"
    return f"{system}: {verdict}, {float(out.probability[0]):.2f}"


def parts_script(judges: Sequence[Judge], parts: Sequence[BlankPart]) -> str:
    """`parts.js`: parts, and what Python computes of them.

    The button *Show the trap* prints the mark on the first part, under the last training.

    Raises:
        ValueError: networks of another size than the parts.
    """
    trap = {"part": 0, "training": judges[-1].training, "row": TRAP[0], "column": TRAP[1]}
    return f"window.paintParts = {_json(_data(judges, parts, trap))};\n"


def section(example: Example, root: str = "..") -> str:
    """The section as HTML. Its scripts are those of the built book, `root` relative to the page.

    Args:
        example: shown until the networks are ready, and where scripts are off.
    """
    links = [f'<link rel="stylesheet" href="{root}/{FOLDER}/paint.css">']
    links.append(f'<script defer src="{root}/{FOLDER}/paint.js"></script>')
    image = to_image(still(example))
    picture = (
        f'<img src="data:image/png;base64,{_base64(to_png(image))}" width="{image.width}" '
        f'height="{image.height}" alt="{html.escape(still_text(example))}">'
    )
    names = ("runtime.js", "networks.js", "parts.js")
    later = {"scripts": [f"{root}/{FOLDER}/{name}" for name in names]}
    return _element(later, picture) + "".join(links)


def write_page(path: Path, judges: Sequence[Judge], parts: Sequence[BlankPart]) -> None:
    """Write the section as one file that needs no other: for one's own networks and parts."""
    own = {name: (STATIC / "paint" / name).read_text("utf-8") for name in ("paint.css", "paint.js")}
    code = [*scripts(judges).values(), own["paint.js"]]
    with atomic_path(path) as temporary:
        temporary.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<title>Paint on a part</title><style>body { font-family: sans-serif; margin: 1rem; }"
            f"{own['paint.css']}</style><h1>Paint on a part</h1>"
            + _element(_data(judges, parts) | {"scripts": []})
            + "".join(f"<script>{one}</script>" for one in code),
            "utf-8",
        )


def _element(data: Mapping[str, Any], picture: str = "") -> str:
    text = _json(data)
    return f'<div class="paint">{picture}<script type="application/json">{text}</script></div>'


def _json(data: Mapping[str, Any]) -> str:
    # "<" would end the script element inside a name.
    return json.dumps(data).replace("<", "\\u003c")


def _data(
    judges: Sequence[Judge], parts: Sequence[BlankPart], trap: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    models = {one.name: OnnxModel(one.file) for one in judges}
    sizes = {model.description["image_size"] for model in models.values()}
    sizes |= {side for one in parts for side in one.image.shape[1:]}
    if len(sizes) != 1:
        raise ValueError(
            f"paint: expected networks and parts of one size, found {sorted(sizes)} pixels; resize "
            "the parts, or use networks of one size"
        )
    return {
        "size": sizes.pop(),
        "parts": [
            {
                "name": one.name,
                "png": _png(one.image),
                "clean": None if one.clean is None else _png(one.clean),
            }
            for one in parts
        ],
        "trainings": list(dict.fromkeys(one.training for one in judges)),
        "networks": [_network(one, models[one.name], parts) for one in judges],
        "colours": {name: _colours(colormap) for name, colormap in COLOURS.items()},
        "trap": trap,
    }


def _network(judge: Judge, model: OnnxModel, parts: Sequence[BlankPart]) -> dict[str, Any]:
    """A network's names, threshold, scales of its maps, and what it computes of every part."""
    out = model(np.stack([one.image for one in parts]))
    maps = dict(zip(MAPS, (out.defect_map, out.evidence_map), strict=True))
    present: Mapping[str, Any] = {name: m for name, m in maps.items() if m is not None}
    scales = {MAPS[0]: (0.0, 1.0)}
    if MAPS[1] in present:
        limit = float(np.quantile(np.abs(present[MAPS[1]]), 0.995)) or 1.0
        scales[MAPS[1]] = (-limit, limit)
    pixels = out.defect_map[0].size
    places = np.linspace(0, pixels - 1, SAMPLES, dtype=int).tolist()
    return {
        "id": judge.name,
        "system": judge.system,
        "training": judge.training,
        "threshold": float(model.description["threshold"]),
        "maps": list(present),
        "scales": scales,
        "expected": [
            {
                "probability": float(out.probability[k]),
                "isDefective": bool(out.verdict[k]),
                **{
                    name: [[at, float(one[k].flat[at])] for at in places]
                    for name, one in present.items()
                },
            }
            for k in range(len(parts))
        ],
    }


def _colours(name: str) -> list[list[int]]:
    table = mpl.colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return [[int(v) for v in row] for row in (table * 255).round()]


def _png(image: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "PNG", optimize=True)
    return _base64(stream.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
