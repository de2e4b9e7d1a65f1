"""A chapter's study as data: systems, pairs, questions, headline and claims; one way to run it.

A chapter holds `Study` objects in its `study.py`; everything that two studies do is here. What a
study measures beyond verdicts and maps is a `Question` or its `extra` rows.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gainbook.lab.comparison import compare, merge, result_rows
from gainbook.lab.folds import Question, ask_folds
from gainbook.lab.judge import NOT_RUN, Judgement
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import ResultsFile, provenance, reference, write_results
from gainbook.lab.run_system import load_fold, recipe, run
from gainbook.lab.systems import AnySystem, System
from gainmtl.datasets import Data
from gainmtl.strategies import get_strategy

Pair = tuple[AnySystem, AnySystem]
"""Compared on the same images, first minus second."""
Measured = tuple[str, str | None, Mapping[str, Any]]
"""Metric, map, and what its rows carry beside the system's own condition."""

VERDICTS: dict[str, Measured] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
}
PLACES: dict[str, Measured] = {
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame of the defect map": ("point_game", "defect_map", {}),
    "positive energy of the evidence": ("positive_energy", "cam", {}),
}
REASONS: dict[str, Measured] = {
    "selectivity on the image": ("selectivity", None, {"level": "image"})
}


@dataclasses.dataclass(frozen=True)
class Headline:
    """Which figures of a results file the results page shows: one line per system."""

    measures: Mapping[str, Measured] = dataclasses.field(
        default_factory=lambda: {**VERDICTS, **PLACES}
    )
    varied: tuple[str, ...] = ()
    """Condition keys beside the systems' own, each value of which gets a line."""
    only: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Of such keys, the values that get a line; all, where a key is not named."""
    systems: tuple[Any, ...] = ()
    """Systems (`label`, `name`, `condition`) that get a line under their label, instead of every
    system of the file under its condition."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim that a study judges from its rows."""

    id: str
    """As "A6"; the words of each claim are in `gainbook.chapters.CLAIM_WORDS`."""
    criterion: Callable[[pd.DataFrame], Judgement]
    """From result rows, with figures; its docstring is the criterion, written before the run.
    Raises LookupError where rows lack a figure."""
    live: tuple[str, ...] = ()
    """Metrics that are read from the rows of the chapter's live part, since they hold for every
    data set: costs, derivatives."""


def judge(claim: Claim, rows: pd.DataFrame | None, live: pd.DataFrame | None = None) -> Judgement:
    """The claim's verdict; `NOT_RUN` where rows lack a figure.

    Args:
        rows: about the study's own data set.
        live: of the chapter's live part.
    """
    if rows is None:
        return Judgement(NOT_RUN, {})
    if live is not None and claim.live:
        rows = pd.concat([rows, live[live["metric"].isin(claim.live)]], ignore_index=True)
    try:
        return claim.criterion(rows)
    except LookupError:
        return Judgement(NOT_RUN, {})


def judge_stored(claim: Claim, file: ResultsFile | None) -> Judgement:
    """The claim's verdict from a committed results file; `NOT_RUN` without one."""
    if file is None:
        return Judgement(NOT_RUN, {})
    own = own_rows(file)
    return judge(claim, own, file.rows.loc[file.rows.index.difference(own.index)])


class Run(NamedTuple):
    """What a study's systems left, for its `extra` rows."""

    parameters: Parameters
    pooled: dict[str, list[Pooled]]
    """By system tag, one per seed."""
    whole: dict[str, Pooled]
    """By system tag, all seeds together."""
    systems: Sequence[Any]
    """Of the study's class of systems, as those of `pairs`."""
    pairs: Sequence[tuple[Any, Any]]
    answers: dict[str, dict[str, pd.DataFrame]]
    """By name of the question's function and system tag."""
    table: pd.DataFrame
    """Rows of verdicts, maps and paired differences before `keep`; the latter with `p_value`."""
    resamples: int


BOARDS = "boards"
"""The profile of `on_boards`, under `notebooks/profiles`."""


def on_boards(study: Study, systems: Sequence[AnySystem], **changes: Any) -> Study:
    """The study on tiles of circuit boards, where defects are many, of some of its systems.

    Its results file is `<name>_boards`. Pairs are those among `systems`; all else is the study's,
    unless `changes` has it.
    """
    tags = {system.tag for system in systems}
    name = f"{study.name}_boards"
    command = (
        f"python tools/study.py {name} --data-root path/to/deep-pcb --workers 2 "
        f"--output-dir runs/{BOARDS} --results book/results/{name}.json"
    )
    given: dict[str, Any] = {
        "name": name,
        "title": f"{study.title}, circuit boards",
        "systems": tuple(systems),
        "pairs": tuple((a, b) for a, b in study.pairs if {a.tag, b.tag} <= tags),
        "profile": BOARDS,
        "fuller": ("", ""),
        "made_by": command,
    }
    return dataclasses.replace(study, **{**given, **changes})


