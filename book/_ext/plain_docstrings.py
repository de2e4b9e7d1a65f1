"""Sphinx extension: docstrings are plain text with `names` in backticks, not reStructuredText.

Its marks (`*` for emphasis, `|` for substitutions, `_` for links) are signs of mathematics in ours.
"""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"(``.+?``|`[^`]+`)")


def plain(line: str) -> str:
    """`line` with the marks outside of backticks escaped, and "`Sample`s" allowed."""
    parts = CODE.split(line)
    parts[::2] = [re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    # A closing backtick must be followed by a space or punctuation, an opening one preceded.
    joined = parts[0]
    for code, text in zip(parts[1::2], parts[2::2], strict=True):
        before = r"\ " if joined[-1:].isalnum() else ""
        joined += before + code + (r"\ " if text[:1].isalnum() else "") + text
    return joined


def escape(app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Event `autodoc-process-docstring`. A span over two lines is joined, so that it is seen."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()  # Python's own words for a field that we left undescribed
    text = re.sub(r"`[^`\n]*\n[^`\n]*`", lambda m: re.sub(r"\s+", " ", m[0]), "\n".join(lines))
    lines[:] = [plain(line) for line in text.split("\n")]


def setup(app: Any) -> dict[str, bool]:
    """Before napoleon (priority 500), which turns the Args section into marks that are meant."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    return {"parallel_read_safe": True}
