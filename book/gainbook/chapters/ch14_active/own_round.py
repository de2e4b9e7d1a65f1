"""One round on one's own images: read the labels, train, predict, choose the next batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.chapters.ch14_active.features import VIEWS, Array, Levels, cached, encode, pooled
from gainbook.chapters.ch14_active.methods import METHODS, Pool, Rows
from gainbook.chapters.ch14_active.own_labels import Labels
from gainbook.chapters.ch14_active.tasks import feature_folder
from gainbook.lab.head import fit_head
from gainmtl import active, metrics
from gainmtl.backbone import Backbone
from gainmtl.datasets.images import file_stamp, read_image
from gainmtl.datasets.records import GROUPS_FILE, Record, apply_groups_file, walk_images
from gainmtl.datasets.transforms import resize_pair
from gainmtl.types import NORMAL

FOLDS = 5
DOUBT = 0.05
"""A label is doubted if a head trained without it gives its class a lower probability."""
FIRST = "typiclust"
"""The method of the first batch, when no label exists: it needs none."""


class Images(NamedTuple):
    """The images of a folder."""

    root: Path
    names: tuple[str, ...]
    """Relative to `root`, with slashes."""
    groups: tuple[str, ...]
    """The part on each image, from groups.csv; else each image is its own."""

    def read(self, row: int, size: int) -> Any:
        """(3, size, size) in [0, 1], squashed to a square."""
        pixels = read_image(self.root / self.names[row])
        return resize_pair(pixels, None, size)[0].float() / 255


def find_images(root: str | Path) -> Images:
    """All images below a folder; those below masks/ are left out.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: a groups.csv that lacks an image.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"data_root: expected a folder of images, {root} is none")
    paths = [p for p in walk_images(root) if p.relative_to(root).parts[0] != "masks"]
    names = [p.relative_to(root).as_posix() for p in paths]
    if not names:
        raise FileNotFoundError(f"data_root: expected images in {root}, found none")
    records = [
        Record(p, None, False, NORMAL, None, n, n) for p, n in zip(paths, names, strict=True)
    ]
    if (root / GROUPS_FILE).is_file():
        records = apply_groups_file(records, root, root) or records
    return Images(root, tuple(names), tuple(r.group for r in records))


def encode_images(
    images: Images, backbone: Backbone, image_size: int, folder: Path, views: Sequence[str]
) -> dict[str, Levels]:
    """Feature maps by view, kept in `folder` until an image changes."""
    place = feature_folder(folder, "own", backbone, image_size)
    rows = range(len(images.names))
    stamps = [
        hashlib.sha256(repr(file_stamp(images.root / name)[1:]).encode()).hexdigest()[:16] + name
        for name in images.names
    ]

    def maker(view: str) -> Callable[[], Levels]:
        return lambda: encode(backbone, (images.read(i, image_size) for i in rows), view)

    return {view: cached(place / f"{view}.npz", maker(view), stamps) for view in views}


def views_of(method: str) -> tuple[str, ...]:
    """The views that a method needs."""
    return VIEWS if "activation" in method else VIEWS[:1]


class Round(NamedTuple):
    """The results of a round."""

    classes: tuple[str, ...]
    predictions: pd.DataFrame | None
    """One line per image without a label: `image`, `predicted`, `probability`; `None` while fewer
    than two classes have a label."""
    checked: pd.DataFrame | None
    """One line per labelled image, by heads trained without its group: `image`, `label`,
    `predicted`, `probability` of the label; `None` with fewer than two groups of some class."""
    batch: tuple[str, ...]
    """The images to label next; empty while labels are open, or when all have one."""
    used: str
    """The method that chose them."""

    @property
    def doubtful(self) -> pd.DataFrame:
        """Labelled images whose label may be wrong, most doubtful first."""
        if self.checked is None:
            return pd.DataFrame(columns=["image", "label", "predicted", "probability"])
        table = self.checked
        wrong = table[(table["probability"] < DOUBT) & (table["predicted"] != table["label"])]
        return wrong.sort_values("probability")

    def figures(self) -> dict[str, float]:
        """Cross-validated accuracy and macro F1 on the labelled images."""
        if self.checked is None:
            return {}
        pair = self.checked["predicted"], self.checked["label"]
        return {"accuracy": metrics.class_accuracy(*pair), "macro_f1": metrics.macro_f1(*pair)}


