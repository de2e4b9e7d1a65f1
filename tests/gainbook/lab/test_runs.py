"""results.json: whole, strict, without a path of the machine that wrote it."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook.lab import results_file as runs
from gainbook.lab.parameters import Parameters

from gainmtl.files import read_json, write_json

FIGURES = [
    runs.row("synthetic", "S5", "auroc", 0.9, ci_low=0.85, ci_high=0.95, n=120),
    runs.row("synthetic", "S5", "auroc", 0.92, seed=0, fold=2, n=24),
    runs.row("synthetic", "S5", "iou", math.nan, condition={"defect_type": "crack"}, map="cam"),
]


def parameters(**changed: Any) -> Parameters:
    return Parameters(**{"notebook": "03_reason", "seeds": (0, 1), "weights": None, **changed})


def write(folder: Path, rows: Any = FIGURES, **changed: Any) -> Path:
    P = parameters(**changed)
    origin = runs.provenance(P, 1.234, data_fingerprint="abc", loss_weights={"class": 0.3})
    return runs.write_results(
        folder, notebook=P.notebook, parameters=P, provenance=origin, rows=rows
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = runs.read_results(write(tmp_path))
    assert results.notebook == "03_reason"
    assert results.parameters == {"seeds": [0, 1], "weights": None}
    assert list(results.rows["value"])[:2] == [0.9, 0.92]
    assert math.isnan(results.rows["value"][2])
    assert results.rows["fold"].isna().tolist() == [True, False, True]
    assert results.rows["condition"][2] == {"defect_type": "crack"}


def test_undefined_is_null_in_the_file(tmp_path: Path) -> None:
    stored = json.loads(write(tmp_path).read_text("utf-8"), parse_constant=pytest.fail)
    assert set(stored) == {"notebook", "parameters", "provenance", "rows"}
    assert stored["rows"][2]["value"] is None
    assert set(stored["rows"][0]) == set(runs.ROW_RULES)


def test_a_data_frame_gives_the_same_file(tmp_path: Path) -> None:
    from_list, from_frame = write(tmp_path / "a"), write(tmp_path / "b", pd.DataFrame(FIGURES))
    assert runs.read_results(from_frame).rows.equals(runs.read_results(from_list).rows)


def test_a_file_name_is_taken_as_it_is(tmp_path: Path) -> None:
    assert write(tmp_path / "reference.json").name == "reference.json"
    assert write(tmp_path / "run").name == "results.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": "heat"}, "map: expected one of 'cam'"),
        ({"metric": "Point Game"}, "snake case"),
        ({"condition": None}, "condition: expected a dict"),
        ({"fold": -1}, "fold: expected"),
        ({"value": "0.9"}, "value: expected a number"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path, [FIGURES[0] | change])
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 0: no 'n'"):
        write(tmp_path, [{key: item for key, item in FIGURES[0].items() if key != "n"}])


def test_the_same_figure_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1: stands twice"):
        write(tmp_path, [FIGURES[0], FIGURES[0] | {"value": 0.1}])


def test_a_long_list_of_faults_is_cut(tmp_path: Path) -> None:
    rows = [FIGURES[0] | {"fold": fold, "map": "heat"} for fold in range(20)]
    with pytest.raises(ValueError, match="and 12 more"):
        write(tmp_path, rows)


def test_no_absolute_path_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights" / "net.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    path = write(
        tmp_path / "run",
        weights=str(weights),
        data_root="/data/parts/tiles",
        output_dir=str(tmp_path / "run"),
        nested={"list": ["C:\\tiles\\good", "~/tiles", Path("relative/path")]},
    )
    stored = json.loads(path.read_text("utf-8"))
    assert str(tmp_path) not in path.read_text("utf-8")
    assert stored["parameters"]["data_root"] == "tiles"
    assert stored["parameters"]["output_dir"] == "run"
    assert stored["parameters"]["nested"]["list"] == ["good", "tiles", "relative/path"]
    # sha256 of b"weights", by sha256sum
    assert stored["provenance"]["weights"] == {
        "name": "net.safetensors",
        "sha256": "9a129038d9a00aed",
    }


def test_provenance_says_what_the_design_asks() -> None:
    origin = runs.provenance(parameters(weights="imagenet"), 2.0, tried=["lr 1e-3", "lr 3e-4"])
    assert set(origin) == {
        "git_commit",
        "versions",
        "platform",
        "duration_s",
        "command",
        "data_fingerprint",
        "weights",
        "loss_weights",
        "tried",
    }
    assert {"python", "torch", "timm", "numpy"} <= set(origin["versions"])
    assert origin["weights"] == {"name": "imagenet"}


def test_the_command_repeats_the_run() -> None:
    words = shlex.split(runs.papermill_command(parameters(epochs=3, dataset="my tiles")))
    assert words[:3] == ["papermill", "notebooks/03_reason.ipynb", "out.ipynb"]
    assert words[words.index("epochs") - 1 :][:3] == ["-p", "epochs", "3"]
    assert words[words.index("dataset") + 1] == "my tiles"
    assert "seeds: [0, 1]" in words
    assert "weights: null" in words


@pytest.mark.parametrize("text", ["01", "1e3", "True", "None", "nan", "bottle", "v 1.0", "1.0.2"])
def test_the_command_keeps_texts_as_texts(text: str) -> None:
    """papermill reads the word after -p by `_resolve_type`, and the one after -r as it is."""
    from papermill.cli import _resolve_type

    words = shlex.split(runs.papermill_command(parameters(dataset=text)))
    option, word = words[words.index("dataset") - 1], words[words.index("dataset") + 1]
    assert (word if option == "-r" else _resolve_type(word)) == text
    assert option == ("-p" if isinstance(_resolve_type(text), str) else "-r")


def test_git_commit_is_a_commit_or_says_that_it_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = runs.git_commit().removesuffix("+changes")
    assert commit == "unknown" or (len(commit) == 40 and int(commit, 16))
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    assert runs.git_commit() == "unknown"


def test_reading_something_else_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json: expected the keys notebook"):
        runs.read_results(tmp_path / "other.json")


def test_reference_is_found_from_below_and_missed_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "book" / "results" / "magnetic_tile.json")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert runs.reference("magnetic_tile").notebook == "03_reason"
    with pytest.raises(FileNotFoundError, match=r"book/results/no_such\.json"):
        runs.reference("no_such")


@pytest.mark.parametrize("rows", [[], [{"a": None}], [{"a": 1.5, "b": "rows"}, {"c": [1, "ä"]}]])
def test_rows_take_a_line_each_and_are_read_as_written(rows: list[Any], tmp_path: Path) -> None:
    value = {"first": {"rows": [1, 2]}, "rows": rows, "last": math.nan}
    write_json(tmp_path / "a.json", value, lines="rows")
    assert read_json(tmp_path / "a.json") == {**value, "last": None}
    assert len((tmp_path / "a.json").read_text("utf-8").splitlines()) == 11 + max(len(rows), 1)
