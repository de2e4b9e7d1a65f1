"""Explanation: a map that shows which cells a score depends on, by five methods."""

from gainmtl.explanation.gradient import Explanation as Explanation
from gainmtl.explanation.gradient import Target as Target
from gainmtl.explanation.gradient import grad_cam as grad_cam
from gainmtl.explanation.gradient import grad_cam_plus_plus as grad_cam_plus_plus
from gainmtl.explanation.gradient import hires_cam as hires_cam
from gainmtl.explanation.methods import METHODS as METHODS
from gainmtl.explanation.methods import RandomisationCheck as RandomisationCheck
from gainmtl.explanation.methods import explain as explain
from gainmtl.explanation.methods import randomisation_check as randomisation_check
from gainmtl.explanation.perturbation import score_cam as score_cam
