"""Chapters are found by their folders: studies, systems, claims and quick parameters."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import nbformat
import pytest
from gainbook.chapters import CLAIM_WORDS, find_system, studies, study_modules, systems
from gainbook.lab import catalogue
from gainbook.lab.results_file import read_results
from gainbook.lab.seed_study import SeedStudy

from gainmtl.strategies import get_strategy

ROOT = Path(__file__).resolve().parents[3]
RESULTS = sorted(path.stem for path in (ROOT / "book/results").glob("[01]*.json"))


def test_every_results_file_belongs_to_a_study() -> None:
    assert set(RESULTS) - set(studies()) == {"03_shortcut_study_maps"}
    for name, study in studies().items():
        assert name == study.name
        assert (ROOT / "notebooks" / f"{study.notebook}.ipynb").is_file()
        assert study.name[:2] == study.notebook[:2]


def test_every_stored_results_file_is_read() -> None:
    for name in set(RESULTS) & set(studies()):
        assert len(read_results(ROOT / "book/results" / f"{name}.json").rows)


def test_every_judged_claim_has_words_and_every_study_judges_it_once() -> None:
    for study in studies().values():
        ids = [claim.id for claim in study.claims]
        assert set(ids) <= set(CLAIM_WORDS)
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("module", study_modules(), ids=lambda m: m.__name__.split(".")[-2])
def test_a_notebook_s_defaults_are_its_chapter_s_quick_parameters(module: object) -> None:
    quick = getattr(module, "QUICK", None)
    names = {study.notebook for study in getattr(module, "STUDIES", ())}
    if quick is None:
        return
    (name,) = names
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    cell = next(c for c in cells if "parameters" in c.metadata.get("tags", []))
    defaults = {
        ast.unparse(line.target): ast.literal_eval(line.value)
        for line in ast.parse(cell.source).body
        if isinstance(line, ast.AnnAssign) and line.value is not None
    }
    assert {key: defaults[key] for key in quick} == quick


def test_systems_are_found_by_their_tags() -> None:
    assert find_system("S5-stride4").strategy == "S5"
    assert find_system("U-Net") is catalogue.UNET
    assert find_system("S5-unstaged-stride4") is catalogue.UNSTAGED
    assert find_system("S4-stride4").trained_as is catalogue.S5_WITHOUT_TERM
    assert all(find_system(tag).tag == tag for tag in systems())
    other = find_system("S5-no-mining-stride8")
    assert (other.strategy, other.output_stride) == ("S5-no-mining", 8)
    for system in (
        *(catalogue.with_share(s, d) for s in catalogue.MASK_SHARES for d in range(3)),
        *(catalogue.with_quality(quality) for quality in ("dilated", "box")),
    ):
        assert find_system(system.tag) == system


def test_every_system_of_a_study_is_found_by_its_tag() -> None:
    for study in studies().values():
        if isinstance(study, SeedStudy):
            continue
        for system in (*study.systems, *(one for pair in study.pairs for one in pair)):
            if hasattr(system, "strategy"):
                assert find_system(system.tag)._replace(label="") == system._replace(label="")


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("S1-fostered-cx1-stride4", "strategy: expected one of"),
        ("S9-stride4", "strategy: expected one of"),
        ("attention-bare", "expected a name as S4-stride4 or one of attention-bare-stride4"),
    ],
)
def test_other_names_are_refused(tag: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_system(tag)


def test_s4_is_s5_without_its_counterfactual() -> None:
    """Chapters 8 and 10 train it once: everything that training depends on is the same."""
    s4, s5_without = find_system("S4-stride4"), catalogue.S5_WITHOUT_TERM
    renamed = dataclasses.replace(get_strategy(s5_without.strategy), name="S4")
    assert get_strategy(s4.strategy) == renamed
    kept = {"tag", "strategy", "label", "trained_as"}
    mine, theirs = (s._asdict().items() for s in (s4, s5_without))
    assert {k: v for k, v in mine if k not in kept} == {k: v for k, v in theirs if k not in kept}
    assert (s4.name, s4.folder) == ("S4", "S5-no-counterfactual-stride4")
