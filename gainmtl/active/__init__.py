"""Active learning: which images of a pool to label next.

A score (N,) ranks the pool, and `highest` takes the first of it; a batch chooser returns rows. All
are pure functions of arrays: probabilities (N, K), features (N, D), maps (N, h, w).
"""

from gainmtl.active.activation import score_with_masks as score_with_masks
from gainmtl.active.activation import score_without_masks as score_without_masks
from gainmtl.active.balance import class_balanced as class_balanced
from gainmtl.active.balance import highest_by_class as highest_by_class
from gainmtl.active.balance import uniform as uniform
from gainmtl.active.diversity import badge as badge
from gainmtl.active.diversity import core_set as core_set
from gainmtl.active.diversity import typiclust as typiclust
from gainmtl.active.uncertainty import bald as bald
from gainmtl.active.uncertainty import entropy as entropy
from gainmtl.active.uncertainty import highest as highest
from gainmtl.active.uncertainty import margin as margin
