"""The settings of the synthetic parts, checked when they are set."""

from __future__ import annotations

from dataclasses import dataclass

from gainmtl.datasets.annotation import MASK_QUALITIES
from gainmtl.datasets.checks import chosen, number, whole
from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.datasets.synthetic.textures import TEXTURES


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of the synthetic parts. Those "for training" leave validation and test unchanged.

    Raises:
        ValueError: an impossible value; names the setting, the expected and the actual value.
    """

    image_size: int = 128
    """Pixels per side, 32 to 1024."""
    seed: int = 0
    """Non-negative. Sample i of a split depends only on the seed, the split and i."""
    train: int = 256
    """Number of training images."""
    val: int = 64
    test: int = 128
    views: int = 1
    """Images per part. They are consecutive, share a group and differ only in light and noise."""
    textures: tuple[str, ...] = tuple(TEXTURES)
    defect_types: tuple[str, ...] = tuple(DEFECTS)
    unseen_defect_types: tuple[str, ...] = ()
    """Types among `defect_types` that occur in the test split only."""
    defect_rate: float = 0.5
    """Share of defective parts."""
    train_defect_rate: float | None = None
    """Share of defective parts in the training split, if it differs; 0 for anomaly detection."""
    defect_size: float = 1.0
    """Factor on the defects' length and width, 0.25 to 4."""
    defect_contrast: float = 1.0
    """Factor on the defects' change of brightness, 0.1 to 3."""
    label_noise: float = 0.0
    """Share of training labels that are flipped, 0 to 0.5. A normal part labelled defective has
    no mask; a defective part labelled normal has an empty mask, as every normal part."""
    contamination: float = 0.0
    """Share of the training parts labelled normal that have a defect, 0 to 0.5."""
    mask_fraction: float = 1.0
    """Share of defective training parts that have a mask."""
    mask_quality: str = "exact"
    """Training masks: "exact", "dilated" (grown in every direction), or "box" (bounding box)."""
    shortcut: float | None = None
    """Probability that a printed mark, which is no defect, agrees with the true state of the part
    (mark on defective parts, no mark on normal ones) in training and validation: 1 always, 0.5
    independent of the state. None: no part has a mark."""
    shortcut_test: float = 0.5
    """The same probability in the test split; used only if `shortcut` is set. 0: always wrong."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("image_size", 32, 1024),
            ("seed", 0, 2**63),
            ("train", 1, 10**7),
            ("val", 1, 10**7),
            ("test", 1, 10**7),
            ("views", 1, 1000),
        ):
            self._set(name, whole(name, getattr(self, name), least, most))
        for name, known in (("textures", TEXTURES), ("defect_types", DEFECTS)):
            self._set(name, chosen(name, getattr(self, name), known))
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one of {', '.join(known)}, got none.")
        unseen = chosen("unseen_defect_types", self.unseen_defect_types, self.defect_types)
        self._set("unseen_defect_types", unseen)
        if len(unseen) == len(self.defect_types):
            raise ValueError(
                "unseen_defect_types: expected at least one of defect_types to stay for training,"
                f" got all of them ({', '.join(unseen)}). Remove one."
            )
        for name, low, high in (
            ("defect_rate", 0, 1),
            ("train_defect_rate", 0, 1),
            ("defect_size", 0.25, 4),
            ("defect_contrast", 0.1, 3),
            ("label_noise", 0, 0.5),
            ("contamination", 0, 0.5),
            ("mask_fraction", 0, 1),
            ("shortcut", 0, 1),
            ("shortcut_test", 0, 1),
        ):
            optional = name in ("train_defect_rate", "shortcut")
            if getattr(self, name) is not None or not optional:
                self._set(name, number(name, getattr(self, name), low, high))
        if self.mask_quality not in MASK_QUALITIES:
            raise ValueError(
                f"mask_quality: expected one of {', '.join(MASK_QUALITIES)}, "
                f"got {self.mask_quality!r}."
            )

    def _set(self, name: str, value: object) -> None:
        # Stores NumPy numbers and lists as plain numbers and tuples; the dataclass is frozen.
        object.__setattr__(self, name, value)