def everything(rows: pd.DataFrame) -> pd.Series:
    """Keep all rows."""
    return pd.Series(True, index=rows.index)


def nothing(rows: pd.DataFrame) -> pd.Series:
    """Keep none of the rows: the file holds those of questions and `extra` only."""
    return pd.Series(False, index=rows.index)


@dataclasses.dataclass(frozen=True)
class Study:
    """One results file of a chapter's reference run."""

    name: str
    """Of the file under `book/results`."""
    notebook: str
    """The notebook that runs it."""
    title: str
    systems: tuple[AnySystem, ...] = ()
    pairs: tuple[Pair, ...] = ()
    questions: tuple[Question, ...] = ()
    keep: Callable[[pd.DataFrame], pd.Series] = everything
    """Which rows of verdicts, maps and paired differences the file keeps."""
    extra: Callable[[Run], list[dict[str, Any]]] | None = None
    """Rows that need more than the answers to questions."""
    run: Callable[[Parameters, Any], list[Pooled]] = run
    """Parameters and a system to one `Pooled` per seed; finished folds are read."""
    rows: Callable[[Sequence[Pooled], Sequence[int], str, int], pd.DataFrame] = result_rows
    """Result rows of a system from its runs, their seeds, the data set's name and resamples."""
    compare: Callable[[Pooled, Pooled, str, int], pd.DataFrame] = compare
    """Rows of a pair of systems, all seeds together."""
    profile: str = "standard"
    """The file under `notebooks/profiles` of its reference run."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Parameters of the notebook that select this study."""
    fuller: tuple[str, str] = ("", "")
    """Parameters of a fuller run, as they are written, and what it trains besides."""
    written: str = "results.json"
    """What the run leaves in its output folder."""
    made_by: str = ""
    """The commands that make the results file, where no run of the notebook with a profile does."""
    headline: Headline = dataclasses.field(default_factory=Headline)
    claims: tuple[Claim, ...] = ()
    about: Callable[[Mapping[str, Any]], str] | None = None
    """The run in a few words for the note, from its parameters, where it is not the common line."""

    @property
    def command(self) -> str:
        """What makes the results file, as a block of Markdown."""
        return self.command_with("")

    def command_with(self, more: str) -> str:
        """`command` with more parameters as they are written."""
        if self.made_by:
            return f"```bash\n{self.made_by}\n```"
        given = "".join(f" -p {key} {value}" for key, value in self.options.items())
        given += f" {more}" if more else ""
        folder = "runs/reference" if self.profile == "standard" else f"runs/{self.profile}"
        return (
            "```bash\n"
            f"papermill notebooks/{self.notebook}.ipynb out.ipynb "
            f"-f notebooks/profiles/{self.profile}.yaml{given} \\\n"
            f"    -p data_root path/to/magnetic-tile -p output_dir {folder}\n"
            f"cp {folder}/{self.written} book/results/{self.name}.json\n"
            "```"
        )

    def claim(self, id: str) -> Claim:
        """The claim of that id.

        Raises:
            KeyError: the study does not judge it.
        """
        return {claim.id: claim for claim in self.claims}[id]


class Results(NamedTuple):
    """Rows of a study and their origin."""

    rows: pd.DataFrame | None
    """Result rows; `None` where no run has been stored."""
    note: str
    """One paragraph of Markdown: the run that the figures are from, or how to make them."""
    pooled: dict[str, list[Pooled]]
    """By system tag, one per seed; empty where stored rows were read."""


