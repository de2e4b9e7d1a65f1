"""Chapter 15, your own data: label budget, inner folds. A run on own images judges no claim."""

from gainbook.chapters.ch15_own_data import budget, thresholds
from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import Study

STUDIES: tuple[Study | SeedStudy, ...] = (budget.STUDY, thresholds.STUDY)
