"""The study of the swapped teacher: systems, rows, tables, and the criteria of D1 and D2."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from gainbook.chapters.ch13_distillation import swap, swap_rows, swap_tables
from gainbook.chapters.ch13_distillation.pretraining import Pretraining, pretrain
from gainbook.chapters.ch13_distillation.study import (
    FAILURE,
    judge_structure,
    judge_teacher,
    swap_study,
)
from gainbook.chapters.ch13_distillation.swap import Family
from gainbook.lab import results_file as runs
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED, UNDECIDED
from gainbook.lab.parameters import Parameters
from gainbook.lab.study import judge, judge_stored, stored
from gainbook.lab.tables import Value, find

from gainmtl.anomaly.fitting import RECIPES, DistillationRun

RESNET, CONVNEXT = Family("resnet", "test_resnet", None), Family("convnext", "test_convnext", None)
PAIR = [RESNET, CONVNEXT]


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


BAD, NEAR, GOOD, WIDE = (
    value(-0.2, -0.1), value(-0.015, 0.01), value(0.01, 0.05), value(-0.1, 0.1)
)  # fmt: skip
UNKNOWN = value(math.nan, math.nan)
WORSE = {"crack": value(-0.3, 0.0), "stain": value(-0.2, -0.1)}


@pytest.mark.parametrize(
    ("swapped", "same", "other", "types", "verdict"),
    [
        (BAD, NEAR, GOOD, WORSE, REFUTED),
        (BAD, BAD, GOOD, WORSE, CONFIRMED),
        (BAD, WIDE, GOOD, WORSE, CONFIRMED),  # the same structure is not shown to come back
        (BAD, BAD, GOOD, {**WORSE, "chip": GOOD}, REFINED),
        (BAD, BAD, GOOD, {**WORSE, "chip": value(-0.1, 0.2)}, UNDECIDED),
        (BAD, BAD, BAD, WORSE, REFINED),  # nothing repairs the swap
        (BAD, BAD, WIDE, WORSE, UNDECIDED),
        (NEAR, GOOD, GOOD, WORSE, REFUTED),  # no failure
        (value(-0.2, -FAILURE + 0.001), GOOD, GOOD, WORSE, UNDECIDED),
        (UNKNOWN, GOOD, GOOD, WORSE, UNDECIDED),
    ],
)
def test_whether_the_structure_is_to_blame(
    swapped: Value, same: Value, other: Value, types: dict[str, Value], verdict: str
) -> None:
    assert judge_structure(swapped, same, other, types).verdict == verdict


@pytest.mark.parametrize(
    ("accuracy", "detection", "repaired", "verdict"),
    [
        (0.1, GOOD, BAD, CONFIRMED),
        (0.1, BAD, GOOD, REFINED),
        (0.1, BAD, NEAR, REFUTED),
        (0.1, WIDE, BAD, UNDECIDED),
        (-0.1, GOOD, GOOD, UNDECIDED),  # not the better classifier: the claim is not tested
        (math.nan, BAD, BAD, UNDECIDED),
    ],
)
def test_whether_the_better_classifier_is_the_better_teacher(
    accuracy: float, detection: Value, repaired: Value, verdict: str
) -> None:
    better = Value(accuracy, math.nan, math.nan, None)
    assert judge_teacher(better, detection, repaired).verdict == verdict


def test_the_study_runs_each_system_once_and_in_a_folder_of_its_own() -> None:
    systems = swap.study_systems(PAIR)
    tags = [system.tag for system in systems]
    assert len(tags) == len(set(tags))
    # 12 and 16 of the grids, three rates, eight of the same structure with the swap itself among
    # them, the single changes.
    assert len(tags) == 12 + 16 + 3 + 7 + 6 + 7
    assert len(swap.factor_systems(PAIR)) == 12 + 16 + 3 + 7
    places = {(system.name, str(sorted(system.condition.items()))) for system in systems}
    assert len(places) == len(tags)
    kept = swap.same_structure(CONVNEXT)
    assert all(dict(system.options)["embedding"] == "stage4" for system in kept)
    assert not any(dict(system.options)["fusion"] for system in kept)
    # Raw and as published with all layers kept is the swap, at the published recipe's own rate.
    assert swap.swapped(CONVNEXT, RECIPES["paper"]["learning_rate"]) in kept


def test_a_single_change_is_of_one_option() -> None:
    for family in PAIR:
        base = dict(swap.base(family).options)
        for system in swap.single_changes(family):
            assert system.recipe == "modern"
            assert len(set(dict(system.options).items()) - set(base.items())) == 1


def test_the_flat_field_filter_is_part_of_the_tag_and_of_the_condition() -> None:
    pair = swap.reference_pair()
    unfiltered = swap.published_on(pair[0]._replace(name="as-it-is", flat_field=0.0))
    every = [*swap.study_systems(pair), unfiltered]
    every.append(swap.published_on(pair[0]._replace(name="untrained")))
    assert len({system.tag for system in every}) == len(every)
    assert all(s.condition["flat_field"] == swap.FLAT_FIELD for s in every if s != unfiltered)
    assert "flat_field" not in unfiltered.condition


def test_executed_parameters_count_teacher_and_student() -> None:
    published = swap.executed_parameters(swap.published(RESNET))
    narrow = swap.executed_parameters(swap.variant(RESNET, "raw", False, "paper"))
    assert published > narrow > 100_000


def test_verdicts_are_read_from_rows() -> None:
    rows = [
        runs.row("set", "a", "auroc_difference", (low + high) / 2, ci_low=low, ci_high=high, n=9,
                 condition={"study": "verdict", "role": role, **more})
        for role, low, high, more in (
            ("swap", -0.2, -0.1, {}), ("swap", -0.3, -0.1, {"defect_type": "crack"}),
            ("same", -0.01, 0.01, {}), ("other", 0.01, 0.02, {}), ("repaired", -0.01, 0.02, {}),
        )
    ] + [
        runs.row("set", f"teacher-{f.backbone}", "accuracy", share, condition={"study": "verdict"})
        for f, share in ((RESNET, 0.5), (CONVNEXT, 0.6))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    d1, d2 = swap_study(PAIR).claims
    assert [d1.id, d2.id] == ["D1", "D2"]
    assert [judge(claim, table).verdict for claim in (d1, d2)] == [REFUTED, REFUTED]
    assert judge(d1, table).figures["accuracy of the teachers"].value == pytest.approx(0.1)
    # The claims of the book are about the backbones of the reference study.
    reference = swap_study(swap.reference_pair())
    assert judge(reference.claim("D1"), table).verdict == NOT_RUN
    renamed = {"teacher-test_resnet": "teacher-resnet18",
               "teacher-test_convnext": "teacher-convnext_atto"}  # fmt: skip
    table["system"] = table["system"].replace(renamed)
    for id in ("D1", "D2"):
        assert judge(reference.claim(id), table).verdict == REFUTED
        assert judge(reference.claim(id), table.iloc[1:]).verdict == NOT_RUN


def test_the_stored_study_is_read_judged_and_shown() -> None:
    families = swap.reference_pair()
    reference = swap_study(families)
    rows = stored(reference).rows
    assert "resnet18, convnext_atto" in stored(reference).note
    assert "other_teachers" in reference.command
    for claim in reference.claims:
        judgement = judge_stored(claim, runs.reference(reference.name))
        assert judgement.verdict == UNDECIDED
        assert len(judgement.figures) == 3
    grid = swap_tables.grid_table(rows, families)
    assert len(grid.splitlines()) == 2 + 12 + 16 + 3 + 7
    tables = (swap_tables.final_table, swap_tables.factor_table, swap_tables.single_change_table)
    assert all("–" not in table(rows, families) for table in tables)


def test_a_less_accurate_teacher_has_a_line_of_its_own() -> None:
    verdict = {"study": "verdict"}
    rows = [
        runs.row("set", "teacher-test_resnet", "accuracy", 0.9, condition=verdict),
        runs.row("set", "teacher-test_convnext", "accuracy", 0.4, condition=verdict),
    ]
    for name, accuracy in (("early", 0.1), ("late", 0.95)):
        own = {"teacher": name}
        about = {**swap.published(RESNET).condition, "study": "teachers", **own}
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
    differences = swap_tables.against_less_accurate(table, PAIR).splitlines()
    assert differences[2:] == [
        "| test_resnet, early | +0.30 | -0.200 [-0.300, -0.100] | +0.300 [+0.200, +0.400] |"
    ]
    lines = swap_tables.teacher_table(table, PAIR).splitlines()
    assert lines[2:4] == [
        "| test_resnet, early | 0.10 | 0.750 | – |",
        "| test_resnet, late | 0.95 | 0.750 | – |",
    ]
    assert lines[4].startswith("| test_resnet, of the pair | 0.90 |")
    pair_alone = table[table["condition"].map(lambda given: "teacher" not in given)]
    assert not swap_tables.against_less_accurate(pair_alone, PAIR)


def test_a_factor_is_judged_by_pairs_that_differ_in_it_alone() -> None:
    rows = []
    for one in swap.factor_systems(PAIR):
        # By hand: fusion adds 0.1, the modern recipe 0.02, scaled features 0.01 with fusion and
        # -0.03 without; the rest nothing.
        options = dict(one.options)
        scaled = options["features"] == "scaled"
        value = 0.5 + 0.1 * options["fusion"] + 0.02 * (one.recipe == "modern")
        value += scaled * (0.01 if options["fusion"] else -0.03)
        value += 0.2 if options.get("embedding") == "stage4" else 0
        about = {**one.condition, "study": "factors"}
        # The second seed subtracts 1.5 times that of fusion from fused systems.
        for seed, less in ((0, 0.0), (1, 0.15 * options["fusion"])):
            row = runs.row(
                "set", one.name, "auroc", value - less, condition=about, seed=seed, fold=0
            )
            rows.append(row)
        # A stored study also has the pooled figure of both seeds.
        rows.append(runs.row("set", one.name, "auroc", 9.0, condition=about))
    table = pd.DataFrame(rows)
    lines = swap_tables.factor_table(table, PAIR).splitlines()
    # (0.1 · 4 of raw and standardized + 0.14 · 2 of scaled) / 6, less 0.075: the mean of both seeds
    line = "| test_resnet, fusion minus none | +0.038 | +0.025 to +0.065 | 6 of 6 | 6 of 12 |"
    assert line in lines
    line = "| test_resnet, scaled minus raw | -0.010 | -0.030 to +0.010 | 2 of 4 | 4 of 8 |"
    assert line in lines
    named = "| test_convnext, modern minus published recipe"
    assert f"{named} | +0.020 | +0.020 to +0.020 | 8 of 8 | 16 of 16 |" in lines
    named = "| test_convnext, trained embedding minus stage 4"
    assert f"{named} | -0.200 | -0.200 to -0.200 | 0 of 8 | 0 of 16 |" in lines
    # Half of a grid is fused, variance 0.15² / 2 over the two seeds; the other half doesn't move.
    grid = swap.grid(RESNET)
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
    p = Parameters(folds=5, study_seeds=(0, 1), judging_seeds=count)
    with pytest.raises(ValueError, match=f"judging_seeds from 1 to 2.*found {count}"):
        swap_rows.swap_results(swap_study(PAIR), p, PAIR)


def test_a_study_needs_several_folds_names_apart_and_known_accuracies() -> None:
    def refused(folds: int, others: list[Family], words: str) -> None:
        p = Parameters(folds=folds, study_seeds=(0,), judging_seeds=1)
        with pytest.raises(ValueError, match=words):
            swap_rows.swap_results(swap_study(PAIR), p, PAIR, others)

    refused(1, [], "folds of at least 2, found 1")
    refused(2, [RESNET], "teachers of different names, found resnet")
    refused(2, [], "test_resnet: no accuracy beside None")


@pytest.fixture
def families(tmp_path: Path) -> list[Family]:
    """The pair, pretrained for one step."""
    pair = []
    for family in PAIR:
        path = tmp_path / f"{family.backbone}.safetensors"
        pretrain(Pretraining(family.backbone, 3, 32, epochs=1, steps=1, batch_size=4), path, "cpu")
        pair.append(family._replace(weights=str(path)))
    return pair


@pytest.mark.slow
def test_the_study_goes_from_its_factors_to_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, families: list[Family]
) -> None:
    monkeypatch.setattr(swap, "feature_kinds", lambda family: ("raw",))
    p = Parameters(
        notebook="99_none", dataset="synthetic", data_root=None, image_size=64,
        backbone="test_resnet", weights=None, epochs=2, batch_size=32, learning_rate=1e-3,
        folds=2, seeds=(0,), accelerator="cpu", devices=1, precision="32-true",
        output_dir=str(tmp_path / "run"), study_seeds=(0, 1), judging_seeds=1, study_size=32,
        study_epochs=1,
    )  # fmt: skip
    early = families[0]._replace(name="fewer-epochs", weights=str(tmp_path / "early.safetensors"))
    plan = Pretraining(early.backbone, 3, 32, epochs=2, steps=1, batch_size=4)
    pretrain(plan, str(early.weights), "cpu")
    others = [
        families[0]._replace(name="untrained", weights=None), early,
        families[0]._replace(name="other-pictures", flat_field=0.1),
    ]  # fmt: skip
    study = swap_study(families)
    results = swap_rows.swap_results(study, p, families, others)
    file = runs.read_results(tmp_path / "run" / "swap_study.json")
    rows, given = file.rows, file.parameters
    assert results.rows is not None
    assert len(rows) == len(results.rows)
    assert [given["image_size"], given["epochs"], given["seeds"]] == [32, 1, [0]]
    assert [given["study_seeds"], given["judging_seeds"]] == [[0, 1], 1]
    assert all(judge(claim, rows).verdict != NOT_RUN for claim in study.claims)
    check_rows_by_study(rows)
    check_choices(rows, families)
    for family in families:
        folders = [tmp_path / "run/factors" / s.tag for s in swap.single_changes(family)]
        assert all([part.name for part in folder.iterdir()] == ["seed0"] for folder in folders)
    assert set(file.provenance["teachers"]) == {
        "test_resnet", "test_convnext", "untrained", "fewer-epochs", "other-pictures",
    }  # fmt: skip
    check_tables(rows, families)
    finals = {n for n in file.provenance["training_seconds"] if n.startswith("final/")}
    chosen = swap_tables.final_table(rows, families).splitlines()[2:]
    assert {line.split(" | ")[1] for line in chosen} == {
        system.label for system in swap.study_systems(families) if f"final/{system.tag}" in finals
    }

    def no_training(self: object) -> None:
        raise AssertionError("finished folds are read")

    monkeypatch.setattr(DistillationRun, "train_epoch", no_training)
    again = swap_rows.swap_results(study, p, families, others)
    assert again.rows is not None
    assert again.rows["value"].equals(results.rows["value"])


def check_rows_by_study(rows: pd.DataFrame) -> None:
    of = rows["condition"].map(lambda condition: condition.get("study"))
    # Seven measures: of 12 systems by two seeds and both together, of 13 single changes with two
    # bases and of five teachers by the one seed that judges and pooled.
    assert (of == "factors").sum() == 12 * 7 * 3
    assert (of == "besides").sum() == (13 + 2) * 7 * 2
    assert (of == "teachers").sum() == 5 * 7 * 2
    assert set(rows.loc[of == "final", "seed"].dropna()) == {0}
    # The fold that chose judges nothing.
    assert set(rows.loc[of == "final", "fold"].dropna()) == {1}
    teachers = {c.get("teacher") for c in rows.loc[of == "final", "condition"]}
    assert teachers == {None, "fewer-epochs"}


def check_choices(rows: pd.DataFrame, families: list[Family]) -> None:
    """What was chosen is the best over all seeds that it was trained with."""
    chosen = rows[rows["condition"].map(lambda condition: condition.get("study") == "chosen")]
    best = {c["role"]: v for c, v in zip(chosen["condition"], chosen["value"], strict=True)}
    for family in families:
        for role, study, systems in (
            (family.name, "factors", swap.grid(family)),
            (f"{family.name}, one more", "besides", swap.single_changes(family)),
        ):
            values = [find(rows, system, "auroc", None, study=study).value for system in systems]
            assert best[role] == max(values)


def check_tables(rows: pd.DataFrame, families: list[Family]) -> None:
    single = swap_tables.single_change_table(rows, families)
    assert "seeds: 1" in single
    assert "–" not in single
    table = swap_tables.teacher_table(rows, families).splitlines()[2:]
    assert not any(part.startswith("–") for line in table for part in line.split(" | ")[2:])
    assert [line.split("|")[1].strip() for line in table] == [
        "test_resnet, untrained", "test_resnet, fewer epochs", "test_resnet, other pictures",
        "test_resnet, of the pair", "test_convnext, of the pair",
    ]  # fmt: skip
    differences = swap_tables.against_less_accurate(rows, families)
    assert not differences or len(differences.splitlines()) == 3
    lines = swap_tables.statistics_table(rows, families).splitlines()
    # Three kinds of a ResNet's features, four of the ConvNeXt's; figures of three levels each.
    assert len(lines) == 2 + 4 * 3 + 4
    cells = [value for line in lines[2:] for value in line.split(" | ")[2:]]
    assert all(len(value.strip(" |").split(", ")) == 3 for value in cells)
    chosen = swap_tables.final_table(rows, families).splitlines()[2:]
    assert len(chosen) == len(swap_tables.ROLE_WORDS)
    assert all(line.endswith(" M |") and "–" not in line for line in chosen)
