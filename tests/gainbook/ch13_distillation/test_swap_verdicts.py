"""The study of the swap: what it runs, and the rules of its verdicts."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from gainbook.chapters.ch13_distillation import swap_study, swap_tables, swap_verdicts
from gainbook.chapters.ch13_distillation.pretraining import Pretraining, pretrain
from gainbook.chapters.ch13_distillation.swap_study import CLEAR, Family
from gainbook.chapters.ch13_distillation.swap_verdicts import judge_structure, judge_teacher
from gainbook.lab import results_file as runs
from gainbook.lab.tables import Value, find

from gainmtl.anomaly.fitting import RECIPES, DistillationRun

RESNET, CONVNEXT = Family("resnet", "test_resnet", None), Family("convnext", "test_convnext", None)


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


BAD, NEAR, GOOD = value(-0.2, -0.1), value(-0.015, 0.01), value(0.01, 0.05)
WORSE = {"crack": value(-0.3, 0.0), "stain": value(-0.2, -0.1)}


@pytest.mark.parametrize(
    ("swap", "same", "other", "types", "verdict"),
    [
        (BAD, NEAR, GOOD, WORSE, "refuted"),
        (BAD, BAD, GOOD, WORSE, "confirmed"),
        (BAD, BAD, GOOD, {**WORSE, "chip": GOOD}, "refined"),
        (BAD, BAD, BAD, WORSE, "refined"),
        (NEAR, GOOD, GOOD, WORSE, "not reproduced"),
        (value(-0.2, -CLEAR + 0.001), GOOD, GOOD, WORSE, "not reproduced"),
        (value(math.nan, math.nan), GOOD, GOOD, WORSE, "not reproduced"),
    ],
)
def test_whether_the_structure_is_to_blame(
    swap: Value, same: Value, other: Value, types: dict[str, Value], verdict: str
) -> None:
    assert judge_structure(swap, same, other, types).verdict == verdict


@pytest.mark.parametrize(
    ("accuracy", "detection", "repaired", "verdict"),
    [
        (0.1, GOOD, BAD, "confirmed"),
        (0.1, BAD, GOOD, "refined"),
        (0.1, BAD, NEAR, "refuted"),
        (-0.1, GOOD, GOOD, "out of reach"),
    ],
)
def test_whether_the_better_classifier_is_the_better_teacher(
    accuracy: float, detection: Value, repaired: Value, verdict: str
) -> None:
    better = Value(accuracy, math.nan, math.nan, None)
    assert judge_teacher(better, detection, repaired).verdict == verdict


def test_the_study_runs_each_system_once_and_in_a_folder_of_its_own() -> None:
    systems = swap_study.study_systems([RESNET, CONVNEXT])
    tags = [one.tag for one in systems]
    assert len(tags) == len(set(tags))
    # 12 and 16 of the grids, three rates, eight of the same structure with the swap itself among
    # them, one more thing each.
    assert len(tags) == 12 + 16 + 3 + 7 + 6 + 7
    assert len(swap_study.factor_systems([RESNET, CONVNEXT])) == 12 + 16 + 3 + 7
    places = {(one.name, str(sorted(one.condition.items()))) for one in systems}
    assert len(places) == len(tags)
    kept = swap_study.same_structure(CONVNEXT)
    assert all(dict(one.options)["embedding"] == "stage4" for one in kept)
    assert not any(dict(one.options)["fusion"] for one in kept)
    # Raw and as published with every layer kept is the swap, at the published recipe's own rate.
    assert swap_study.swap(CONVNEXT, RECIPES["paper"]["learning_rate"]) in kept


def test_what_else_was_suspected_is_one_option_each() -> None:
    for family in (RESNET, CONVNEXT):
        base = dict(swap_study.base(family).options)
        for one in swap_study.one_more(family):
            assert one.recipe == "modern"
            assert len(set(dict(one.options).items()) - set(base.items())) == 1


def test_even_light_is_part_of_the_name_and_of_the_condition() -> None:
    pair = swap_study.reference_pair()
    seen_as_it_is = swap_study.beside(pair[0]._replace(name="as-it-is", flat_field=0.0))
    every = [*swap_study.study_systems(pair), seen_as_it_is]
    every.append(swap_study.beside(pair[0]._replace(name="untrained")))
    assert len({one.tag for one in every}) == len(every)
    assert all(
        one.condition["flat_field"] == swap_study.EVEN for one in every if one != seen_as_it_is
    )
    assert "flat_field" not in seen_as_it_is.condition


def test_executed_parameters_count_teacher_and_student() -> None:
    plain = swap_study.executed_parameters(swap_study.plain(RESNET))
    narrow = swap_study.executed_parameters(swap_study.system(RESNET, "raw", False, "paper"))
    assert plain > narrow > 100_000


def test_verdicts_are_read_from_rows() -> None:
    rows = [
        runs.row("set", "a", "auroc_difference", (low + high) / 2, ci_low=low, ci_high=high, n=9,
                 condition={"study": "verdict", "role": role, **more})
        for role, low, high, more in (
            ("swap", -0.2, -0.1, {}), ("swap", -0.3, -0.1, {"defect_type": "crack"}),
            ("same", -0.01, 0.01, {}), ("other", 0.01, 0.02, {}), ("repaired", -0.01, 0.02, {}),
        )
    ] + [
        runs.row("set", f"teacher-{f.backbone}", "accuracy", worth, condition={"study": "verdict"})
        for f, worth in ((RESNET, 0.5), (CONVNEXT, 0.6))
    ]  # fmt: skip
    found = swap_verdicts.judge(pd.DataFrame(rows), [RESNET, CONVNEXT])
    assert [one.verdict for one in found.values()] == ["refuted", "refuted"]
    # The page of claims asks by the backbones of the reference study.
    with pytest.raises(LookupError):
        swap_verdicts.ANSWERS["D1"](pd.DataFrame(rows))
    table = pd.DataFrame(rows)
    table["system"] = table["system"].replace(
        {
            "teacher-test_resnet": "teacher-resnet18",
            "teacher-test_convnext": "teacher-convnext_atto",
        }
    )
    answers = {claim: judge(table) for claim, judge in swap_verdicts.ANSWERS.items()}
    assert answers == {"D1": found[swap_verdicts.D1], "D2": found[swap_verdicts.D2]}


def test_a_less_accurate_teacher_is_told_apart_from_those_of_the_pair() -> None:
    verdict = {"study": "verdict"}
    rows = [
        runs.row("set", "teacher-test_resnet", "accuracy", 0.9, condition=verdict),
        runs.row("set", "teacher-test_convnext", "accuracy", 0.4, condition=verdict),
    ]
    for name, accuracy in (("early", 0.1), ("late", 0.95)):
        own = {"teacher": name}
        about = {**swap_study.plain(RESNET).condition, "study": "teachers", **own}
        rows.append(runs.row("set", "rd-test_resnet", "auroc", 0.75, condition=about))
        rows.append(
            runs.row("set", "teacher-test_resnet", "accuracy", accuracy, condition=verdict | own)
        )
        rows += [
            runs.row("set", "x", "auroc_difference", value, ci_low=value - 0.1, ci_high=value + 0.1,
                     n=9, condition={**verdict, "role": role, **own})
            for role, value in (("swap", -0.2), ("convnext", 0.3))
        ]  # fmt: skip
    table = pd.DataFrame(rows)
    told = swap_tables.against_less_accurate(table, [RESNET, CONVNEXT]).splitlines()
    assert told[2:] == [
        "| test_resnet, early | +0.30 | -0.200 [-0.300, -0.100] | +0.300 [+0.200, +0.400] |"
    ]
    lines = swap_tables.teacher_table(table, [RESNET, CONVNEXT]).splitlines()
    assert lines[2:4] == [
        "| test_resnet, early | 0.10 | 0.750 | – |",
        "| test_resnet, late | 0.95 | 0.750 | – |",
    ]
    assert lines[4].startswith("| test_resnet, of the pair | 0.90 |")
    pair_alone = table[table["condition"].map(lambda given: "teacher" not in given)]
    assert not swap_tables.against_less_accurate(pair_alone, [RESNET, CONVNEXT])


def test_a_factor_is_judged_by_pairs_that_differ_in_it_alone() -> None:
    rows = []
    for one in swap_study.factor_systems([RESNET, CONVNEXT]):
        # By hand: fusion is worth 0.1, the modern recipe 0.02, scaled features 0.01 with fusion
        # and -0.03 without; the rest nothing.
        options = dict(one.options)
        scaled = options["features"] == "scaled"
        value = 0.5 + 0.1 * options["fusion"] + 0.02 * (one.recipe == "modern")
        value += scaled * (0.01 if options["fusion"] else -0.03)
        value += 0.2 if options.get("embedding") == "stage4" else 0
        about = {**one.condition, "study": "factors"}
        # The second seed takes fusion's worth and half as much again from what is fused.
        for seed, less in ((0, 0.0), (1, 0.15 * options["fusion"])):
            row = runs.row(
                "set", one.name, "auroc", value - less, condition=about, seed=seed, fold=0
            )
            rows.append(row)
        # A stored study has the figure of both seeds together, too.
        rows.append(runs.row("set", one.name, "auroc", 9.0, condition=about))
    table = pd.DataFrame(rows)
    lines = swap_tables.factor_table(table, [RESNET, CONVNEXT]).splitlines()
    # (0.1 · 4 of raw and standardized + 0.14 · 2 of scaled) / 6, less 0.075: the mean of both seeds
    told = "| test_resnet, fusion minus none | +0.038 | +0.025 to +0.065 | 6 of 6 | 6 of 12 |"
    assert told in lines
    told = "| test_resnet, scaled minus raw | -0.010 | -0.030 to +0.010 | 2 of 4 | 4 of 8 |"
    assert told in lines
    named = "| test_convnext, modern minus published recipe"
    assert f"{named} | +0.020 | +0.020 to +0.020 | 8 of 8 | 16 of 16 |" in lines
    named = "| test_convnext, trained embedding minus stage 4"
    assert f"{named} | -0.200 | -0.200 to -0.200 | 0 of 8 | 0 of 16 |" in lines
    # Half of a grid is fused, variance 0.15² / 2 over the two seeds; the other half doesn't move.
    grid = swap_study.grid(RESNET)
    assert swap_tables.seed_deviation(table, grid) == pytest.approx(0.075)
    assert "| test_resnet | 0.075 | 0.075 |" in swap_tables.seed_table(table, [RESNET])
    alone = table[table["seed"] == 0]
    assert math.isnan(swap_tables.seed_deviation(alone, grid))
    assert "| test_resnet | – | – |" in swap_tables.seed_table(alone, [RESNET])
    for wrong in (alone.iloc[:0], pd.concat([alone, alone])):
        with pytest.raises(LookupError, match="one row per seed"):
            swap_tables.by_seed(wrong, grid[0])


@pytest.mark.parametrize("count", [0, 3])
def test_no_more_seeds_judge_than_there_are(count: int) -> None:
    p = SimpleNamespace(folds=5, study_seeds=(0, 1), judging_seeds=count)
    with pytest.raises(ValueError, match=f"judging_seeds from 1 to 2.*found {count}"):
        swap_verdicts.study_results(p, [RESNET, CONVNEXT], True)


@pytest.mark.slow
def test_the_study_goes_from_its_factors_to_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_study, "taken", lambda family: ("raw",))
    families = []
    for family in (RESNET, CONVNEXT):
        path = tmp_path / f"{family.backbone}.safetensors"
        plan = Pretraining(family.backbone, 3, 32, epochs=1, steps=1, batch_size=4)
        pretrain(plan, path, "cpu")
        families.append(family._replace(weights=str(path)))
    p = SimpleNamespace(
        notebook="99_none", dataset="synthetic", data_root=None, image_size=64,
        backbone="test_resnet", weights=None, epochs=2, batch_size=32, learning_rate=1e-3,
        folds=2, seeds=(0,), accelerator="cpu", devices=1, precision="32-true",
        output_dir=str(tmp_path / "run"), study_seeds=(0, 1), judging_seeds=1, study_size=32,
        study_epochs=1,
    )  # fmt: skip
    early = families[0]._replace(name="fewer-epochs")
    early = early._replace(weights=str(tmp_path / "early.safetensors"))
    pretrain(
        Pretraining(early.backbone, 3, 32, epochs=2, steps=1, batch_size=4), early.weights, "cpu"
    )
    others = [
        families[0]._replace(name="untrained", weights=None), early,
        families[0]._replace(name="other-pictures", flat_field=0.1),
    ]  # fmt: skip
    found = swap_verdicts.study_results(p, families, True, others)
    stored = runs.read_results(tmp_path / "run" / "swap_study.json")
    assert len(stored.rows) == len(found.rows)
    given = stored.parameters
    assert [given["image_size"], given["epochs"], given["seeds"]] == [32, 1, [0]]
    assert [given["study_seeds"], given["judging_seeds"]] == [[0, 1], 1]
    judged = swap_verdicts.judge(stored.rows, families)
    assert set(judged) == {swap_verdicts.D1, swap_verdicts.D2}
    of = stored.rows["condition"].map(lambda condition: condition.get("study"))
    # Seven measures: of 12 systems by two seeds and both together, of 13 suspicions with what they
    # change and of five teachers by the one seed that judges and pooled.
    assert (of == "factors").sum() == 12 * 7 * 3
    assert (of == "besides").sum() == (13 + 2) * 7 * 2
    assert (of == "teachers").sum() == 5 * 7 * 2
    assert set(stored.rows.loc[of == "final", "seed"].dropna()) == {0}
    for family in families:
        folders = [tmp_path / "run" / "factors" / one.tag for one in swap_study.one_more(family)]
        assert all([part.name for part in folder.iterdir()] == ["seed0"] for folder in folders)
    besides = swap_tables.besides_table(stored.rows, families)
    assert "seeds: 1" in besides
    assert "–" not in besides
    # What was chosen is the best by all seeds that it was trained with.
    shown = stored.rows[of == "chosen"]
    worth = {c["role"]: v for c, v in zip(shown["condition"], shown["value"], strict=True)}
    for family in families:
        for role, study, systems in (
            (family.name, "factors", swap_study.grid(family)),
            (f"{family.name}, one more", "besides", swap_study.one_more(family)),
        ):
            values = [find(stored.rows, one, "auroc", None, study=study).value for one in systems]
            assert worth[role] == max(values)
    assert set(stored.provenance["teachers"]) == {
        "test_resnet", "test_convnext", "untrained", "fewer-epochs", "other-pictures",
    }  # fmt: skip
    table = swap_tables.teacher_table(stored.rows, families)
    told = [line.split(" | ") for line in table.splitlines()[2:]]
    assert not any(part.startswith("–") for line in told for part in line[2:])
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "test_resnet, untrained", "test_resnet, fewer epochs", "test_resnet, other pictures",
        "test_resnet, of the pair", "test_convnext, of the pair",
    ]  # fmt: skip
    told = swap_tables.against_less_accurate(stored.rows, families)
    assert not told or len(told.splitlines()) == 3
    shown = [
        line.split(" | ") for line in swap_tables.spread_table(stored.rows, families).splitlines()
    ]
    # Three ways to take a ResNet's features, four for the ConvNeXt; figures of three levels each.
    assert len(shown) == 2 + 4 * 3 + 4
    assert all(len(value.strip(" |").split(", ")) == 3 for line in shown[2:] for value in line[2:])
    chosen = swap_tables.final_table(stored.rows, families).splitlines()[2:]
    assert len(chosen) == len(swap_tables.CHOSEN_AS)
    finals = {name for name in stored.provenance["training_seconds"] if name.startswith("final/")}
    assert {line.split(" | ")[1] for line in chosen} == {
        one.label for one in swap_study.study_systems(families) if f"final/{one.tag}" in finals
    }
    assert all(line.endswith(" M |") and "–" not in line for line in chosen)
    judged_too = {c.get("teacher") for c in stored.rows["condition"] if c["study"] == "final"}
    assert judged_too == {None, "fewer-epochs"}
    assert any(name.startswith("final/") for name in stored.provenance["training_seconds"])
    # The fold that chose judges nothing.
    judging = stored.rows[[c.get("study") == "final" for c in stored.rows["condition"]]]
    assert set(judging["fold"].dropna()) == {1}

    def no_training(self: object) -> None:
        raise AssertionError("what is done is read")

    monkeypatch.setattr(DistillationRun, "train_epoch", no_training)
    again = swap_verdicts.study_results(p, families, True, others)
    assert again.rows["value"].equals(found.rows["value"])
