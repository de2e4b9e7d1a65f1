"""Chapter 15, your own data: the label budget. A run on the reader's images judges no claim."""

from gainbook.chapters.ch15_own_data.budget import STUDY
from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import Study

STUDIES: tuple[Study | SeedStudy, ...] = (STUDY,)
