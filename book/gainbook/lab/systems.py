"""Every system by the name of its folder: what the single-run notebook and the sweeps ask for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from gainbook.chapters.ch10_ablation import ladder as ablation
from gainbook.chapters.ch12_fostering import fostered
from gainbook.lab import components, reference
from gainbook.lab.reference import System
from gainmtl.strategies import get_strategy

KNOWN: dict[str, System] = {
    value.tag: value
    for module in (ablation, fostered, reference, components)
    for value in vars(module).values()
    if isinstance(value, System)
}
"""The systems that have a constant, by tag; where two modules name one, the last one's label."""
KNOWN[ablation.S4.tag] = ablation.S4

_N = r"(\d[\d.]*(?:e[+-]?\d+)?)"
"""A number as `:g` writes it."""
_SPREAD = r"(ce|ca|cd)"


def _layer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _fostered(measure: str, beta: str, layer: str | None, mean: str | None) -> System:
    plain = components.AVERAGED if mean else components.PLAIN
    return fostered.fostered(float(beta), measure, _layer(layer), plain)


def _branch(beta: str, epochs: str | None) -> System:
    return fostered.fostered_branch(float(beta), int(epochs or 1), 1)


FAMILIES: dict[str, Callable[..., System]] = {
    rf"GAIN-masks{_N}-draw(\d+)": lambda share, draw: components.with_share(
        float(share), int(draw)
    ),
    r"GAIN-(dilated|box)": components.with_quality,
    rf"S1-fostered-{_SPREAD}{_N}(?:-layer(\d+))?(-mean)?": _fostered,
    rf"GAIN-fostered-ce{_N}-masks{_N}-draw(\d+)": lambda beta, share, draw: (
        fostered.fostered_with_share(float(beta), float(share), int(draw))
    ),
    r"S1-types-mean": lambda: fostered.fostered_types(0.0),
    rf"S1-types-fostered-ce{_N}-mean": lambda beta: fostered.fostered_types(float(beta)),
    r"attention-branch-epochs(\d+)": lambda epochs: fostered.branch(int(epochs), 1),
    rf"attention-branch-fostered-ce{_N}(?:-epochs(\d+))?": _branch,
}
"""Systems by what they vary: the name before `-stride4`, and what makes the system of its parts."""


def find_system(tag: str) -> System:
    """A system by its tag: one of `KNOWN`, of `FAMILIES` with any numbers, or
    `"<strategy>-stride<pixels>"` for any strategy that `get_strategy` knows, as `"S3-stride8"`.

    Raises:
        ValueError: none of them.
    """
    if tag in KNOWN:
        return KNOWN[tag]
    name, _, stride = tag.rpartition("-stride")
    for pattern, make in FAMILIES.items():
        found = re.fullmatch(pattern, name) if stride == "4" else None
        if found is not None:
            system = make(*found.groups())
            if system.tag != tag:
                raise ValueError(f"system: {tag!r} goes by the name of {system.tag!r}")
            return system
    if not name or not stride.isdigit():
        near = difflib.get_close_matches(tag, KNOWN, 3) or sorted(KNOWN)
        raise ValueError(
            f"system: expected a name as S4-stride4 or one of {', '.join(near)}, got {tag!r}"
        )
    strategy = get_strategy(name)
    return System(tag, strategy.name, int(stride), f"{strategy.name}, stride {stride}")
