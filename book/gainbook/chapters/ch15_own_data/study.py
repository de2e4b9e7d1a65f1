"""Chapter 15, your own data: a run on the reader's images judges no claim and stores no results."""

from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import Study

STUDIES: tuple[Study | SeedStudy, ...] = ()
