"""One set of terms, several orders: when the terms of a strategy enter a run."""

from __future__ import annotations

import dataclasses

from gainmtl.strategies import ALWAYS, Strategy, Window, get_strategy

STAGINGS = ("staged", "unstaged", "reversed", "no-warm-up")
"""As the strategy has it; everything from the start; last first; the same starts without ramps."""


def with_stages(strategy: str | Strategy, staging: str) -> Strategy:
    """A strategy with the same terms and weights, which enter by another plan of `STAGINGS`.

    - `"staged"`: the strategy itself.
    - `"unstaged"`: every term at its full weight from the first step.
    - `"reversed"`: what was complete last is complete first. A term that reached its full weight
      at `f` now does at `f_max - f`, with as much of its warm-up as there is room for.
    - `"no-warm-up"`: every term starts where it did, at its full weight.

    Named `<name>-<staging>`, but for `"staged"`.

    Raises:
        ValueError: an unknown plan, or a strategy that has no stages to change.
    """
    base = get_strategy(strategy)
    if staging not in STAGINGS:
        raise ValueError(f"staging: expected one of {', '.join(STAGINGS)}, got {staging!r}")
    if staging == "staged":
        return base
    if not base.staged or not base.windows:
        raise ValueError(f"staging: {base.name} has no stages, every term is on from the start")
    windows = dict(base.windows)
    if staging == "unstaged":
        windows = {}
    elif staging == "no-warm-up":
        windows = {term: Window(window.start) for term, window in windows.items()}
    else:
        last = max(window.full for window in windows.values())
        windows = {}
        for term in base.weights.active():
            own = dict(base.windows).get(term, ALWAYS)
            # Rounded, or the difference of two shares misses the epoch by a hair.
            full = round(last - own.full, 9)
            start = max(0.0, round(full - own.warm_up, 9))
            windows[term] = Window(start, round(full - start, 9))
    kept = tuple((term, window) for term, window in windows.items() if window != ALWAYS)
    return dataclasses.replace(base, name=f"{base.name}-{staging}", windows=kept, staged=bool(kept))