def results(
    study: Study,
    parameters: Parameters,
    selected: bool = True,
    systems: Sequence[AnySystem] | None = None,
    pairs: Sequence[Pair] | None = None,
    resamples: int = 2000,
) -> Results:
    """Run a study on the parameters' data set, or read its stored results.

    The folds of its systems are read where they are finished and trained where not. With
    `dataset="synthetic"`, or where the study is not `selected`, the committed results are read.

    Args:
        systems: instead of the study's.
        pairs: instead of the study's, those of them whose systems are run.
    """
    p = parameters
    if p.dataset == "synthetic" or not selected:
        return stored(study)
    systems = study.systems if systems is None else systems
    if not systems:
        return Results(None, "None of these systems has been trained yet.", {})
    tags = {system.tag for system in systems}
    pairs = study.pairs if pairs is None else pairs
    pairs = [(a, b) for a, b in pairs if {a.tag, b.tag} <= tags]
    pooled = {system.tag: study.run(p, system) for system in systems}
    whole = {tag: merge(runs, p.seeds) for tag, runs in pooled.items()}
    tables = [study.rows(runs, p.seeds, p.dataset, resamples) for runs in pooled.values()]
    tables += [study.compare(whole[a.tag], whole[b.tag], p.dataset, resamples) for a, b in pairs]
    table = pd.concat(tables, ignore_index=True)
    rows: list[dict[str, Any]] = []
    answers: dict[str, dict[str, pd.DataFrame]] = {}
    for question in study.questions:
        given = ask_folds(p, pooled, question)
        answers[question.ask.__name__] = given
        rows += question.rows(given, systems, pairs, p.dataset, resamples)
    if study.extra is not None:
        rows += study.extra(Run(p, pooled, whole, systems, pairs, answers, table, resamples))
    kept = table[study.keep(table)].drop(columns="p_value", errors="ignore")
    return Results(pd.concat([kept, pd.DataFrame(rows)], ignore_index=True), own_note(p), pooled)


def write_chapter(
    parameters: Parameters,
    started: float,
    rows: Sequence[Mapping[str, Any]],
    data: Data,
    parts: Sequence[Results] = (),
    systems: Sequence[System] = (),
    **more: Any,
) -> Path:
    """Write a notebook's results.json: its live rows, and those of the parts that were run.

    Args:
        started: `time.monotonic()` at the start of the notebook.
        data: of the live part; its fingerprint is stored where no part was run.
        parts: results of studies; stored ones add no rows.
        systems: whose loss weights and, where they were run, recipes are stored.
        more: further entries of the provenance.
    """
    p = parameters
    pooled = {tag: runs for part in parts for tag, runs in part.pooled.items()}
    for part in parts:
        if part.pooled and part.rows is not None:
            rows = [*rows, *part.rows.to_dict("records")]
    ran = [system for system in systems if system.tag in pooled]
    facts = provenance(
        p,
        time.monotonic() - started,
        (load_fold(p, p.seeds[0])(0) if pooled else data).fingerprint,
        {s.tag: get_strategy(s.strategy).weights.asdict() for s in systems} or None,
        trained_at_commits=sorted({c for runs in pooled.values() for r in runs for c in r.commits}),
        recipe={s.tag: recipe(p, s) for s in ran} or None,
        **more,
    )
    path = write_results(
        p.output_dir, notebook=p.notebook, parameters=p, provenance=facts, rows=rows
    )
    print(f"{len(rows)} rows in results.json")
    return path


def own_note(parameters: Parameters) -> str:
    """The note beside figures of the run itself."""
    p = parameters
    return (
        f"The figures below come from **the run in front of you**: {p.dataset}, folds: "
        f"{p.folds}, seeds: {as_text(p.seeds)}, {p.backbone}, {p.image_size} px, "
        f"{p.epochs} epochs."
    )


def own_rows(stored: ResultsFile) -> pd.DataFrame:
    """The rows about the data set of the run; a file also holds its chapter's live part.

    A study that names no data set is about synthetic parts alone.
    """
    if "dataset" not in stored.parameters:
        return stored.rows
    return stored.rows[stored.rows["dataset"] == stored.parameters["dataset"]]


def stored(study: Study) -> Results:
    """The committed results of a study, or a note on how to make them."""
    try:
        file = reference(study.name)
    except FileNotFoundError:
        note = f"There are **no reference results yet**. This makes them:\n\n{study.command}"
        return Results(None, note, {})
    fuller = study.fuller[0] if is_fuller(study, file) else ""
    note = (
        f"The figures below come from **the reference run**, `book/results/{study.name}.json`: "
        f"{study.about(file.parameters) if study.about else _conditions(file)}. This repeats it:"
        f"\n\n{study.command_with(fuller)}"
    )
    return Results(own_rows(file), note, {})


def is_fuller(study: Study, file: ResultsFile) -> bool:
    """Whether stored results are those of the study's fuller run."""
    words = study.fuller[0].split()
    wanted = dict(zip(words[1::3], words[2::3], strict=True))
    return all(str(file.parameters.get(key)).lower() == value for key, value in wanted.items())


def _conditions(file: ResultsFile) -> str:
    given = file.parameters
    return (
        f"{given['dataset']}, folds: {given['folds']}, seeds: {as_text(given['seeds'])}, "
        f"{given['backbone']}, {given['image_size']} px, {given['epochs']} epochs, trained at "
        f"commit {as_text(file.provenance['trained_at_commits'])}"
    )


def as_text(value: Any) -> str:
    """A figure or name, or several separated by commas; commits shortened."""
    many = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(item)[:10] for item in many)
