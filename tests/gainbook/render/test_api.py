"""The reference pages: what they list, and docstrings that stay what they are in Markdown."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
from gainbook import ROOT
from gainbook.render import api

import gainmtl

SOURCES = {
    "gainmtl/__init__.py": '"""Models."""\nfrom gainmtl.parts import Part as Part, cut as cut\n',
    "gainmtl/files.py": '"""Files."""\nLONG = "' + "x" * 200 + '"\n"""A long text."""\n'
    'SHORT: int = 3\n"""A number."""\nBARE = 4\n',
    "gainmtl/parts/__init__.py": '"""Parts."""\nfrom gainmtl.parts.saw import cut as cut\n'
    "from gainmtl.parts.shapes import Part as Part\n",
    "gainmtl/parts/saw.py": '"""Sawing."""\n\n'
    'def cut(part: Part, /, *, at: float = 0.5) -> tuple[Part, Part]:\n    """Cut it at |x| = a*b.'
    '\n\n    Args:\n        at: share of\n            the `length`.\n\n    Raises:\n'
    '        ValueError: a share above 1.\n    """\n\n'
    'def _private() -> None:\n    """Hidden."""\n\ndef bare() -> None:\n    pass\n',
    "gainmtl/parts/shapes.py": '"""Shapes."""\n\nclass Part(NamedTuple):\n    """A part."""\n\n'
    '    width: int\n    """In pixels."""\n    name: str = ""\n\n    @property\n'
    '    def area(self) -> float:\n        """In square pixels."""\n\n    @classmethod\n'
    '    def read(cls, path: str) -> Part:\n        """From a file."""\n',
    "book/gainbook/__init__.py": '"""The book."""\n',
    "book/gainbook/lab.py": '"""Runs.\n\nAnd more of them.\n"""\n',
}  # fmt: skip


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, str]:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return api.api_pages(tmp_path)


def test_one_page_per_package_and_an_overview(pages: dict[str, str]) -> None:
    assert list(pages) == ["api.md", "api/gainmtl.md", "api/gainmtl.parts.md"]
    overview = pages["api.md"]
    assert "| {py:class}`Part <gainmtl.parts.shapes.Part>` | A part. |" in overview
    assert r"| {py:func}`cut <gainmtl.parts.saw.cut>` | Cut it at \|x\| = a\*b. |" in overview
    assert "- [](api/gainmtl.parts.md): Parts." in overview
    assert "`gainbook.lab`\n: Runs." in overview
    assert "And more" not in overview
    assert "{py:module} gainbook.lab" in overview


def test_names_without_a_docstring_and_private_ones_are_left_out(pages: dict[str, str]) -> None:
    text = "".join(pages.values())
    assert "bare" not in text
    assert "BARE" not in text
    assert "_private" not in text


def test_a_function_has_its_signature_and_sections(pages: dict[str, str]) -> None:
    block = pages["api/gainmtl.parts.md"].split("{py:function} ")[1].split("::::")[0]
    assert block.startswith("cut(part: Part, /, *, at: float=0.5) -> tuple[Part, Part]\n")
    assert r"Cut it at \|x\| = a\*b." in block
    assert "*Args:*\n\n- **at**: share of the `length`." in block
    assert "*Raises:*\n\n- **ValueError**: a share above 1." in block


def test_a_class_has_its_fields_and_members(pages: dict[str, str]) -> None:
    text = pages["api/gainmtl.parts.md"]
    assert "{py:class} Part(width: int, name: str = '')" in text
    assert ":::{py:attribute} width\n:type: int\n\nIn pixels." in text
    assert ":::{py:property} area\n:type: float\n" in text
    assert ":::{py:method} read(path: str) -> Part\n:classmethod:\n" in text


def test_long_constants_are_elided(pages: dict[str, str]) -> None:
    text = pages["api/gainmtl.md"]
    assert "{py:data} LONG\n:value: ...\n" in text
    assert "{py:data} SHORT\n:type: int\n:value: 3\n" in text
    assert max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|P and M| over *all*", r"\|P and M\| over \*all\*"),
        ("a list of `Sample`s (2*h)", r"a list of `Sample`s (2\*h)"),
        ("`a * b`, a_b and [0, 1]", r"`a * b`, a\_b and \[0, 1\]"),
        ("one `a\n  b` span", "one `a b` span"),
        ("see https://a.org/x_y.", "see https://a.org/x_y."),
        ("1. is no list", r"1\. is no list"),
        ("1 everywhere", "1 everywhere"),
        ("- x", r"\- x"),
    ],
)
def test_docstrings_are_plain_text(text: str, expected: str) -> None:
    assert api.escape(text) == expected


def test_an_indented_block_keeps_its_lines() -> None:
    assert api.describe("So:\n\n    a  one\n    b  two") == "So:\n\n```text\na  one\nb  two\n```"


def test_a_list_stays_a_list() -> None:
    assert (
        api.describe("Two:\n\n- `a`: one,\n  still one.\n- b")
        == "Two:\n\n- `a`: one, still one.\n- b"
    )


def test_every_module_of_the_core_is_on_one_page() -> None:
    text = "\n".join(api.api_pages(ROOT).values())
    listed = re.findall(r"\{py:module\} (gainmtl\S*)", text)
    modules = pkgutil.walk_packages(gainmtl.__path__, "gainmtl.")
    assert sorted(listed) == sorted(["gainmtl", *(module.name for module in modules)])
