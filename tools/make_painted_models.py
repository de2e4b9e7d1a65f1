"""Train and export the four networks that run in the page of chapter 16.

python tools/make_painted_models.py

About 16 minutes of processor time. S1 and S5 are each trained twice on synthetic parts with a
printed mark: once the mark is unrelated to the defects, once every defective part has it. Writes an
ONNX file of at most 1 MB each to `book/models`, and `models.json` with recipe and test figures.
"""

from __future__ import annotations

import argparse

import torch
from gainbook.chapters.ch16_explorer import networks
from gainbook.lab.results_file import git_commit

from gainmtl.files import read_json, write_json


def main() -> None:
    """Train, export and describe the networks that have no file yet."""
    parser = argparse.ArgumentParser(description="Train the networks of chapter 16's page.")
    parser.add_argument("--epochs", type=int, default=networks.EPOCHS)
    parser.add_argument("--images", type=int, default=networks.IMAGES)
    args = parser.parse_args()
    torch.set_num_threads(1)
    description = networks.FOLDER / networks.DESCRIPTION
    found = read_json(description) if description.is_file() else {}
    for network in networks.NETWORKS:
        if network.name in found and network.file.is_file():
            continue
        found[network.name] = {
            **networks.train(network, args.images, args.epochs),
            "git_commit": git_commit(),
            "command": "python tools/make_painted_models.py",
        }
        write_json(description, found)
        print(network.name, found[network.name]["test"], flush=True)


if __name__ == "__main__":
    main()
