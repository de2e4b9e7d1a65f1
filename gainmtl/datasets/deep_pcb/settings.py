"""The settings of DeepPCB, checked when they are set."""

from __future__ import annotations

from dataclasses import dataclass

from gainmtl.datasets.checks import chosen, whole
from gainmtl.datasets.deep_pcb.pairs import Pair

NORMALS = ("tested", "template")
MASKS = ("pixels", "box")


@dataclass(frozen=True)
class PcbSettings:
    """Settings of DeepPCB; see `load`.

    Raises:
        ValueError: an impossible value; names the setting, the expected and the actual value.
    """

    tile: int = 128
    """Side of the square tiles in pixels; it divides the pictures' 640: 128 makes 5 x 5 tiles."""
    normals: str = "tested"
    """Pictures that the normal tiles of training and validation are cut from: "tested" or
    "template". The test part's are always from tested pictures, as in an inspection, and the places
    are the same with both: those that no box touches."""
    masks: str = "pixels"
    """"pixels": those that the defect changes (`tiles.changed_pixels`). "box": the boxes."""
    designs: tuple[str, ...] = ()
    """The designs that are used; empty: all. With `test_designs`: those of training."""
    test_designs: tuple[str, ...] = ()
    """The designs that are tested, all others being for training: boards never seen. One fold."""
    defective: int | None = None
    """Number of defective tiles for training *and* validation (`subsets.limit_labels`); None: all.
    Validation needs labels too: a budget of 30 has all 30 in these two parts."""
    normal: int | None = None
    """The same for the normal tiles."""
    test_tiles: int | None = None
    """Number of tiles in the test part (`subsets.limit_test`); None: all."""
    draw: int = 0
    """Seed of the draws of `defective`, `normal` and `test_tiles`; folds don't depend on it."""

    def __post_init__(self) -> None:
        for name, least in (("tile", 16), ("draw", 0)):
            whole(name, getattr(self, name), least, 2**31)
        for name in ("defective", "normal", "test_tiles"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 2, 2**31)
        for name, known in (("normals", NORMALS), ("masks", MASKS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}."
                )

    def pairs_of(self, pairs: list[Pair]) -> list[Pair]:
        """The pairs of the chosen designs.

        Raises:
            ValueError: an unknown design, one in both lists, or none that is left for training.
        """
        known = sorted({pair.design for pair in pairs})
        test = chosen("test_designs", self.test_designs, known)
        used = chosen("designs", self.designs, known) or tuple(d for d in known if d not in test)
        both = set(used) & set(test)
        if both:
            raise ValueError(
                f"designs: expected none of test_designs, got {', '.join(sorted(both))} in both. "
                "With test_designs, designs are those of training."
            )
        if not used:
            raise ValueError("test_designs: expected a design to stay for training, got all.")
        return [pair for pair in pairs if pair.design in {*used, *test}]
