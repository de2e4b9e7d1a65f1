"""Tables of the page from known rows: every figure is one of the rows, and gaps read "not run"."""

from __future__ import annotations

import pandas as pd
import pytest
from gainbook.chapters.ch02_contrast import page
from gainbook.chapters.ch02_contrast.crossing import BANK, PROBE
from gainbook.chapters.ch02_contrast.draws import BOARDS, TILES
from gainbook.lab.catalogue import S5
from gainbook.lab.study import Results

from .conftest import figure_rows

Rows = dict[str, pd.DataFrame]


def test_the_curves_have_every_arm_and_number_in_order(rows: Rows) -> None:
    table = page.count_table(rows)
    assert list(dict.fromkeys(table["x"])) == ["0", "1", "2", "5", "10", "25", "40"]
    assert set(table["panel"]) == {"circuit boards", "magnetic tiles"}
    probe = table[(table["series"] == PROBE.label) & (table["x"] == "5")]
    assert probe["value"].tolist() == pytest.approx([0.4, 0.4])


def test_minutes_grow_with_the_number_of_defects(rows: Rows) -> None:
    table = page.minute_table({BOARDS: rows[BOARDS]})
    probe = table[table["series"] == PROBE.label]["x"]
    assert probe.is_monotonic_increasing
    assert table[table["series"] == BANK.label]["value"].nunique() == 1


def test_tables_name_what_was_not_run(rows: Rows) -> None:
    side = {"side": 1024}
    more = [
        row for arm in (PROBE, BANK) for row in figure_rows(TILES, arm.tag, "auroc", 0.5, **side)
    ]
    given = {**rows, TILES: pd.concat([rows[TILES], pd.DataFrame(more)], ignore_index=True)}
    assert "| circuit boards | linear probe | not run |" in page.side_table(given)
    assert (
        "| magnetic tiles | memory bank | not run | not run | not run | 0.50 "
        in page.side_table(given)
    )
    assert "0.40 [0.38, 0.42] at 0.40" in page.contamination_table(rows)
    assert page.look_table(rows).count("| linear probe |") == 2


def test_crossings_and_costs_are_in_words(rows: Rows) -> None:
    assert "| circuit boards | linear probe | 10 [10, 10]" in page.crossing_table(rows)
    assert "2.5 times the detector's labelling" in page.cost_text(rows)
    assert page.tuned_lead(rows) == ""


def test_types_and_sizes(rows: Rows) -> None:
    assert "| magnetic tiles | linear probe | 0.60 " in page.type_table(rows)
    assert "−" not in page.type_table(rows)
    assert "-0.30 [-0.30, -0.30]" in page.type_table(rows)
    assert set(page.each_type(rows[TILES])["category"]) == {"crack"}
    assert "linear probe" in page.each_type_words(rows[TILES], "Recall")
    assert "nan" not in page.each_type_words(rows[TILES], "Recall")
    assert len(page.pixel_table(rows)) == 2 * 2 * 3 * 3


def test_doublings_are_ordered_by_pixels_and_paired(rows: Rows) -> None:
    """From 128 to 256 nothing is gained, from 256 to 512 the recall rises from 0.3 to 0.9."""
    steps = page.doublings({BOARDS: rows[BOARDS]})
    assert [round(one.before, 1) for one in steps] == [6.4, 12.8, 12.8, 25.6, 25.6, 51.2]
    gains = [one.gains[PROBE].value for one in steps]
    assert sorted(gains) == pytest.approx([0, 0, 0, 0.6, 0.6, 0.6])
    assert "| 51 to 102 | circuit boards | large | +0.60 [+0.60, +0.60] |" in page.doubling_table(
        rows
    )
    text = page.rule_text({BOARDS: rows[BOARDS]})
    assert "below 8 pixels a side, 0 of 1 doublings" in text
    assert "from there on, 3 of 5 doublings raise the probe's recall by 0.05 or more" in text
    assert "**+0.36** on average" in text


def test_every_situation_has_an_arm_for_each_set(rows: Rows) -> None:
    lines = page.decision_table(rows).splitlines()
    assert len(lines) == 3 + len(page.SITUATIONS)
    assert lines[2].startswith("| no defective part | memory bank 0.50 ")
    frames = page.decision_frames(rows)
    assert len(frames) == 25
    assert "linear probe" in set(frames["5", "50%"].table["category"])
    assert frames["25", "0%"].title == "25 defective parts, 0% of the defects new"


def test_the_first_screen_has_figures_and_survives_their_absence(rows: Rows) -> None:
    assert "reaches the bank with **10 [10, 10]**" in page.answer(rows)[0]
    assert page.answer({}) == ["There are no stored results yet."]


def test_rows_of_the_boards_and_the_fine_tuned_are_joined_without_copies(rows: Rows) -> None:
    tuned = rows[BOARDS].assign(system="textbook")
    both = pd.concat([tuned, rows[BOARDS]], ignore_index=True)
    given = {
        "02_boards": Results(rows[BOARDS], "", {}),
        "02_tiles": Results(None, "", {}),
        "02_fine_tuned": Results(both, "", {}),
    }
    found = page.rows_by_set(given)
    assert set(found) == {BOARDS}
    assert len(found[BOARDS]) == 2 * len(rows[BOARDS])


def test_fine_tuned_systems_join_the_first_screen(rows: Rows) -> None:
    probe = rows[BOARDS][rows[BOARDS]["system"] == PROBE.tag]
    conditions = [{**c, **S5.condition} for c in probe["condition"]]
    tuned = probe.assign(system=S5.name, condition=conditions, value=probe["value"] + 0.3)
    both = pd.concat([rows[BOARDS], tuned], ignore_index=True)
    assert f"| circuit boards | {S5.label} |" in page.type_table({BOARDS: both})
    assert S5.label in set(page.each_type(both)["series"])
    found = page.decision_frames({BOARDS: both})
    assert S5.label in set(found["25", "50%"].table["category"])
    text = page.opening(both)
    assert "It finds 0.60 [" in text
    assert "The better of two detectors, memory bank, finds 0.50 [" in text
    assert "difference +0.10 [+0.10, +0.10]" in text
    lead = page.tuned_lead({BOARDS: both, TILES: rows[TILES]})
    assert lead.startswith(
        "On the circuit boards, fine-tuned with 1, 2, 5, 10, 25 and 40 defective"
    )
    assert " S5 has 0.50 [" in lead
    assert "magnetic" not in lead


def test_label_times_have_a_source() -> None:
    assert page.label_table().count("papadopoulos") == 2
