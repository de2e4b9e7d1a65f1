"""The inspection report on your own images: verdict table, overlays and one HTML page."""

from gainmtl.report.cases import Case as Case
from gainmtl.report.cases import cases_in as cases_in
from gainmtl.report.cases import cases_of as cases_of
from gainmtl.report.overlays import Picture as Picture
from gainmtl.report.overlays import fit_to as fit_to
from gainmtl.report.overlays import overlay as overlay
from gainmtl.report.page import threshold_rule as threshold_rule
from gainmtl.report.page import write_report as write_report
from gainmtl.report.verdicts import verdict_table as verdict_table
from gainmtl.report.verdicts import write_verdicts as write_verdicts
