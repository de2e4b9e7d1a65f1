"""What the book around gainmtl is made with: experiments, studies of the chapters, pages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that holds the book."""