def play_round(
    images: Images, labels: Labels, levels: dict[str, Levels], method: str, budget: int, seed: int
) -> Round:
    """Train on the labels, predict the other images and choose the next batch.

    Args:
        images, levels: of the same folder.
        labels: of these images.
        method: a method without masks; `FIRST` is used while fewer than two classes have a label.
        budget: images of the next batch; fewer if fewer are left.
        seed: of random choices.
    """
    row_of = {name: row for row, name in enumerate(images.names)}
    features = pooled(levels[VIEWS[0]])
    centre, scale = features.mean(0), features.std(0) + 1e-6
    x = (features - centre) / scale
    classes = labels.classes
    labelled = np.array([row_of[name] for name in labels.known], dtype=np.int64)
    codes = np.array([classes.index(c) for c in labels.known.values()], dtype=np.int64)
    named = {*labels.known, *labels.skipped, *labels.open}
    free = np.array([r for name, r in row_of.items() if name not in named], dtype=np.int64)
    rng = np.random.default_rng([seed, len(named)])
    wanted = 0 if labels.open else min(budget, len(free))
    if len(classes) < 2:
        rows = active.typiclust(x[free], x[labelled], wanted, rng)
        return Round(classes, None, None, _names(images, free[rows]), FIRST)
    head = fit_head(x[labelled], codes, len(classes))
    p = head.probabilities(x)
    rest = np.array([r for name, r in row_of.items() if name not in labels.known], dtype=np.int64)
    predictions = pd.DataFrame(
        {
            "image": [images.names[r] for r in rest],
            "predicted": [classes[c] for c in p[rest].argmax(1)],
            "probability": p[rest].max(1),
        }
    )
    chosen: Rows = np.empty(0, dtype=np.int64)
    if wanted:
        pool = Pool(
            head, x[free], lambda view: levels[view].take(free), centre, scale, None,
            (x[labelled], codes), rng,
        )  # fmt: skip
        chosen = free[METHODS[method].choose(pool, wanted)]
    groups = [images.groups[r] for r in labelled]
    checked = cross_checked(x[labelled], codes, groups, len(classes))
    table = None
    if checked is not None:
        table = pd.DataFrame(
            {
                "image": list(labels.known),
                "label": list(labels.known.values()),
                "predicted": [classes[c] for c in checked.argmax(1)],
                "probability": checked[np.arange(len(codes)), codes],
            }
        )
    return Round(classes, predictions, table, _names(images, chosen), method)


def cross_checked(
    x: Array, codes: Rows, groups: Sequence[str], classes: int
) -> NDArray[np.float64] | None:
    """(M, K) probabilities of each labelled image by a head trained without its group.

    `None` unless every class has images of two groups: else some head would lack a class.
    """
    names, place = np.unique(np.array(groups), return_inverse=True)
    if min(len(set(place[codes == c].tolist())) for c in range(classes)) < 2:
        return None
    # Groups go round the folds class by class, so that no fold has all of a class.
    order = sorted(range(len(names)), key=lambda g: (int(codes[place == g].min()), names[g]))
    fold_of = np.empty(len(names), dtype=np.int64)
    fold_of[order] = np.arange(len(names)) % min(FOLDS, len(names))
    fold = fold_of[place]
    found = np.zeros((len(codes), classes))
    for f in np.unique(fold):
        head = fit_head(x[fold != f], codes[fold != f], classes)
        found[fold == f] = head.probabilities(x[fold == f])
    return found


def _names(images: Images, rows: Rows) -> tuple[str, ...]:
    return tuple(images.names[r] for r in rows.tolist())
