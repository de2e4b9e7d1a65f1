"""The next batch as an HTML list with thumbnails, and a round's result in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gainbook.chapters.ch14_active.methods import METHODS
from gainbook.chapters.ch14_active.own_labels import Labels
from gainbook.chapters.ch14_active.own_round import Images, Round
from gainmtl.datasets.images import read_image
from gainmtl.report import html

SIDE = 220
"""Longer side of a thumbnail in pixels."""
MOST_DOUBTS = 5


def thumbnail(path: Path) -> str:
    """An image file as a small data URI."""
    image = Image.fromarray(np.asarray(read_image(path).permute(1, 2, 0)))
    image.thumbnail((SIDE, SIDE))
    return html.embedded(np.asarray(image))


def cards(images: Images, entries: Sequence[tuple[str, str]]) -> str:
    """Images with a text each."""
    return (
        '<div class="cards">'
        + "".join(
            f'<figure class="card"><img src="{thumbnail(images.root / name)}" '
            f'alt="{html.text(name)}" loading="lazy"><figcaption><b>{html.text(name)}</b>'
            f"{html.text(words)}</figcaption></figure>"
            for name, words in entries
        )
        + "</div>"
    )


def listing(images: Images, labels: Labels, found: Round, labels_file: str) -> str:
    """The page of the images to label and of the labels to check."""
    waiting = found.batch or labels.open
    guesses = {}
    if found.predictions is not None:
        guesses = {
            one["image"]: f"predicted: {one['predicted']}, {one['probability']:.2f}"
            for one in found.predictions.to_dict("records")
        }
    title = f"{len(waiting)} images to label"
    body = [
        f"<h1>{html.text(title)}</h1>",
        html.paragraph(
            f"Write the class of each image into the column label of {labels_file}, or skip, and "
            "run the notebook again."
        ),
    ]
    if found.classes:
        body.append(html.paragraph(f"Classes so far: {', '.join(found.classes)}."))
    if not waiting:
        body.append(html.paragraph("Every image has a label."))
    body.append(cards(images, [(name, guesses.get(name, "")) for name in waiting]))
    if len(found.doubtful):
        entries = [
            (one["image"], f"labelled: {one['label']}; predicted: {one['predicted']}")
            for one in found.doubtful.to_dict("records")
        ]
        words = "Heads trained without these images contradict their labels. Are they right?"
        body.append(
            html.section("check", "Labels to check", html.paragraph(words), cards(images, entries))
        )
    return html.page(title, body)


def sentences(images: Images, labels: Labels, found: Round, labels_file: str) -> list[str]:
    """The result of a round in sentences, and what to do next."""
    lines = list(labels.notes)
    total = len(images.names)
    lines.append(
        f"{len(labels.known)} of {total} images have a label, in {len(found.classes)} classes"
        + (f": {', '.join(found.classes)}." if found.classes else ".")
    )
    if len(found.classes) == 1:
        lines.append("A head needs two classes; the next batch is chosen without one.")
    if found.checked is not None:
        figures = found.figures()
        lines.append(
            f"Cross-validated on the labelled images: accuracy {figures['accuracy']:.2f}, macro F1 "
            f"{figures['macro_f1']:.2f}. Images that a method chooses are not typical of the rest, "
            "so this is no estimate for all images. Compare it between rounds."
        )
    if len(found.doubtful):
        shown = [
            f"{one['image']} is labelled {one['label']!r}, predicted {one['predicted']!r}"
            for one in found.doubtful.head(MOST_DOUBTS).to_dict("records")
        ]
        more = len(found.doubtful) - len(shown)
        lines.append(
            f"Check these labels, the most doubtful first: {'; '.join(shown)}"
            + (f"; and {more} more, see next_batch.html" if more else "")
            + ". Heads trained without these images contradict them. A head may be wrong; correct "
            f"the label in {labels_file} only if it is."
        )
    if found.batch:
        lines.append(
            f"{len(found.batch)} images are next, chosen by {METHODS[found.used].label}: they are "
            f"new rows of {labels_file}, and next_batch.html shows them."
        )
    elif not labels.open:
        lines.append("No image is left to choose.")
    return lines
