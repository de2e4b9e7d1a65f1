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
from gainbook.chapters import CLAIM_WORDS, find_system, studies
from gainbook.chapters.ch03_reason.study import EXPOSURE
from gainbook.lab import catalogue
from gainbook.lab import results_file as runs
from gainbook.lab.judge import CONFIRMED, MEANING, NOT_RUN, REFINED, Judgement
from gainbook.lab.study import Claim, Headline, Study, on_boards, own_rows
from gainbook.lab.tables import Value, find
from gainbook.render import claims, headlines, model_card
from gainbook.render import pages as book_pages

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
        Headline(),
    )
    header, _, first, second = found.splitlines()
    assert header.startswith("| system | AUROC | recall")
    assert first == "| S1, stride 4 | 0.90 [0.80, 1.00] | – | 0.60 | – | – |"
    assert second == "| S1, stride 4, recipe own | 0.40 | – | – | – | – |"


def test_what_a_headline_varies_gets_lines_of_its_own() -> None:
    table = headlines.headline_table(
        stored([line("auroc", a, condition={"agreement": a, "mark": "x"}) for a in (0.5, 1.0)]),
        Headline({"AUROC": ("auroc", None, {"mark": "x"})}, ("agreement",)),
    )
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == [
        "| S1, agreement 0.5",
        "| S1, agreement 1.0",
    ]
    some = Headline({"AUROC": ("auroc", None, {})}, ("agreement",), {"agreement": (1.0,)})
    rows = [line("auroc", a, condition={"agreement": a}) for a in (0.5, 0.7, 1.0)]
    kept = headlines.headline_table(stored(rows), some).splitlines()[2:]
    assert kept == ["| S1, agreement 1.0 | 1.00 |"]
    assert "None of the headline" in headlines.headline_table(stored([line("x", 1)]), Headline())


def test_methods_go_by_the_names_that_readers_know() -> None:
    how = Headline({"AUROC": ("auroc", None, {})}, ("method",))
    rows = [line("auroc", 0.5, condition={"method": m}) for m in ("grad_cam_plus_plus", "oracle")]
    table = headlines.headline_table(stored(rows), how)
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == [
        "| S1, Grad-CAM++",
        "| S1, oracle",
    ]
    assert not re.search("grad_cam|score_cam", claims.claims_table(BOOK.results))


FIGURES = {f"f{k}": Value(0.5, 0.4, 0.6, 3) for k in range(5)}
JUDGED = Claim("A1", lambda rows: Judgement(REFINED, FIGURES))
SILENT = Claim("A1", lambda rows: find(rows, catalogue.S5, "no such metric"))  # type: ignore[arg-type,return-value]


@pytest.fixture
def two_studies(monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Study]:
    """Two studies that judge A1: the first finds its figures, the second does not."""
    here = Study("10_here", "10_ablation", "Here", claims=(JUDGED,))
    there = Study("03_there", "03_right_answer_wrong_reason", "There", claims=(SILENT,))
    given = {study.name: study for study in (there, here)}
    monkeypatch.setattr(claims, "studies", lambda: given)
    return here, there


def test_a_claim_has_a_line_per_study_with_three_figures_at_most(
    two_studies: tuple[Study, Study],
) -> None:
    ran = {"10_here": stored([line("x", 1.0)])}
    table = claims.claims_table(ran, frozenset({"10_ablation"}))
    words, link = CLAIM_WORDS["A1"], "[10](../notebooks/10_ablation.ipynb)"
    first, second = table.splitlines()[2:4]
    assert first.startswith(f"| A1 | {words} | {link} | **{REFINED}** |")
    assert first.count("+0.50 [+0.40, +0.60]") == 3
    assert first.endswith("; 2 more in the chapter |")
    assert second.startswith("| A2 |")  # the study that is not run has no line
    assert f"| A1 | {words} | 03 | {NOT_RUN} |" in claims.claims_table({})


