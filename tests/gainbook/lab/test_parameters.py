"""Parameters: what a notebook accepts, and the one message for everything else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from gainbook.lab.parameters import COMMON, Rule, as_rule, check_parameters


def quick() -> dict[str, Any]:
    return {
        "dataset": "synthetic",
        "data_root": None,
        "image_size": 128,
        "backbone": "mobilenetv2_100",
        "weights": None,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "folds": 1,
        "seeds": [0, 1],
        "accelerator": "auto",
        "devices": 1,
        "precision": "32-true",
        "output_dir": "runs/03_reason",
    }


def test_good_parameters_come_back_by_name() -> None:
    P = check_parameters(quick() | {"shortcut": 0.9}, "03_reason", {"shortcut": (float, 0, 1)})
    assert (P.notebook, P.epochs, P.shortcut) == ("03_reason", 3, 0.9)
    assert set(vars(P)) == set(COMMON) | {"shortcut", "notebook"}


def test_seeds_are_a_tuple_whether_one_or_several_are_given() -> None:
    assert check_parameters(quick(), "n").seeds == (0, 1)
    assert check_parameters(quick() | {"seeds": 7}, "n").seeds == (7,)


def test_parameters_are_read_only() -> None:
    P = check_parameters(quick(), "n")
    with pytest.raises(AttributeError, match="epochs"):
        P.epochs = 4


def test_unknown_name_is_refused_with_the_near_one() -> None:
    with pytest.raises(ValueError, match="epoch: .*did you mean epochs"):
        check_parameters(quick() | {"epoch": 4}, "03_reason")


def test_unknown_name_without_a_near_one_lists_all() -> None:
    with pytest.raises(ValueError, match="zzz: .*it has: dataset, data_root"):
        check_parameters(quick() | {"zzz": None}, "n")


def test_a_missing_name_is_reported() -> None:
    given = quick()
    del given["folds"]
    with pytest.raises(ValueError, match="folds: expected a whole number.* found no such"):
        check_parameters(given, "n")


def test_what_the_notebook_itself_defines_is_no_parameter() -> None:
    notebook = quick() | {
        "math": math,
        "quick": quick,
        "Rule": Rule,
        "In": ["x"],
        "Out": {},
        "_": 3,
        "__name__": "__main__",
        "annotations": object(),
    }
    assert check_parameters(notebook, "n").epochs == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 3.0),
        ("epochs", True),
        ("epochs", None),
        ("dataset", " "),
        ("dataset", 3),
        ("image_size", 8),
        ("learning_rate", math.nan),
        ("learning_rate", -1e-3),
        ("learning_rate", math.inf),
        ("seeds", []),
        ("seeds", [0, -1]),
        ("seeds", "0"),
        ("accelerator", "gpus"),
        ("precision", 16),
        ("folds", 0),
    ],
)
def test_impossible_values_are_named_with_what_was_found(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}: expected .* found ") as caught:
        check_parameters(quick() | {name: value}, "03_reason")
    assert repr(value) in str(caught.value)
    assert "03_reason" in str(caught.value)


def test_all_mistakes_are_in_one_message() -> None:
    bad = quick() | {"epochs": 0, "seed": 1, "precision": "half"}
    with pytest.raises(ValueError, match="can't be used") as caught:
        check_parameters(bad, "n")
    lines = [line.strip().split(":")[0] for line in str(caught.value).splitlines()[1:4]]
    assert sorted(lines) == ["epochs", "precision", "seed"]


def test_a_number_that_yaml_reads_as_text_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"learning_rate: .*'1e-3' \(a text; in YAML write 1.0e-3"):
        check_parameters(quick() | {"learning_rate": "1e-3"}, "n")


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (int, 3, 3.5),
        (bool, True, 1),
        (dict, {"a": 1}, [1]),
        ((float, 0, 1), 1, 1.01),
        ((int, 1, None), 10**9, 0),
        (["cam", "attention"], "cam", "CAM"),
        ([0, 1], 1, True),
        (Rule(str, optional=True), None, 3),
        (Rule(float, 0, 1, many=True), [0.0, 0.5], [0.0, 2.0]),
    ],
    ids=str,
)
def test_short_forms_of_rules(spec: Any, good: Any, bad: Any) -> None:
    rule = as_rule(spec)
    assert rule.accepts(good)
    assert not rule.accepts(bad)


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a type"):
        as_rule(0.5)


@pytest.mark.parametrize(("given", "expected"), [("true", True), ("False", False), (True, True)])
def test_true_and_false_may_be_spelled_as_in_yaml(given: Any, expected: bool) -> None:
    found = check_parameters({**quick(), "fast": given}, "n", {"fast": bool})
    assert found.fast is expected
    for wrong in ("yes", "1", 1, ""):
        with pytest.raises(ValueError, match="fast: expected True or False"):
            check_parameters({**quick(), "fast": wrong}, "n", {"fast": bool})


def test_a_text_that_says_true_stays_a_text() -> None:
    assert check_parameters({**quick(), "word": "true"}, "n", {"word": str}).word == "true"


@pytest.mark.parametrize(("name", "value"), [("dataset", 1), ("output_dir", 2024)])
def test_a_text_that_papermill_reads_as_a_number(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected a text, found {value}.*-r {name} <te"):
        check_parameters(quick() | {name: value}, "n")


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"output_dir": "~/runs", "data_root": "~", "weights": "a~b"}
    P = check_parameters(quick() | given, "n")
    assert (P.output_dir, P.data_root, P.weights) == (f"{tmp_path}/runs", str(tmp_path), "a~b")
    assert list(tmp_path.iterdir()) == []


def test_an_output_dir_that_can_not_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/runs"):
        with pytest.raises(ValueError, match=r"output_dir: expected a folder, but .* is a file"):
            check_parameters(quick() | {"output_dir": str(path)}, "n")
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root
    with pytest.raises(ValueError, match=r"output_dir: expected a folder that can be written to"):
        check_parameters(quick() | {"output_dir": str(tmp_path / "runs")}, "n")
