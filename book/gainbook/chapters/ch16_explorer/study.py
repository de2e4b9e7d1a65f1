"""Chapter 16, the explorer: it has no stored study and judges no claim."""

from __future__ import annotations

from gainbook.lab.catalogue import S1_FINE, S5

SYSTEMS = (S1_FINE, S5)
"""What the synthetic parts are shown to; the live parts of other chapters train them, too."""
