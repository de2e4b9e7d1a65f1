"""What the book's pages take from the stored reference runs when the book is built.

A line `% fill: <name>` of a page under `book/` stands for a block of Markdown made here. MyST reads
such a line as a comment, so a page can be read and built without it; no page has a figure typed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters import studies
from gainbook.chapters.ch02_contrast import page as contrast_page
from gainbook.chapters.ch03_reason import boards, boards_page
from gainbook.chapters.ch10_ablation import textbook
from gainbook.chapters.ch15_own_data import budget
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import Study, as_text
from gainbook.lab.tables import markdown
from gainbook.render import about, model_card
from gainbook.render.chapter_map import chapter_map
from gainbook.render.claims import claims_table, meanings
from gainbook.render.headlines import headline_table, load_all
from gainmtl.files import read_json

FILL = re.compile(r"^% fill: ([a-z-]+)$", re.M)
TRIALS = ("tuning", "tuning_six")
"""Files of the trials that chose recipes, by the systems they were made for."""
SECONDS = "seconds_of_five_folds"
"""The one entry of `book/results/costs.json`, by folder of runs and system."""


class Book(NamedTuple):
    """What a fill may read."""

    results: Mapping[str, ResultsFile]
    costs: Mapping[str, Mapping[str, float]]
    """Seconds of five folds, by folder of runs and system; see `tools/training_costs.py`."""
    trials: tuple[Mapping[str, Any], ...]
    pages: frozenset[str]
    """The notebooks that exist, without their suffix."""
    root: Path = Path()
    """The checkout."""


def read_book(root: str | Path) -> Book:
    """The book of a checkout; files that are not there are empty."""
    folder = Path(root) / "book" / "results"
    costs = folder / "costs.json"
    trials = [folder / f"{name}.json" for name in TRIALS]
    return Book(
        load_all(folder),
        read_json(costs)[SECONDS] if costs.is_file() else {},
        tuple(one for path in trials if path.is_file() for one in read_json(path)),
        frozenset(path.stem for path in (Path(root) / "notebooks").glob("*.ipynb")),
        Path(root),
    )


def fill(text: str, book: Book) -> str:
    """A page with every `% fill: <name>` line replaced.

    Raises:
        KeyError: a name that is not among `FILLS`.
    """

    def block(found: re.Match[str]) -> str:
        if found[1] not in FILLS:
            raise KeyError(f"fill: expected one of {', '.join(FILLS)}, got {found[1]!r}")
        return FILLS[found[1]](book)

    return FILL.sub(block, text)


def minutes(seconds: float | None) -> str:
    """`12 min`, `1.5 h`, or a dash where it is unknown."""
    if seconds is None:
        return "–"
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"


def study_of(name: str) -> Study | SeedStudy:
    """The study of a results file; a file of no study gets its own name as the title."""
    return studies().get(name) or Study(name, name, name)


def _page(name: str, book: Book) -> str:
    """A results file by its study's title, linked where its notebook exists."""
    study = study_of(name)
    if study.notebook not in book.pages:
        return study.title
    return f"[{study.title}](../notebooks/{study.notebook}.ipynb)"


def headlines(book: Book) -> str:
    """A section per results file: its table, and where it is from in one line."""
    parts = []
    for name, stored in book.results.items():
        given = stored.parameters
        table = headline_table(stored, study_of(name).headline)
        facts = {
            "": given.get("dataset", "synthetic"),
            "px": given.get("image_size"),
            "epochs": given.get("epochs"),
            "folds": given.get("folds"),
        }
        about = ", ".join(f"{value} {word}".strip() for word, value in facts.items() if value)
        parts.append(
            f"### {name[:2]}: {study_of(name).title}\n\n{table}\n\n"
            f"{_page(name, book)}; `book/results/{name}.json`: {about}, seeds: "
            f"{as_text(given.get('seeds', '–'))}."
        )
    return "\n\n".join(parts) or "*There are no reference results yet.*"


def claims(book: Book) -> str:
    """The table of all claims."""
    return claims_table(book.results, book.pages)


def provenance(book: Book) -> str:
    """Where each file is from: one line per file, and its command."""
    lines, commands = [], []
    for name, stored in book.results.items():
        origin, given = stored.provenance, stored.parameters
        fingerprint = origin.get("data_fingerprint")
        lines.append(
            [
                f"`{name}`",
                as_text(origin.get("trained_at_commits") or origin["git_commit"]),
                minutes(origin["duration_s"]),
                "drawn" if fingerprint is None else f"`{str(fingerprint)[:12]}`",
                as_text(given.get("seeds", "–")),
                str(origin["versions"].get("torch", "–")),
            ]
        )
        commands.append(f"# {name}\n{origin['command']}")
    table = markdown(
        ["file", "trained at commit", "last pass", "data", "seeds", "torch"], lines, True
    )
    return f"{table}\n\n```bash\n" + "\n\n".join(commands) + "\n```"


