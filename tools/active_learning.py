"""Run the comparison of chapter 14 on one data set and write its results file.

python tools/active_learning.py deep-pcb --data-root path/to/deep-pcb --output-dir runs/active

The features of the frozen backbone are computed first and kept in `runs/active/features`. Every
run, a method with a seed, leaves a file that is rewritten after each round; started again, only
what is missing runs. `--tune` trains heads with several weight decays on random labels of the pool
and prints their macro F1 on the validation part, from which `head.DECAY` was chosen. `--fine-tune`
runs the smaller check, in which every round also trains the backbone.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from gainbook.chapters.ch14_active import finetune, study
from gainbook.chapters.ch14_active.finetune import FineTuning
from gainbook.chapters.ch14_active.loop import Plan, Problem, figures, first_rows, run
from gainbook.chapters.ch14_active.summary import PLANS, Summary, read_runs
from gainbook.chapters.ch14_active.tasks import SETTINGS, encode_split, feature_folder, split_of
from gainbook.lab.head import DECAY, fit_head
from gainbook.lab.results_file import provenance, write_results

from gainmtl.backbone import Backbone

BACKBONE = "tf_efficientnet_lite0"
DECAYS = (0.003, 0.01, 0.03, 0.1, 0.3)


def compare_decays(problem: Problem, seeds: Sequence[int]) -> None:
    """Print the macro F1 on validation of random labels, by number of labels and decay."""
    x, labels = problem.features, problem.parts["pool"].labels
    setting, classes = problem.setting, len(problem.classes)
    whole = setting.batch * setting.rounds
    for more, decay in itertools.product((0, whole // 3, whole), DECAYS):
        found = []
        for seed in seeds:
            first = first_rows(labels, classes, setting.first, seed)
            rest = np.random.default_rng(seed).permutation(
                np.setdiff1d(np.arange(len(labels)), first)
            )
            rows = np.concatenate([first, rest[:more]])
            head = fit_head(x["pool"][rows], labels[rows], classes, decay)
            found.append(figures(head, x["val"], problem.parts["val"].labels)["macro_f1"])
        print(f"{len(first) + more} labels, decay {decay}: {np.mean(found):.3f}", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Compute features, run, summarise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("dataset", choices=SETTINGS)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/active"))
    parser.add_argument("--weights", default="package", help="see gainmtl.backbone.Backbone")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="compare weight decays, then stop")
    parser.add_argument(
        "--fine-tune", action="store_true", help="train the backbone too, every round; deep-pcb"
    )
    options = parser.parse_args(words)
    if options.fine_tune and (options.tune or options.dataset not in finetune.SETTINGS):
        parser.error(f"--fine-tune: expected one of {', '.join(finetune.SETTINGS)}, no --tune")
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    tuned = options.fine_tune
    known = study.TUNED if tuned else study.ALL[options.dataset]
    setting = (finetune.SETTINGS if tuned else SETTINGS)[options.dataset]
    plans = [Plan(method) for method in finetune.METHODS] if tuned else PLANS
    seeds = options.seeds or list(study.TUNED_SEEDS if tuned else study.SEEDS)
    split = split_of(options.dataset, options.data_root, setting.image_size)
    backbone = Backbone(BACKBONE, options.weights)
    runs = options.output_dir / f"{options.dataset}{'-fine-tuned' if tuned else ''}"
    if not tuned:
        folder = feature_folder(options.output_dir, options.dataset, backbone, setting.image_size)
        problem = Problem(split.classes, encode_split(split, backbone, folder), setting)
        if options.tune:
            compare_decays(problem, seeds)
            return
    for seed in seeds:
        learn = None
        if tuned:
            learn = FineTuning(split, setting, BACKBONE, options.weights, seed)
            problem = learn.problem
        for plan in plans:
            before = time.monotonic()
            rounds = run(problem, plan, seed, runs / f"{plan.tag}-{seed}.json", learn)
            seconds = time.monotonic() - before
            last = rounds[-1]["figures"]["macro_f1"]
            print(f"{plan.tag}, seed {seed}: macro F1 {last:.3f}, {seconds:.0f} s", flush=True)
    rows = Summary(options.dataset, read_runs(runs, plans, seeds), plans).rows()
    parameters = {
        "dataset": options.dataset, "seeds": seeds, "backbone": BACKBONE,
        "weights": options.weights, "image_size": setting.image_size,
        **({"steps": finetune.STEPS} if tuned else {"decay": DECAY}),
        "first": setting.first, "batch": setting.batch, "rounds": setting.rounds,
        "pool": len(split.pool.rows), "classes": list(split.classes),
    }  # fmt: skip
    facts = provenance(
        parameters,
        time.monotonic() - started,
        split.fingerprint,
        command=known.made_by.splitlines()[0],
        counts={name: np.bincount(part.labels, minlength=len(split.classes)).tolist()
                for name, part in zip(("pool", "val", "test"), split[2:5], strict=True)},
        initial_weights=backbone.initial_weights,
    )  # fmt: skip
    path = write_results(
        runs, notebook=study.NOTEBOOK, parameters=parameters, provenance=facts, rows=rows
    )
    print(f"{len(rows)} rows in {path}")


if __name__ == "__main__":
    main()
