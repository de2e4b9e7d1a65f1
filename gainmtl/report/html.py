"""HTML parts of the report page: one self-contained file, for light and dark, wide and narrow."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from gainmtl.report.overlays import Pixels

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1d2329; --soft: #5b6670;
  --line: #dcdfe2; --card: #ffffff; --bad: #c2255c; --good: #1971a8; --bar: #e9ecef; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --ink: #e8eaed; --soft: #a3adb6;
  --line: #333b43; --card: #1c2227; --bad: #ff7aa2; --good: #6cb8f0; --bar: #2a3138; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .5rem 0; }
a { color: var(--good); }
.soft, figcaption, caption, small { color: var(--soft); }
.lead { font-size: 1.12rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr));
  gap: .8rem; margin: 1.4rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; }
.tile small { display: block; line-height: 1.4; margin-top: .15rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; padding: .35rem 1.1rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; }
th small { display: block; font-weight: 400; max-width: 34rem; line-height: 1.35; }
.scroll:focus-visible { outline: 2px solid var(--good); }
td.n, th.n { text-align: right; white-space: nowrap; }
td.text { min-width: 14rem; color: var(--soft); }
.right { color: var(--good); font-weight: 600; } .wrong { color: var(--bad); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr));
  gap: 1rem; margin: 1rem 0; }
.card { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem; break-inside: avoid; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; align-items: start; }
.pair img { width: 100%; height: auto; max-height: 22rem; object-fit: contain;
  border-radius: .3rem; display: block; background: var(--bar); }
.card b { overflow-wrap: anywhere; }
figcaption { font-size: .9rem; line-height: 1.45; margin-top: .55rem; }
figcaption b { color: var(--ink); display: block; }
.strip { margin: 1rem 0 1.4rem; max-width: 46rem; }
.strip .row { position: relative; margin: .6rem 0 0; }
.strip svg { display: block; width: 100%; height: 5rem; background: var(--bar);
  border-radius: .3rem; }
.axis { display: flex; justify-content: space-between; font-size: .85rem; color: var(--soft); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .9rem; align-items: center;
  color: var(--soft); }
.key i { display: inline-block; width: 1.1rem; height: .8rem; border-radius: .2rem;
  margin-right: .4rem; vertical-align: -.05rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media print { body { background: none; } nav { display: none; } }
"""
BARS = 50
"""Bins of a histogram."""
ZOOM = 0.2
"""If the range of all values is smaller than this, the histogram's axis shows only that range."""


class Card(NamedTuple):
    """One image of a gallery."""

    image: Pixels
    overlay: Pixels
    name: str
    text: str
    alt: str


def text(value: object) -> str:
    """`value` escaped for HTML; bytes of file names that are not valid UTF-8 become escapes."""
    clean = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(clean)


def page(title: str, body: Iterable[str]) -> str:
    """A complete page; the parts of `body` are HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def section(key: str, title: str, *body: str) -> str:
    """A section with the anchor `key`; the parts of `body` are HTML."""
    return f'<section id="{key}"><h2>{text(title)}</h2>\n' + "\n".join(body) + "</section>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is its CSS class."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def tile(value: str, label: str, note: str) -> str:
    """One number in large type, with a label and a note."""
    return (
        f'<div class="tile"><b>{text(value)}</b><span>{text(label)}</span>'
        f"<small>{text(note)}</small></div>"
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table. The first column has the names of the rows: a text, or a pair (text, explanation).

    Columns of numbers are right-aligned.
    """
    rows = [list(row) for row in rows]
    numeric = [
        all(isinstance(row[i], int | float) or _figure(row[i]) for row in rows)
        for i in range(len(head))
    ]
    lines = []
    for row in rows:
        name, note = row[0] if isinstance(row[0], tuple) else (row[0], None)
        explained = f"<small>{text(note)}</small>" if note else ""
        cells = [f'<th scope="row">{text(name)}{explained}</th>']
        for value, right in zip(row[1:], numeric[1:], strict=True):
            long = isinstance(value, str) and len(value) > 30
            kind = ' class="n"' if right else ' class="text"' if long else ""
            cells.append(f"<td{kind}>{text(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    titles = "".join(
        f'<th scope="col"{" class=n" if right and i else ""}>{text(name)}</th>'
        for i, (name, right) in enumerate(zip(head, numeric, strict=True))
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(value: object) -> bool:
    return isinstance(value, str) and (value == "–" or value[:1].isdigit() or value[:1] == ".")


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` decimals, or a dash if it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(low: float, high: float) -> str:
    """An interval, or a dash if it is undefined."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"


def histograms(rows: Sequence[tuple[str, ArrayLike, str]], thresholds: Sequence[float]) -> str:
    """Histograms of probabilities over one axis, with the thresholds as lines.

    The axis is 0 to 1, or the range of the values if it is smaller than `ZOOM`. Bars are relative
    to the tallest bar of their row.

    Args:
        rows: per row its label, values (N,) and CSS colour.
    """
    shown = np.concatenate(
        [*(np.asarray(values, dtype=float) for _, values, _ in rows), thresholds]
    )
    low, high = float(shown.min()), float(shown.max())
    margin = max(1e-6, 0.1 * (high - low))
    low, high = (0.0, 1.0) if high - low > ZOOM else (low - margin, high + margin)
    at = [BARS * (t - low) / (high - low) for t in thresholds]
    lines = "".join(
        f'<line x1="{x:.3f}" x2="{x:.3f}" y1="0" y2="100" stroke="currentColor" '
        'stroke-width="2" stroke-dasharray="5 4" vector-effect="non-scaling-stroke"/>'
        for x in at
    )
    parts = []
    for label, values, colour in rows:
        counts, _ = np.histogram(np.asarray(values, dtype=float), bins=BARS, range=(low, high))
        tallest = max(1, int(counts.max()))
        bars = "".join(
            f'<rect x="{i}" y="{100 - height:.1f}" width="0.9" height="{height:.1f}"/>'
            for i, count in enumerate(counts)
            # A single image among hundreds must stay visible.
            for height in [max(4.0, 94 * count / tallest)]
            if count
        )
        alt = f"Histogram of the defect probability of {label}; tallest bar {tallest} images."
        parts.append(
            f'<div class="row"><small>{text(label)}</small><svg role="img" viewBox="0 0 {BARS} 100"'
            f' preserveAspectRatio="none" aria-label="{text(alt)}"><g fill="{colour}">{bars}</g>'
            f"{lines}</svg></div>"
        )
    ticks = "".join(f"<span>{tick:.4g}</span>" for tick in np.linspace(low, high, 5))
    marks = ", ".join(f"{t:.4g}" for t in thresholds)
    return (
        f'<div class="strip">{"".join(parts)}<div class="axis" aria-hidden="true">{ticks}</div>'
        f"<small>Defect probability; dashed: the threshold, {marks}.</small></div>"
    )


def gallery(cards: Iterable[Card]) -> str:
    """Pairs of image and overlay, with captions."""
    return (
        '<div class="cards">'
        + "".join(
            f'<figure class="card"><div class="pair">'
            f'<img src="{embedded(card.image)}" alt="{text(card.alt)}" loading="lazy">'
            f'<img src="{embedded(card.overlay)}" loading="lazy" '
            f'alt="{text(card.alt)}, with its defect map">'
            f"</div><figcaption><b>{text(card.name)}</b>{text(card.text)}</figcaption></figure>"
            for card in cards
        )
        + "</div>"
    )


def embedded(pixels: Pixels) -> str:
    """The image as a data URI, so that the page needs no other file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