class ReferenceRun(NamedTuple):
    """One step of reproducing the book."""

    name: str
    """Its results file."""
    command: str
    """As a block of Markdown."""


def _command(name: str) -> str:
    study = study_of(name)
    given, also = study.fuller
    more = f"\n\nThe fuller run, `{given}`, also trains {also}." if given else ""
    return study.command + more


def reference_runs(book: Book) -> list[ReferenceRun]:
    """Every reference run in the order of the chapters, made or not."""
    names = {*studies(), *book.results}
    return [ReferenceRun(name, _command(name)) for name in sorted(names)]


def trained(name: str, book: Book) -> float | None:
    """Seconds of training for a results file: its own entry, else the sum over its systems, where
    all of them are known."""
    if name not in book.results:
        return None
    origin = book.results[name].provenance
    if own := origin.get("training_seconds"):
        return float(sum(own.values()))
    if isinstance(study_of(name), SeedStudy):
        return float(origin["duration_s"])
    folder = "reference" if "-p image_size 192" in origin["command"] else "components"
    known = book.costs.get(folder, {})
    systems = origin.get("recipe") or {}
    return sum(known[tag] for tag in systems) if systems and set(systems) <= set(known) else None


def commands(book: Book) -> str:
    """Every reference run: what it costs, and its command."""
    lines, blocks = [], []
    for run in reference_runs(book):
        stored = book.results.get(run.name)
        last = None if stored is None else stored.provenance["duration_s"]
        systems = [] if stored is None else sorted(stored.provenance.get("recipe") or {})
        lines.append(
            [
                f"`{run.name}`",
                "made" if stored else "not made yet",
                minutes(trained(run.name, book)),
                minutes(last),
                ", ".join(f"`{tag}`" for tag in systems) or "–",
            ]
        )
        blocks.append(f"**{run.name}**\n\n{run.command}")
    header = ["results file", "state", "training", "last pass", "systems"]
    return markdown(header, lines, is_text=True) + "\n\n" + "\n\n".join(blocks)


def systems(book: Book) -> str:
    """What five folds of each system took, by folder."""
    lines = [
        [f"`{folder}`", f"`{tag}`", minutes(seconds)]
        for folder, found in book.costs.items()
        for tag, seconds in found.items()
    ]
    total = sum(seconds for found in book.costs.values() for seconds in found.values())
    if not lines:
        return "*Nobody has added up the costs yet: `tools/training_costs.py`.*"
    lines.append(["", "all of them", minutes(total)])
    return markdown(["folder", "system", "five folds"], lines, is_text=True)


def tuning(book: Book) -> str:
    """What the trials before the reference runs took."""
    if not book.trials:
        return "*There are no trials yet.*"
    total = minutes(sum(float(one["seconds"]) for one in book.trials))
    files = " and ".join(f"`book/results/{name}.json`" for name in TRIALS)
    return f"{len(book.trials)} trials, {total} of training in all: {files}."


def masks_worth(book: Book) -> str:
    """The label budget's sentence and table for the opening page; a note where it is not run."""
    stored = book.results.get(budget.STUDY.name)
    if stored is None:
        return "*What a mask is worth in labels has not been measured yet.*"
    many = book.results.get(textbook.BOARDS)
    more = "" if many is None else f"\n\nWith {textbook.about(many)}: {textbook.gap_text(many)}"
    return (
        f"{budget.gain_text(stored.rows)}\n{budget.worth_text(stored.rows)}\n\n"
        f"{budget.budget_table(stored.rows)}{more}\n\n"
        "AUROC on tiles of circuit boards {cite:p}`tang2019online`, mean over draws of the "
        "labelled tiles with its 95 % interval; see [](../notebooks/15_your_own_data.ipynb)."
    )


def confounder(book: Book) -> str:
    """What chapter 03's study of board designs found; nothing where it is not run."""
    stored = book.results.get(boards.NAME)
    return "" if stored is None else boards_page.opening(stored.rows)


def new_types(book: Book) -> str:
    """What chapter 02 found with types left out of training; nothing where it is not run."""
    files = [book.results.get(name) for name in ("02_boards", "02_fine_tuned_types")]
    rows = [file.rows for file in files if file is not None]
    return contrast_page.opening(pd.concat(rows)) if len(rows) == len(files) else ""


FILLS: dict[str, Callable[[Book], str]] = {
    "headlines": headlines,
    "claims": claims,
    "verdict-words": lambda book: meanings(),
    "provenance": provenance,
    "commands": commands,
    "systems": systems,
    "tuning": tuning,
    "chapters": lambda book: chapter_map(book.root),
    "masks-worth": masks_worth,
    "confounder": confounder,
    "new-types": new_types,
    "get-code": lambda book: about.get_code(book.root),
    "cite": lambda book: about.cite(book.root),
    "card-figures": lambda book: model_card.figures(book.results),
    "card-training": lambda book: model_card.training(book.results),
    "card-light": lambda book: model_card.light(book.results),
    "card-command": lambda book: study_of(model_card.CARD).command,
}
"""By name."""
