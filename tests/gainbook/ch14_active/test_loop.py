"""The loop: the head's optimum, every method, exclusion, duplication, and a stopped run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from gainbook.chapters.ch14_active import loop
from gainbook.chapters.ch14_active.loop import Plan, Problem, figures, run, worst_classes
from gainbook.chapters.ch14_active.methods import METHODS, fit_ensemble
from gainbook.lab.head import fit_head
from sklearn.linear_model import LogisticRegression

from gainmtl.files import claimed, read_json


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 3
    return rng.normal(size=(40, 5)) + np.eye(5)[labels], labels


def test_the_head_is_scikit_learns(examples: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = examples
    head = fit_head(x, labels, 3, decay=0.05)
    theirs = LogisticRegression(C=1 / (0.05 * 40), tol=1e-8).fit(x, labels)
    assert head.probabilities(x) == pytest.approx(theirs.predict_proba(x), abs=2e-3)
    assert head.weight.sum(0) == pytest.approx(np.zeros(5), abs=1e-3)


def test_a_weight_of_two_is_the_example_twice(examples: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = examples
    weights = np.where(np.arange(40) < 10, 2.0, 1.0)
    heavy = fit_head(x, labels, 3, weights=weights)
    twice = fit_head(np.concatenate([x, x[:10]]), np.concatenate([labels, labels[:10]]), 3)
    assert heavy.weight == pytest.approx(twice.weight, abs=2e-3)


def test_the_first_weights_do_not_matter(examples: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = examples
    one = fit_head(x, labels, 3)
    other = fit_head(x, labels, 3, start=fit_head(x, (labels + 1) % 3, 3))
    assert one.probabilities(x) == pytest.approx(other.probabilities(x), abs=5e-3)


def test_heads_of_the_ensemble_differ(examples: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = examples
    heads = fit_ensemble(x, labels, 3, 3, np.random.default_rng(0))
    assert np.abs(heads[0].weight - heads[1].weight).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_every_method_labels_what_it_may(method: str, problem: Problem, tmp_path: Path) -> None:
    rounds = run(problem, Plan(method), 0, tmp_path / "run.json")
    assert [one["labels"] for one in rounds] == [9, 15, 21, 27, 33]
    rows = [i for one in rounds for i in one["rows"]]
    assert len(set(rows)) == len(rows) == 33  # nothing is labelled twice
    first = problem.parts["pool"].labels[rounds[0]["rows"]]
    assert np.bincount(first).tolist() == [3, 3, 3]
    assert run(problem, Plan(method), 0, tmp_path / "other.json") == rounds


def test_methods_of_a_seed_start_equal(problem: Problem, tmp_path: Path) -> None:
    starts = [
        run(problem, Plan(m), 5, tmp_path / f"{m}.json")[0] for m in ("random", "entropy", "badge")
    ]
    assert starts[0] == starts[1] == starts[2]
    assert run(problem, Plan("random"), 6, tmp_path / "x.json")[0] != starts[0]


@pytest.mark.parametrize("plan", [Plan("badge"), Plan("activation", True, "copies")])
def test_a_stopped_run_continues_after_its_last_round(
    plan: Plan, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(problem, plan, 1, tmp_path / "whole.json")
    kept, left = loop.write_json, [3]

    def stopping(path: Path, value: object) -> None:
        kept(path, value)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "write_json", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(problem, plan, 1, tmp_path / "stopped.json")
    assert len(read_json(tmp_path / "stopped.json")["rounds"]) == 3
    run(problem, plan, 1, tmp_path / "stopped.json")
    assert read_json(tmp_path / "stopped.json") == read_json(tmp_path / "whole.json")
    assert len(whole) == 5


def test_a_file_of_another_run_is_refused(problem: Problem, tmp_path: Path) -> None:
    run(problem, Plan("random"), 0, tmp_path / "run.json")
    with pytest.raises(ValueError, match="expected a run with"):
        run(problem, Plan("random"), 1, tmp_path / "run.json")


def test_a_folder_has_one_run_at_a_time(problem: Problem, tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(RuntimeError, match="a run is writing to"):
        run(problem, Plan("random"), 0, tmp_path / "run.json")
    assert not (tmp_path / "run.json").exists()
    run(problem, Plan("random"), 0, tmp_path / "run.json")


def test_a_small_pool_is_labelled_to_its_end(problem: Problem, tmp_path: Path) -> None:
    setting = dataclasses.replace(problem.setting, batch=40, rounds=5)
    small = dataclasses.replace(problem, setting=setting)
    rounds = run(small, Plan("entropy"), 0, tmp_path / "run.json")
    assert [one["labels"] for one in rounds] == [9, 49, 89, 92]
    assert rounds[-1]["figures"]["macro_f1_in_pool"] != rounds[-1]["figures"]["macro_f1"]


def test_excluded_classes_stay_in_the_test(problem: Problem, tmp_path: Path) -> None:
    rounds = run(problem, Plan("random", exclude=True), 0, tmp_path / "run.json")
    assert [len(one["excluded"]) for one in rounds] == [0, 0, 1, 1, 1]
    last = rounds[-1]["figures"]
    assert not np.isnan(np.array(last["recalls"], dtype=float)).any()
    alone = np.array(last["recalls_without"], dtype=float)
    assert np.flatnonzero(np.isnan(alone)).tolist() == rounds[-1]["excluded"]
    kept = ~np.isnan(alone)
    assert (alone[kept] >= np.array(last["recalls"])[kept]).all()  # fewer wrong answers are left


def test_no_image_of_an_excluded_class_is_chosen(problem: Problem) -> None:
    plan, first = Plan("random"), loop.first_rows(problem.parts["pool"].labels, 3, 3, 0)
    head = loop.train(problem, plan, first, first[:0])
    rows = loop.choose(problem, plan, head, first, [0], 0)
    assert (head.probabilities(problem.features["pool"][rows]).argmax(1) != 0).all()


def test_duplicates_are_of_new_images_only(problem: Problem) -> None:
    first = loop.first_rows(problem.parts["pool"].labels, 3, 3, 0)
    new = np.setdiff1d(np.arange(92), first)[:10]
    heads = {d: loop.train(problem, Plan("random", duplicate=d), first, new)
             for d in loop.DUPLICATES}  # fmt: skip
    x, labels = problem.features, problem.parts["pool"].labels
    rows = np.concatenate([first, new, new])
    twice = fit_head(x["pool"][rows], labels[rows], 3)
    assert heads["weight"].weight == pytest.approx(twice.weight, abs=2e-3)
    mirrored = fit_head(np.concatenate([x["pool"][rows[:19]], x["copies"][new]]), labels[rows], 3)
    assert heads["copies"].weight == pytest.approx(mirrored.weight, abs=2e-3)
    start = {d: loop.train(problem, Plan("random", duplicate=d), first, new[:0])
             for d in loop.DUPLICATES}  # fmt: skip
    assert start["copies"].weight == pytest.approx(start["none"].weight)


def test_figures_by_hand() -> None:
    head = fit_head(np.eye(2), np.array([0, 1]), 3, decay=0.1)
    x = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    found = figures(head, x, np.array([0, 1, 1, 1]))
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["recalls"][:2] == pytest.approx([1, 2 / 3])
    assert np.isnan(found["recalls"][2])
    assert found["worst_recall"] == pytest.approx(2 / 3)
    assert found["macro_recall"] == pytest.approx(5 / 6)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    p = head.probabilities(x).max(1)
    assert found["overconfidence"] == pytest.approx(p.mean() - 0.75)


def test_worst_classes_are_a_share_rounded_down() -> None:
    assert worst_classes([0.9, 0.1, float("nan"), 0.5, 0.7]) == [1, 3]
    assert worst_classes([0.0] * 15) == list(range(7))


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="method: expected one of random"):
        Plan("best")
    with pytest.raises(ValueError, match="duplicate: expected one of"):
        Plan("random", duplicate="thrice")
    assert Plan("activation", True, "copies").tag == "activation-exclude-copies"
