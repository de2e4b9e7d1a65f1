"""Pages filled from stored runs: claims, headline figures, commands that exist, the model card."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from gainbook.chapters.ch03_reason import exposure as exposure_shift
from gainbook.chapters.ch13_distillation import detector_systems, swap_study
from gainbook.chapters.ch13_distillation.detector_systems import on
from gainbook.lab import components, reference
from gainbook.lab import results_file as runs
from gainbook.lab.chapter_results import FULLER
from gainbook.lab.judge import Judgement
from gainbook.lab.tables import Value, find
from gainbook.render import claims, headlines, model_card
from gainbook.render import pages as book_pages
from gainbook.render.claims import CLAIMS, NOT_YET, Answer, Claim
from gainbook.render.headlines import Headline

ROOT = Path(__file__).resolve().parents[3]
BOOK = book_pages.read_book(ROOT)
PAGES = ("results_page", "reproduce", "model_card")


def stored(rows: list[dict[str, Any]], dataset: str = "set") -> runs.ResultsFile:
    return runs.ResultsFile("n", {"dataset": dataset}, {}, pd.DataFrame(rows))


def line(metric: str, value: float, **given: Any) -> dict[str, Any]:
    given = {"condition": {"output_stride": 4}} | given
    return runs.row(given.pop("dataset", "set"), given.pop("system", "S1"), metric, value, **given)


def test_a_headline_table_takes_pooled_rows_of_the_run_s_own_data() -> None:
    found = headlines.headline_table(
        stored(
            [
                line("auroc", 0.9, ci_low=0.8, ci_high=1.0),
                line("auroc", 0.1, seed=0, fold=0),
                line("auroc", 0.2, dataset="synthetic"),
                line("auroc", 0.3, condition={"output_stride": 4, "defect_type": "crack"}),
                line("auroc", 0.4, condition={"output_stride": 4, "recipe": "own"}),
                line("iou", 0.5, map="cam"),
                line("iou", 0.6, map="defect_map"),
            ]
        ),
        Headline("x"),
    )
    header, _, first, second = found.splitlines()
    assert header.startswith("| system | AUROC | recall")
    assert first == "| S1, stride 4 | 0.90 [0.80, 1.00] | – | 0.60 | – | – |"
    assert second == "| S1, stride 4, recipe own | 0.40 | – | – | – | – |"


def test_what_a_headline_varies_gets_lines_of_its_own() -> None:
    table = headlines.headline_table(
        stored([line("auroc", a, condition={"agreement": a, "mark": "x"}) for a in (0.5, 1.0)]),
        Headline("x", {"AUROC": ("auroc", None, {"mark": "x"})}, ("agreement",)),
    )
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == [
        "| S1, agreement 0.5",
        "| S1, agreement 1.0",
    ]
    some = Headline("x", {"AUROC": ("auroc", None, {})}, ("agreement",), {"agreement": (1.0,)})
    rows = [line("auroc", a, condition={"agreement": a}) for a in (0.5, 0.7, 1.0)]
    kept = headlines.headline_table(stored(rows), some).splitlines()[2:]
    assert kept == ["| S1, agreement 1.0 | 1.00 |"]
    assert "None of the headline" in headlines.headline_table(stored([line("x", 1)]), Headline("x"))


def test_methods_go_by_the_names_that_readers_know() -> None:
    how = Headline("x", {"AUROC": ("auroc", None, {})}, ("method",))
    rows = [line("auroc", 0.5, condition={"method": m}) for m in ("grad_cam_plus_plus", "oracle")]
    table = headlines.headline_table(stored(rows), how)
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == [
        "| S1, Grad-CAM++",
        "| S1, oracle",
    ]
    assert not re.search("grad_cam|score_cam", claims.claims_table(BOOK.results))


def test_a_cell_of_the_claims_has_three_figures_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {f"f{k}": Value(0.5, 0.4, 0.6, 3) for k in range(5)}
    one = Answer("10_x", "here", lambda rows: Judgement("refined", figures))
    monkeypatch.setattr(claims, "CLAIMS", (Claim("A1", "words", (one,)),))
    last = claims.claims_table({"here": stored([line("x", 1.0)])}).splitlines()[-1]
    assert last.count("+0.50 [+0.40, +0.60]") == 3
    assert last.endswith("; 2 more in the chapter |")


def test_the_files_of_one_notebook_each_have_their_command() -> None:
    found = {run.name: run.command for run in book_pages.reference_runs(BOOK)}
    for name, part, profile in (
        ("10_ablation", "ladder", "standard"),
        ("10_leave_one_out", "leave_one_out", "components"),
        ("10_leaking_split", "leaking", "components"),
        ("10_copy_paste", "copy_paste", "standard"),
    ):
        assert f"profiles/{profile}.yaml -p part {part}" in found[name]
        assert f"results.json book/results/{name}.json" in found[name]
    assert "cp runs/ablation/results.json book/results/10_synthetic.json" in found["10_synthetic"]
    assert "tools/weak_feature_study.py" in found["12_weak_feature"]
    assert "`-p more true -p abn_rounds 3`" in found["12_cam_fostering"]


@pytest.mark.parametrize("name", FULLER)
def test_a_fuller_run_names_parameters_that_exist(name: str) -> None:
    words = FULLER[name][0].split()
    asked = {after for word, after in itertools.pairwise(words) if word == "-p"}
    assert asked
    assert asked <= parameters_of(name)


@pytest.mark.parametrize("name", sorted(BOOK.results))
def test_every_stored_run_has_headline_figures(name: str) -> None:
    """If this fails for a new file, say in `headlines.HEADLINES` what it is about."""
    own = headlines.HEADLINES.get(name, Headline(name))
    table = headlines.headline_table(BOOK.results[name], own)
    assert table.startswith("| system"), table


@pytest.mark.parametrize("name", ["10_ablation", "11_six_approaches"])
def test_every_system_of_the_tiles_has_a_line(name: str) -> None:
    rows = BOOK.results[name].rows
    told = rows[(rows["metric"] == "auroc") & rows["fold"].isna() & rows["seed"].isna()]
    told = told[told["dataset"] == "magnetic-tile"]
    other = ("defect_type", "size", "verdict", "test_masks", "parts")
    told = told[told["condition"].map(lambda c: not any(key in c for key in other))]
    table = headlines.headline_table(BOOK.results[name], headlines.HEADLINES[name])
    assert len(table.splitlines()) == 2 + len(told)


def test_detectors_stand_under_their_labels() -> None:
    found = BOOK.results["13_reverse_distillation"]
    table = headlines.headline_table(found, headlines.HEADLINES["13_reverse_distillation"])
    rd = on(detector_systems.RD, detector_systems.REFERENCE_TEACHER)
    assert f"| {rd.label} | {find(found.rows, rd, 'auroc')} |" in table


def test_the_study_of_the_swap_shows_what_was_judged() -> None:
    family = swap_study.reference_pair()[1]
    best, other = swap_study.grid(family)[:2]
    rows = [
        line("auroc", 0.75, system=one.name, condition={**one.condition, "study": study})
        for one, study in ((best, "final"), (best, "factors"), (other, "factors"))
    ]  # fmt: skip
    table = headlines.headline_table(stored(rows), headlines.HEADLINES["13_swap_study"])
    assert best.label in table
    assert other.label not in table


def test_claims_are_those_of_the_plan() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(ids) == len(set(ids)) == 31
    assert ids == sorted(ids, key=lambda name: (name[0], int(name[1:])))


def test_an_answer_is_computed_read_or_not_there_yet() -> None:
    claim = Claim("A9", "words")
    given = {"here": stored([line("claim_a9_confirmed", 0.0)]), "empty": stored([line("x", 1.0)])}

    def judge(rows: pd.DataFrame) -> Judgement:
        if "claim_a9_confirmed" not in set(rows["metric"]):
            raise LookupError
        return Judgement("refined", {})

    def verdict(results: str, how: Any = None) -> str:
        return claims.answer(claim, Answer("c", results, how), given).verdict

    assert verdict("here", judge) == "refined"
    assert verdict("empty", judge) == NOT_YET
    assert verdict("nowhere", judge) == NOT_YET
    assert verdict("here") == "not confirmed"
    assert verdict("empty") == "see the chapter"


def test_the_verdicts_agree_with_what_the_notebooks_left() -> None:
    """Where a notebook wrote whether its claim was confirmed, the page says the same."""
    checked = 0
    for claim in CLAIMS:
        for one in claim.answers:
            if one.judge is None or one.results not in BOOK.results:
                continue
            rows = BOOK.results[one.results].rows
            left = rows[rows["metric"] == f"claim_{claim.id.lower()}_confirmed"]["value"]
            if not left.empty:
                judged = claims.answer(claim, one, BOOK.results).verdict
                assert (judged == "confirmed") == (left.iloc[-1] == 1)
                checked += 1
    assert checked or not BOOK.results


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_filled_the_same_every_time(page: str) -> None:
    text = (ROOT / "book" / f"{page}.md").read_text("utf-8")
    assert book_pages.FILL.search(text)
    filled = book_pages.fill(text, BOOK)
    assert "% fill" not in filled
    assert filled == book_pages.fill(text, book_pages.read_book(ROOT))
    assert " nan" not in filled


@pytest.mark.parametrize("page", PAGES)
def test_pages_read_without_any_stored_run(page: str) -> None:
    text = (ROOT / "book" / f"{page}.md").read_text("utf-8")
    assert "% fill" not in book_pages.fill(text, book_pages.Book({}, {}, (), frozenset()))


def test_an_unknown_fill_is_an_error() -> None:
    with pytest.raises(KeyError, match="expected one of headlines"):
        book_pages.fill("% fill: nothing\n", BOOK)


def parameters_of(notebook: str) -> set[str]:
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    source = next(c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    return {
        ast.unparse(statement.target)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.AnnAssign)
    }


def test_every_results_file_has_a_command() -> None:
    assert set(BOOK.results) <= {run.name for run in book_pages.reference_runs(BOOK)}


@pytest.mark.parametrize("run", book_pages.reference_runs(BOOK), ids=lambda run: run.name)
def test_commands_name_notebooks_profiles_and_parameters_that_exist(
    run: book_pages.ReferenceRun,
) -> None:
    assert f"book/results/{run.name}.json" in run.command or run.command.count("tools/")
    words = run.command.replace("\\\n", " ").split()
    named = [word for word in words if word.startswith(("notebooks/", "tools/"))]
    assert named
    assert [word for word in named if not (ROOT / word).is_file()] == []
    for notebook in (word for word in named if word.endswith(".ipynb")):
        asked = {after for word, after in itertools.pairwise(words) if word == "-p"}
        assert asked - parameters_of(Path(notebook).stem) == set()


def test_the_grid_of_the_page_is_a_grid() -> None:
    text = (ROOT / "book" / "reproduce.md").read_text("utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert block is not None
    grid = yaml.safe_load(block[1])
    assert (ROOT / grid["notebook"]).is_file()
    assert (ROOT / grid["profile"]).is_file()
    from gainbook.lab.systems import find_system

    tags = [find_system(tag).tag for tag in grid["grid"]["system"]]
    assert tags == grid["grid"]["system"]


def test_training_is_added_up_from_what_is_known() -> None:
    def made(**facts: Any) -> runs.ResultsFile:
        facts = {"duration_s": 5.0, "command": "", **facts}
        return runs.ResultsFile("n", {}, facts, pd.DataFrame())

    own = made(training_seconds={"a": 10, "b": 20})
    shared = made(recipe={"a": {}, "b": {}})
    book = book_pages.Book(
        {"own": own, "shared": shared}, {"components": {"a": 1.0, "b": 2.0}}, (), frozenset()
    )
    assert book_pages.trained("own", book) == 30
    assert book_pages.trained("shared", book) == 3
    assert book_pages.trained("shared", book._replace(costs={})) is None
    assert book_pages.trained("nobody", book) is None
    assert [book_pages.minutes(s) for s in (20, 300, 7200, None)] == [
        "1 min",
        "5 min",
        "2.0 h",
        "–",
    ]


def test_the_card_has_the_figures_of_the_reference_run() -> None:
    rows = headlines.own_rows(BOOK.results[model_card.CARD])
    found = find(rows, reference.S5, "auroc").text()
    table = model_card.figures(BOOK.results)
    assert f"| AUROC | {found} |" in table
    assert table.count("| – | – |") == 0


def test_the_card_says_what_another_light_did() -> None:
    told = model_card.light(BOOK.results)
    rows = headlines.own_rows(BOOK.results[exposure_shift.NAME])
    change = find(rows, components.S5_DARK, "auroc_shift").text(3, True)
    assert f"a change of {change}; the false alarms" in told
    assert told.startswith("- Another camera")
    assert "has not been made yet" in model_card.light({})
