"""Compared systems of other authors, on the same backbones and behind the same `fit`."""
