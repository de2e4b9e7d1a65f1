"""The names of `gainmtl`, which are imported at their first use."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import gainmtl


def test_every_name_is_there() -> None:
    names = dir(gainmtl)
    assert {"GAINMTL", "export", "fit", "load", "predict", "metrics", "Batch"} <= set(names)
    for name in names:
        value = getattr(gainmtl, name)
        if not inspect.ismodule(value) and hasattr(value, "__name__"):
            assert value.__name__ == name
            assert value is getattr(import_module(value.__module__), name)


def test_submodules_are_imported_on_demand() -> None:
    script = (
        "import sys, gainmtl\n"
        "assert not {'torch', 'numpy', 'pandas', 'gainmtl.metrics'} & set(sys.modules)\n"
        "assert gainmtl.cam.POOLINGS\n"
        "assert gainmtl.metrics.auroc([0.1, 0.9], [0, 1]) == 1\n"
        "assert 'gainmtl.anomaly' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["Detectr", "_private", "__path"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'gainmtl' has no attribute '{name}'"):
        getattr(gainmtl, name)