def test_a_page_shows_the_verdicts_of_the_other_pages(
    two_studies: tuple[Study, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two_studies
    text = claims.claim_text("A1", here, pd.DataFrame([line("x", 1.0)]))
    assert text.startswith(f"**A1, {CLAIM_WORDS['A1']}: {REFINED}.** f0 +0.50 [+0.40, +0.60]; f1")
    assert "Also judged" not in text  # the other study is not run
    ran = {"10_here": stored([line("x", 1.0)])}
    monkeypatch.setattr(claims, "stored_results", ran.get)
    other = f"[chapter 10](10_ablation.ipynb): *{REFINED}*"
    text = claims.claim_text("A1", there)
    assert f": {NOT_RUN}.**" in text
    assert text.endswith(f"Also judged in {other}.")


def test_a_study_names_parts_that_are_no_magnetic_tiles(
    two_studies: tuple[Study, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two_studies
    boards = on_boards(here, ())
    monkeypatch.setattr(claims, "studies", lambda: {s.name: s for s in (there, boards)})
    ran = {boards.name: stored([line("x", 1.0)])}
    monkeypatch.setattr(claims, "stored_results", ran.get)
    text = claims.claim_text("A1", there)
    assert text.endswith(f"[chapter 10](10_ablation.ipynb) (board tiles): *{REFINED}*.")
    assert "| 10 (board tiles) | **" in claims.claims_table(ran)


def test_a_study_beside_the_chapter_s_own_has_a_paragraph_per_judged_claim(
    two_studies: tuple[Study, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = two_studies
    monkeypatch.setattr(claims, "stored_results", lambda name: None)
    assert claims.stored_verdicts(here, "board tiles") == ""
    monkeypatch.setattr(claims, "stored_results", lambda name: stored([line("x", 1.0)]))
    paragraphs = claims.stored_verdicts(here, "board tiles").split("\n\n")
    assert paragraphs[0].startswith(f"On board tiles A1 is **{REFINED}**: f0 +0.50 [+0.40, +0.60];")
    assert all("not run" not in text for text in paragraphs)


def test_verdict_words_are_those_of_the_book() -> None:
    assert all(f"*{word}*: {meaning}" in claims.meanings() for word, meaning in MEANING.items())
    cells = [row.split(" | ")[3] for row in claims.claims_table(BOOK.results).splitlines()[2:]]
    assert {cell.strip("*") for cell in cells} <= set(MEANING)


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
    assert "tools/study.py 12_weak_feature" in found["12_weak_feature"]
    assert "`-p more true -p abn_rounds 3`" in found["12_cam_fostering"]


@pytest.mark.parametrize("name", [name for name, one in studies().items() if one.fuller[0]])
def test_a_fuller_run_names_parameters_that_exist(name: str) -> None:
    words = studies()[name].fuller[0].split()
    given = {after for word, after in itertools.pairwise(words) if word == "-p"}
    assert given
    assert given <= parameters_of(name)


@pytest.mark.parametrize("name", sorted(BOOK.results))
def test_every_stored_run_has_headline_figures(name: str) -> None:
    """If this fails for a new file, its study lacks a headline."""
    table = headlines.headline_table(BOOK.results[name], studies()[name].headline)
    assert table.startswith("| system"), table


@pytest.mark.parametrize("name", ["10_ablation", "11_six_approaches"])
def test_every_system_of_the_tiles_has_a_line(name: str) -> None:
    rows = BOOK.results[name].rows
    whole = rows[(rows["metric"] == "auroc") & rows["fold"].isna() & rows["seed"].isna()]
    whole = whole[whole["dataset"] == "magnetic-tile"]
    other = ("defect_type", "size", "verdict", "test_masks", "parts")
    whole = whole[whole["condition"].map(lambda c: not any(key in c for key in other))]
    table = headlines.headline_table(BOOK.results[name], studies()[name].headline)
    assert len(table.splitlines()) == 2 + len(whole)


def test_systems_with_a_label_get_a_line_under_it() -> None:
    labelled = Headline({"AUROC": ("auroc", None, {})}, systems=(catalogue.S5, catalogue.S1_FINE))
    rows = [line("auroc", 0.75, system="S5"), line("auroc", 0.5, system="other")]
    lines = headlines.headline_table(stored(rows), labelled).splitlines()[2:]
    assert lines == [f"| {catalogue.S5.label} | 0.75 |"]


def test_claims_are_those_of_the_plan() -> None:
    ids = list(CLAIM_WORDS)
    assert len(ids) == 31
    assert ids == sorted(ids, key=lambda name: (name[0], int(name[1:])))


def test_the_verdicts_agree_with_the_rows_that_notebooks_left() -> None:
    """Where a notebook stored whether its claim was confirmed, the page agrees."""
    checked = 0
    for id in CLAIM_WORDS:
        for study, _, judgement in claims.judged(id, BOOK.results):
            if study.name not in BOOK.results or judgement.verdict == NOT_RUN:
                continue
            rows = BOOK.results[study.name].rows
            left = rows[rows["metric"] == f"claim_{id.lower()}_confirmed"]["value"]
            if not left.empty:
                assert (judgement.verdict == CONFIRMED) == (left.iloc[-1] == 1)
                checked += 1
    assert checked


def test_every_study_with_stored_rows_judges_its_claims() -> None:
    for id in CLAIM_WORDS:
        for study, _, judgement in claims.judged(id, BOOK.results):
            assert (judgement.verdict == NOT_RUN) == (study.name not in BOOK.results), study.name


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
    assert f"book/results/{run.name}.json" in run.command
    words = run.command.replace("\\\n", " ").split()
    named = [word for word in words if word.startswith(("notebooks/", "tools/"))]
    assert named
    assert [word for word in named if not (ROOT / word).is_file()] == []
    for notebook in (word for word in named if word.endswith(".ipynb")):
        given = {after for word, after in itertools.pairwise(words) if word == "-p"}
        assert given - parameters_of(Path(notebook).stem) == set()


def test_the_grid_of_the_page_is_a_grid() -> None:
    text = (ROOT / "book" / "reproduce.md").read_text("utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert block is not None
    grid = yaml.safe_load(block[1])
    assert (ROOT / grid["notebook"]).is_file()
    assert (ROOT / grid["profile"]).is_file()
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
    rows = own_rows(BOOK.results[model_card.CARD])
    found = find(rows, catalogue.S5, "auroc").text()
    table = model_card.figures(BOOK.results)
    assert f"| AUROC | {found} |" in table
    assert table.count("| – | – |") == 0


def test_the_card_says_what_another_light_did() -> None:
    text = model_card.light(BOOK.results)
    rows = own_rows(BOOK.results[EXPOSURE.name])
    change = find(rows, catalogue.S5_DARK, "auroc_shift").text(3, True)
    assert f"a change of {change}; the false alarms" in text
    assert text.startswith("- Another camera")
    assert "has not been made yet" in model_card.light({})
