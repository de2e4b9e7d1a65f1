"""Tables and sentences of chapter 01's page, from rows made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch01_models import analysis, page
from gainbook.chapters.ch01_models.blocks import PLACES, BlockCost
from gainbook.chapters.ch01_models.measure import DATASET, METRICS, block_rows
from gainbook.chapters.ch01_models.networks import SUBJECTS
from gainbook.lab.results_file import check_rows, row
from gainbook.lab.tables import Value

VARIANTS = analysis.VARIANTS


def selection(table: str, name: str, cost: str = "cost") -> list[dict[str, Any]]:
    """`name` wins every variant, 0.69 points above the line."""
    return [
        row(DATASET, name, metric, value, condition=analysis.about(table, cost, *variant))
        for variant in VARIANTS
        for metric, value in (("wins", 1.0), ("residual", 0.69))
    ]


def timed() -> list[dict[str, Any]]:
    """The k-th network takes 10 k ms at 224 px and 100 k ms at 512 px."""
    return [
        row(DATASET, tag, metric, (place + 1) * side, condition={"image_size": image}, n=3)
        for place, tag in enumerate(SUBJECTS)
        for metric in METRICS
        for image, side in ((224, 10), (512, 100))
    ]


def rows(*parts: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(check_rows([one for part in parts for one in part]))


PICKS = [
    *selection("seed", "TinyViT"),
    *selection("seed", "B6.weights", "cpu_ms"),
    *selection("paper", "EfficientAD-S"),
    *selection("rerun", "PatchCore R18"),
]


def test_the_headline_names_winners_and_times() -> None:
    lines = page.headline(rows(PICKS, timed()))
    assert lines[0].startswith("- **Classifier**: TinyViT, +0.69 points above the line.")
    assert lines[0].endswith("the rule picks B6.")
    assert "EfficientAD-S by the authors' figures, PatchCore R18 by those" in lines[1]
    small, large = (100 * (1 + list(SUBJECTS).index(tag)) for tag in
                    ("efficientad-s", "rd-wide_resnet50_2"))  # fmt: skip
    assert f"({small:.1f} M parameters) takes {small:,} ms" in lines[2]
    assert f"({large:.1f} M) {large:,} ms" in lines[2]


def test_without_timings_the_headline_is_shorter_and_without_a_selection_there_is_none() -> None:
    assert len(page.headline(rows(PICKS))) == 2
    with pytest.raises(LookupError):
        page.headline(rows(selection("seed", "TinyViT")))


def test_winners_are_short_names_and_none_where_nobody_wins() -> None:
    lost = [one | {"value": 0.0} for one in selection("rerun", "B") if one["metric"] == "wins"]
    table = page.winners_table(
        rows(selection("seed", "a.weights"), lost), {"seed": ("cost", "gpu_ms"), "rerun": ("cost",)}
    )
    _, _, first, second = table.split("\n")
    assert first.endswith("| million parameters | a | a | a | a |")
    assert second.endswith("| million parameters | none | none | none | none |")


@pytest.mark.parametrize("family", ["classifier", "detector"])
def test_networks_are_listed_by_time(family: str) -> None:
    lines = page.networks_table(rows(timed()), family).split("\n")[2:]
    tags = [tag for tag, one in SUBJECTS.items() if one.family == family]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == tags
    place = 1 + list(SUBJECTS).index(tags[0])
    assert lines[0].split(" | ")[1:3] == [f"{100 * place:.1f}", f"{10 * place}"]


def test_the_order_of_networks_is_a_rank_correlation() -> None:
    """Parameters rise with time by `timed`; the two fastest detectors then change their sizes."""
    assert "1.00 for the 8 classifiers and 1.00 for the 10 detectors" in page.order_text(
        rows(timed())
    )
    table = rows(timed())
    first, second = [tag for tag, one in SUBJECTS.items() if one.family == "detector"][:2]
    sizes = (table["metric"] == "million_parameters") & (
        table["condition"].map(lambda c: c["image_size"]) == 512
    )
    swapped = table["system"].where(~sizes, table["system"].replace({first: second, second: first}))
    text = page.order_text(table.assign(system=swapped))
    assert "1.00 for the 8 classifiers and 0.99 for the 10 detectors" in text  # 1 - 6 · 2 / 990


def test_a_correlation_has_its_interval() -> None:
    found = [
        row(DATASET, count, "rank_correlation", 0.5, ci_low=0.25, ci_high=0.75, n=9,
            condition={"with": times})
        for count in page.COUNTS
        for times in analysis.TIMES
    ]  # fmt: skip
    lines = page.correlation_table(rows(found)).split("\n")[2:]
    assert lines[0] == "| parameters" + 3 * " | 0.50 [0.25, 0.75]" + " |"
    assert len(lines) == len(page.COUNTS)


def test_shares_are_the_largest_first() -> None:
    condition = {**analysis.about("paper", "cost", *VARIANTS[0]), "error": 0.0}
    found = [
        row(DATASET, name, "win_share", share, condition=condition, n=100)
        for name, share in (("a", 0.125), ("b.x", 0.5), ("c", 0.25), ("d", 0.0625))
    ]
    (line,) = (one for one in page.shares_table(rows(found)).split("\n") if "b 0.50" in one)
    assert "| b 0.50, c 0.25, a 0.12 | – | – | – |" in line


def test_the_sentence_of_shares_has_the_lowest_and_the_highest() -> None:
    places = [("seed", 0.0, 0.75), ("seed", analysis.TOP1_ERROR, 0.5), ("paper", 0.0, 0.25),
              ("rerun", 0.0, 0.125)]  # fmt: skip
    found = [
        row(DATASET, name, "win_share", share * factor, n=100,
            condition={**analysis.about(table, "cost", *variant), "error": error})
        for table, error, share in places
        for k, variant in enumerate(VARIANTS)
        for name, factor in (("often", 1 - 0.1 * k), ("seldom", 0.5))
    ]  # fmt: skip
    text = page.shares_text(rows(found))
    assert "35% and more for the plan's classifiers, 18% for the detectors" in text
    assert "12% at most under strict dominance and 10% under weak dominance" in text


def test_every_block_has_its_sentence() -> None:
    exact = Value(0.2)
    costs = [BlockCost(p, Value(k + 1.5, k + 1.25, k + 1.75, 15), exact, exact)
             for k, p in enumerate(PLACES)]  # fmt: skip
    lines = page.blocks_text(rows(block_rows(costs))).split("\n")
    assert lines[0].startswith("- 48 channels, 75 x 75 cells (fused in EfficientNetV2-S): MBConv")
    assert "**1.50 [1.25, 1.75]** times" in lines[0]
    assert "(not fused there)" in lines[2]
    assert "**3.50 [3.25, 3.75]**" in lines[2]


def test_detectors_differ_as_the_frozen_table_has_it() -> None:
    text = page.detectors_text()
    assert "from -6.2 (STFPM R18) to +0.1 (Dinomaly-B)" in text
    assert "| STFPM R18 | 5.6 | 95.5 | not read | 89.3 | -6.2 |" in page.detectors_table()
