"""What the compared systems are worth: folds as result rows, and where a page has them from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainbook.lab import results_file as runs
from gainbook.lab.comparison import compare, pooled_rows
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled, pool
from gainbook.lab.run_system import run
from gainbook.lab.systems import System
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.files import read_json


def merge(pooled: Sequence[Pooled], seeds: Sequence[int]) -> Pooled:
    """The runs of several seeds as one: each image as often as there are seeds, its group kept.

    Intervals stay as wide as the number of groups makes them; more seeds only steady the figure.
    """
    if len(pooled) == 1:
        return pooled[0]
    parts = [
        run.scores._replace(
            images=run.scores.images.assign(name=run.scores.images["name"] + f", seed {seed}")
        )
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    return pooled[0]._replace(
        folds=parts,
        scores=pool(parts),
        histories=pd.concat(
            [run.histories.assign(seed=seed) for run, seed in zip(pooled, seeds, strict=True)]
        ),
        commits=tuple(dict.fromkeys(commit for run in pooled for commit in run.commits)),
        seconds=sum(run.seconds for run in pooled),
        model_paths=tuple(path for run in pooled for path in run.model_paths),
    )


def result_rows(
    pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str, resamples: int = 2000
) -> pd.DataFrame:
    """One set of rows per seed and fold, and one pooled over both with intervals over groups."""
    by_fold = [
        pooled_rows(run, dataset, seed, resamples=0)
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    whole = pooled_rows(merge(pooled, seeds), dataset, seeds[0], resamples)
    parts = [rows[rows["fold"].notna()] for rows in by_fold] + [whole[whole["fold"].isna()]]
    first = pooled[0]
    parts.append(
        wrong_reason(
            merge(pooled, seeds).scores,
            {"dataset": dataset, "split": "test", "system": first.system},
            first.condition,
            resamples,
        )
    )
    return pd.concat(parts, ignore_index=True)


def wrong_reason(
    scores: Scores, shared: dict[str, Any], condition: dict[str, Any], resamples: int = 2000
) -> pd.DataFrame:
    """Rows `wrong_reason`: of the defects found, the share whose map peaks beside the mask.

    `1 - mean(PointGame)` over defective images with a mask that are flagged: right answer, wrong
    reason. The oracle's row says in how many of the same images the grid leaves no choice.
    """
    images = scores.images
    found = images["is_flagged"].astype(bool) & images["is_defective"] & images["has_mask"]
    rows = []
    for source in ("cam", "defect_map", "oracle"):
        if f"{source}.point_game" not in images.columns:
            continue  # a system without that map
        missed = 1 - images.loc[found, f"{source}.point_game"].to_numpy(float)
        groups = images.loc[found, "group"].to_numpy()
        keep = ~np.isnan(missed)
        if not keep.any():
            continue
        interval = bootstrap_interval(np.mean, groups[keep], missed[keep], resamples=resamples)
        rows.append(
            shared
            | {
                "condition": {**condition, **({"oracle": True} if source == "oracle" else {})},
                "map": "cam" if source == "oracle" else source,
                "seed": None,
                "fold": None,
                "metric": "wrong_reason",
                "value": interval.value,
                **interval.ends,
            }
        )
    return pd.DataFrame(rows)


class Results(NamedTuple):
    """What a chapter says about real parts, and where it has it from."""

    rows: pd.DataFrame | None
    """Result rows; `None` where nobody has run them yet."""
    note: str
    """One paragraph of Markdown: which run the figures are from, or how to make them."""
    pooled: dict[str, list[Pooled]]
    """By system tag, one per seed; empty where stored rows were read."""


def results(
    parameters: Parameters,
    systems: Sequence[System],
    pairs: Sequence[tuple[System, System]] = (),
) -> Results:
    """Run `systems` on the parameters' data set, or read what the book comes with.

    With `dataset="synthetic"` the committed reference results of this notebook are read.
    `pairs` are compared on the same images, first minus second.
    """
    p = parameters
    if p.dataset != "synthetic":
        pooled = {system.tag: run(p, system) for system in systems}
        parts = [result_rows(one, p.seeds, p.dataset) for one in pooled.values()]
        for a, b in pairs:
            first, second = (merge(pooled[system.tag], p.seeds) for system in (a, b))
            parts.append(compare(first, second, p.dataset).drop(columns="p_value"))
        return Results(pd.concat(parts, ignore_index=True), own_note(p), pooled)
    return stored_results(p.notebook)


def own_note(parameters: Parameters) -> str:
    """The note of figures that the run itself made."""
    p = parameters
    return (
        f"The figures below come from **the run in front of you**: {p.dataset}, folds: "
        f"{p.folds}, seeds: {', '.join(map(str, p.seeds))}, {p.backbone}, {p.image_size} px, "
        f"{p.epochs} epochs."
    )


def stored(
    name: str,
    made_by: str,
    about: Callable[[runs.ResultsFile], str],
    repeat: str,
    absent: str,
) -> Results:
    """The committed results `book/results/<name>.json`, or a note on how to make them.

    Args:
        made_by: the run or study that they are from.
        about: what that was like, from the file; ends up in the note.
        repeat: what makes them, in Markdown.
        absent: says that there are none.
    """
    try:
        found = runs.reference(name)
    except FileNotFoundError:
        return Results(None, f"{absent} This makes them:\n\n{repeat}", {})
    note = (
        f"The figures below come from **{made_by}**, `book/results/{name}.json`: {about(found)}. "
        f"This repeats it:\n\n{repeat}"
    )
    rows = found.rows
    if "dataset" in found.parameters:
        # The file may also hold the chapter's live part, which is about other data.
        rows = rows[rows["dataset"] == found.parameters["dataset"]]
    return Results(rows, note, {})


def stored_results(
    name: str, repeat: str = "", absent: str = "There are **no reference results yet**."
) -> Results:
    """`stored` results of a reference run; without `repeat`, `command` makes them."""
    repeat = repeat or command(name, _as_it_was(name))
    return stored(name, "the reference run", _conditions, repeat, absent)


def _conditions(found: runs.ResultsFile) -> str:
    given = found.parameters
    return (
        f"{given['dataset']}, folds: {given['folds']}, seeds: {as_text(given['seeds'])}, "
        f"{given['backbone']}, {given['image_size']} px, {given['epochs']} epochs, trained at "
        f"commit {as_text(found.provenance['trained_at_commits'])}"
    )


def tried(name: str = "tuning") -> list[dict[str, Any]]:
    """The trials before the reference run, as `tools/tune.py` left them; none if it never ran."""
    try:
        return list(read_json(runs.results_file(name)))
    except FileNotFoundError:
        return []


def as_text(value: Any) -> str:
    """A figure or name, or several separated by commas; commits shortened."""
    many = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(one)[:10] for one in many)


PROFILES = {
    "03_exposure_shift": "components",
    "05_attention": "components",
    "06_guided_attention": "components",
    "07_localization": "components",
    "09_staging_study": "components",
    "10_leave_one_out": "components",
    "10_leaking_split": "components",
    "11_six_approaches": "components",
    "12_cam_fostering": "components",
    "13_reverse_distillation": "anomaly",
    "13_swap_study": "anomaly",
}
"""Reference runs that have another profile than `standard`."""
STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "03_exposure_shift": ("03_right_answer_wrong_reason", {"real_part": "exposures"}),
    "09_staging_study": ("09_staged_training", {"real_part": "staging"}),
    "10_ablation": ("10_ablation", {"part": "ladder"}),
    "10_leave_one_out": ("10_ablation", {"part": "leave_one_out"}),
    "10_leaking_split": ("10_ablation", {"part": "leaking"}),
    "10_copy_paste": ("10_ablation", {"part": "copy_paste"}),
    "13_swap_study": (
        "13_reverse_distillation",
        {"teachers": "runs/teachers", "other_teachers": "runs/fewer-epochs"},
    ),
}
"""Reference runs that are one part of a chapter: by results file, notebook and parameters."""
WRITTEN = {"13_swap_study": "swap_study.json"}
"""What a run leaves in its folder, by results file, where it is not `results.json`."""

FULLER = {
    "05_attention": ("-p unguided true", "the attention that no mask teaches"),
    "08_counterfactual": ("-p without_term true", "S5 without the term"),
    "12_cam_fostering": (
        "-p more true -p abn_rounds 3",
        "what the sweep alone does not need: the other two measures, few masks, the six classes, "
        "and an attention branch network in up to three rounds of the epochs",
    ),
}
"""Parameters of a fuller run, by results file, and what it trains besides."""


def _as_it_was(name: str) -> str:
    """The parameters of the fuller run, if the stored results are of one; else nothing."""
    words = FULLER.get(name, ("", ""))[0].split()
    try:
        given = runs.reference(name).parameters
    except FileNotFoundError:
        return ""
    wanted = dict(zip(words[1::3], words[2::3], strict=True))
    same = all(str(given.get(key)).lower() == value for key, value in wanted.items())
    return " ".join(words) if same else ""


def command(name: str, fuller: str = "") -> str:
    """What makes the reference results `book/results/<name>.json`, in Markdown.

    `fuller` are more parameters as they are written, see `FULLER`.
    """
    profile = PROFILES.get(name, "standard")
    notebook, given = STUDIES.get(name, (name, {}))
    more = "".join(f" -p {key} {value}" for key, value in given.items())
    more += f" {fuller}" if fuller else ""
    folder = "runs/reference" if profile == "standard" else f"runs/{profile}"
    return (
        "```bash\n"
        f"papermill notebooks/{notebook}.ipynb out.ipynb "
        f"-f notebooks/profiles/{profile}.yaml{more} \\\n"
        f"    -p data_root path/to/magnetic-tile -p output_dir {folder}\n"
        f"cp {folder}/{WRITTEN.get(name, 'results.json')} book/results/{name}.json\n"
        "```"
    )
