"""A question put to the models of every fold about that fold's test images, with cached answers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import gainmtl
from gainbook.lab.measures import Measure, measure_rows, paired_rows, pairs_among
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import name_weights
from gainbook.lab.run_system import load_fold
from gainbook.lab.systems import AnySystem
from gainmtl.datasets import Data
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.files import plain, read_json, write_json
from gainmtl.interface import DefectModel
from gainmtl.io import load

Ask = Callable[..., dict[str, pd.DataFrame]]
"""(models by name, images, **arguments) to a table per model, one row per image, with the
columns `name` and `group`. A model that the question does not apply to may be left out."""
FOLDER = "answers"
"""Where answers are kept, below the `output_dir` of the run."""


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


CORE = _digest(sorted(Path(gainmtl.__file__).parent.rglob("*.py")))
"""Of the core's sources. Computed on import: the checkout may move on while a long run goes on, and
the code that runs does not."""


def of_each(function: Callable[..., pd.DataFrame]) -> Ask:
    """A question about one model, `function(model, images, ...)`, as a question about several."""

    @functools.wraps(function)
    def ask(
        models: Mapping[str, DefectModel], dataset: Any, **arguments: Any
    ) -> dict[str, pd.DataFrame]:
        return {name: function(model, dataset, **arguments) for name, model in models.items()}

    return ask


@dataclasses.dataclass(frozen=True)
class Question:
    """What is measured on the test images of every fold beyond the verdict and the maps' overlap.

    Answers are cached by the models' files, the data, the arguments, and the sources of the core
    and of the module that defines `ask`; an edit elsewhere keeps them.
    """

    ask: Ask
    measures: Sequence[Measure] | Callable[[pd.DataFrame], Sequence[Measure]]
    """What of the answers becomes result rows; a function of the answers where columns vary."""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Keyword arguments of `ask`."""
    more: Callable[..., list[dict[str, Any]]] | None = None
    """`more(a, b, dataset, first, second, resamples)`: rows of a pair beyond its measures."""
    by_fold: bool = False
    """Also a row per fold and seed, without intervals."""
    systems: tuple[AnySystem, ...] = ()
    """The systems whose models are measured; all of the run's, where it is empty."""
    part: str = "test"
    """The images of each fold that `ask` gets: `"test"`, or `"val"`."""
    seeded: bool = False
    """Whether `ask` also gets the run's `seed`, for its random draws."""

    def __post_init__(self) -> None:
        asked = Path(inspect.getfile(inspect.unwrap(self.ask)))
        object.__setattr__(self, "code", CORE + _digest([asked]))

    @property
    def name(self) -> str:
        """Module and name of `ask`."""
        return f"{self.ask.__module__}.{self.ask.__qualname__}"

    @property
    def identity(self) -> dict[str, Any]:
        """What of the question must agree for kept answers to be read."""
        return {
            "question": self.name,
            "arguments": dict(self.arguments),
            "part": self.part,
            "code": self.code,  # type: ignore[attr-defined]
        }

    def _measures(self, table: pd.DataFrame) -> Sequence[Measure]:
        return self.measures(table) if callable(self.measures) else self.measures

    def rows(
        self,
        tables: Mapping[str, pd.DataFrame],
        systems: Sequence[AnySystem],
        pairs: Sequence[tuple[AnySystem, AnySystem]],
        dataset: str,
        resamples: int = 2000,
    ) -> list[dict[str, Any]]:
        """A row per system and measure, and one per pair and measure, from answers by tag."""
        rows: list[dict[str, Any]] = []
        for system in (s for s in systems if s.tag in tables):
            table = tables[system.tag]
            about = self._measures(table), dataset, system
            if self.by_fold:
                for (seed, fold), part in table.groupby(["seed", "fold"]):
                    rows += measure_rows(part, *about, 0, int(seed), int(fold))
            rows += measure_rows(table, *about, resamples)
        for a, b in pairs_among(tables, pairs):
            first, second = tables[a.tag], tables[b.tag]
            shared = self._measures(first)
            rows += paired_rows(first, second, shared, dataset, a, b, resamples)
            if self.more is not None:
                rows += self.more(first, second, dataset, a, b, resamples)
        return rows


def ask_folds(
    parameters: Parameters, pooled: Mapping[str, Sequence[Pooled]], question: Question
) -> dict[str, pd.DataFrame]:
    """The answers of all folds and seeds in one table per system, with columns `seed`, `fold`.

    `pooled` by system, one per seed. With several seeds an image occurs once per seed, in one
    group. Answers of a fold are kept, see `kept_answers`.
    """
    p = parameters
    only = {system.tag for system in question.systems} or set(pooled)
    pooled = {tag: runs for tag, runs in pooled.items() if tag in only}
    parts: dict[str, list[pd.DataFrame]] = {}
    for place, seed in enumerate(p.seeds):
        data_of = load_fold(p, seed)
        for fold in range(p.folds):
            paths = {name: runs[place].model_paths[fold] for name, runs in pooled.items()}
            data = data_of(fold)
            test, drawn = getattr(data, question.part), {"seed": seed} if question.seeded else {}

            def ask(
                paths: Mapping[str, Path] = paths,
                images: Any = test,
                drawn: Mapping[str, int] = drawn,
            ) -> Any:
                models = {name: load(path) for name, path in paths.items()}
                return question.ask(models, images, **question.arguments, **drawn)

            about = {**data_identity(data, fold), **question.identity, **drawn}
            for name, answers in kept_answers(p.output_dir, paths, about, ask).items():
                if len(p.seeds) > 1:
                    answers["name"] += f", seed {seed}"
                parts.setdefault(name, []).append(answers.assign(seed=seed, fold=fold))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def validation_scores(model: DefectModel, images: Any) -> pd.DataFrame:
    """One row per image: `name, group, is_defective` and the model's `defect_probability`."""
    probabilities, labels = defect_scores(model, images)
    return pd.DataFrame(
        {
            "name": list(images.names),
            "group": list(images.groups),
            "is_defective": labels,
            "defect_probability": probabilities,
        }
    )


VALIDATION = Question(of_each(validation_scores), (), part="val")
"""The verdicts on each fold's validation images, by the model that did not train on them."""


def data_identity(data: Data, fold: int) -> dict[str, Any]:
    """The data and the fold that a question is about."""
    resize = getattr(data.test, "resize", None)
    return {
        "data": data.fingerprint, "image_size": data.image_size, "resize": resize, "fold": fold,
    }  # fmt: skip


def kept_answers(
    output_dir: str | Path,
    paths: Mapping[str, Path],
    about: Mapping[str, Any],
    ask: Callable[[], dict[str, pd.DataFrame]],
) -> dict[str, pd.DataFrame]:
    """The result of `ask`, stored below `output_dir` and read the next time.

    Read only where the models' files at `paths` (weights, and the description beside them, which
    holds the threshold) and `about` are the same.
    """
    models = {
        name: [name_weights(str(file)) for file in sorted(path.parent.glob(f"{path.stem}.*"))]
        for name, path in paths.items()
    }
    identity = plain({"models": models, **about})
    digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:16]
    path = Path(output_dir) / FOLDER / f"{digest}.json"
    if path.is_file() and (stored := read_json(path))["identity"] == identity:
        return {
            name: pd.DataFrame(table["columns"]).astype(table["kinds"])
            for name, table in stored["answers"].items()
        }
    answers = ask()
    tables = {
        name: {"columns": table.to_dict("list"), "kinds": table.dtypes.astype(str).to_dict()}
        for name, table in answers.items()
    }
    write_json(path, {"identity": identity, "answers": tables})
    return answers
