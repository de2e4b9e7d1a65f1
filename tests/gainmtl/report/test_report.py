"""The verdict table, the map files and the report page."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gainmtl import GAINMTL, datasets
from gainmtl.datasets.images import read_image
from gainmtl.evaluation.scoring import score
from gainmtl.evaluation.tidy import tidy_rows
from gainmtl.report.cases import Case, cases_in, cases_of
from gainmtl.report.html import histograms, number, table, text
from gainmtl.report.overlays import (
    NAME_LENGTH,
    OUTLINE,
    Picture,
    file_stems,
    fit_to,
    map_pixels,
    overlay,
)
from gainmtl.report.page import _comparison, threshold_rule, write_report
from gainmtl.report.sections import mistakes
from gainmtl.report.verdicts import COLUMNS, verdict_table, write_verdicts


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5").eval()
    model.image_size = 32
    return model


def draw(path: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(40, 200, (size[1], size[0], 3), dtype=np.uint8)
    if mode == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)


def mark(path: Path, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve parts of several sizes and kinds of pixels; one mask is missing, one is empty."""
    root = tmp_path_factory.mktemp("Teile ä 불량")
    kinds = ["RGB", "L", "RGBA", "I;16", "P", "RGB"]
    for seed, split in ((0, "train"), (10, "test")):
        for k, mode in enumerate(kinds):
            label = "normal" if k < 3 else "defective"
            size = (40 + 7 * k, 60 - 4 * k)
            draw(root / "images" / split / label / f"Teil {k} ü.png", size, seed + k, mode)
            if k in (3, 4):
                box = (0, 0, 0, 0) if (split, k) == ("train", 4) else (4, 5, 20, 25)
                mark(root / "masks" / split / label / f"Teil {k} ü.png", size, box)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> datasets.Data:
    return datasets.load("folder", folder, image_size=32, validation=0.4)


@pytest.fixture(scope="module")
def judged(
    model: GAINMTL, data: datasets.Data, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Case], pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("report")
    cases = cases_of(data.test, "test") + cases_of(data.val, "val")
    return cases, verdict_table([model], cases, maps_dir=folder / "maps"), folder


def test_stems_are_unique_safe_and_readable() -> None:
    names = ["a/1.png", "a_1.jpg", "A/2.png", "a/2.png", "불량 1.png", "불량 2.png", "../x y*?.png"]
    stems = file_stems([*names, "\udcff.png", f"{'long' * 60}.png", f"{'long' * 60}2.png"])
    assert len({stem.casefold() for stem in stems}) == len(stems)
    assert all(re.fullmatch(r"[\w.-]+", stem) and len(stem) <= NAME_LENGTH for stem in stems)
    assert not any(stem.startswith(".") for stem in stems)
    assert stems[4] == "불량_1"
    assert stems[:4] == file_stems(names)[:4]
    assert file_stems(["images/test/7.png"]) == ["images_test_7"]


def test_a_dark_map_stays_dark() -> None:
    assert map_pixels(np.array([[0.0, 0.02], [0.5, 1.0]], np.float32)).tolist() == [
        [0, 5],
        [128, 255],
    ]


def test_overlay_leaves_what_the_map_does_not_mark() -> None:
    pixels = np.full((40, 60, 3), 120, np.uint8)
    value = np.zeros((40, 60), np.float32)
    value[10:20, 30:40] = 1.0
    mask = np.zeros((40, 60), bool)
    mask[30, 50] = True
    drawn = overlay(Picture(pixels, value, mask), peak=False)
    assert (drawn[:5] == 120).all()
    assert (drawn[12:18, 32:38, 0] > drawn[12:18, 32:38, 2] + 60).all()
    assert (drawn[30, 50] == 120).all()  # the defect itself stays visible
    assert tuple(drawn[30, 51]) == OUTLINE
    assert (overlay(Picture(pixels, np.zeros_like(value), None), peak=False) == 120).all()


def test_peak_is_drawn_at_the_highest_value() -> None:
    pixels, value = np.full((40, 60, 3), 120, np.uint8), np.zeros((40, 60), np.float32)
    value[39, 0] = 0.2
    drawn = overlay(Picture(pixels, value, None))
    assert (drawn[39, 0] == 255).all()
    assert (drawn[:20] == 120).all()


@pytest.mark.parametrize("side", [24, 320])
def test_fit_to_keeps_proportions_and_the_smallest_defect(side: int) -> None:
    mask = torch.zeros(1, 50, 100, dtype=torch.bool)
    mask[0, 7, 80] = True
    picture = fit_to(torch.zeros(3, 50, 100, dtype=torch.uint8), np.zeros((50, 100)), mask, side)
    assert picture.pixels.shape == (side // 2, side, 3)
    assert picture.defect_map.shape == (side // 2, side)
    assert picture.mask is not None
    assert picture.mask.any()


def test_one_row_per_image_with_what_is_known(judged, data, model) -> None:
    cases, verdicts, _ = judged
    assert list(verdicts.columns) == list(COLUMNS)
    assert verdicts["name"].tolist() == [*data.test.names, *data.val.names]
    assert set(verdicts["split"]) == {"test", "val"}
    assert (verdicts["threshold"] == model.threshold).all()
    assert ((verdicts["defect_probability"] >= 0.5) == (verdicts["verdict"] == "defective")).all()
    expected = {
        ("defective", "defective"): "hit",
        ("defective", "normal"): "miss",
        ("normal", "defective"): "false alarm",
        ("normal", "normal"): "right rejection",
    }
    pairs = zip(verdicts["true_label"], verdicts["verdict"], strict=True)
    assert verdicts["outcome"].tolist() == [expected[pair] for pair in pairs]
    for case, (_, row) in zip(cases, verdicts.iterrows(), strict=True):
        assert (row["height"], row["width"]) == case.read().shape[1:]
        assert pd.isna(row["has_mask"]) == (not case.is_defective)
        assert np.isnan(row["peak_to_mask"]) == (case.read_mask() is None)


def test_verdicts_are_those_of_the_evaluation(judged, data, model) -> None:
    _, verdicts, _ = judged
    images = score(model, data.test).images
    test = verdicts[verdicts["split"] == "test"]
    assert test["name"].tolist() == images["name"].tolist()
    np.testing.assert_allclose(test["defect_probability"], images["defect_probability"], rtol=0)


def test_a_mask_changes_no_verdict(folder: Path, model: GAINMTL, data: datasets.Data) -> None:
    cases = cases_of(data.test, "test")
    blind = [case._replace(read_mask=lambda: None) for case in cases]
    answers = ["defect_probability", "verdict", "peak_row", "peak_column", "defect_area"]
    pd.testing.assert_frame_equal(
        verdict_table([model], cases)[answers], verdict_table([model], blind)[answers]
    )


def test_maps_have_the_size_of_the_image_and_the_values_of_the_model(judged, model) -> None:
    cases, verdicts, folder = judged
    assert verdicts["map_file"].is_unique
    for case, (_, row) in zip(cases, verdicts.iterrows(), strict=True):
        stored = np.asarray(Image.open(folder / row["map_file"]))
        assert stored.shape == tuple(case.read().shape[1:])
        assert stored.max() == round(255 * row["peak"])
        assert stored[row["peak_row"], row["peak_column"]] == stored.max()
        assert ((stored >= 127.5).mean() - row["defect_area"]) == pytest.approx(0, abs=0.02)
        with Image.open(folder / row["overlay_file"]) as drawn:
            assert max(drawn.size) == 256


def test_distance_from_peak_to_mask(model: GAINMTL) -> None:
    def case(box: slice, pixels: torch.Tensor) -> Case:
        mask = torch.zeros(1, 48, 48, dtype=torch.bool)
        mask[0, box, box] = True
        return Case("x", "test", 0, True, "crack", "g", lambda: pixels, lambda: mask)

    image = torch.randint(0, 255, (3, 48, 48), dtype=torch.uint8)
    inside, near = verdict_table(
        [model], [case(slice(0, 48), image), case(slice(0, 1), image)]
    ).itertuples()
    assert inside.peak_to_mask == 0
    assert near.peak_to_mask == pytest.approx(np.hypot(near.peak_row, near.peak_column))


def test_limit_and_stale_files(model: GAINMTL, data: datasets.Data, tmp_path: Path) -> None:
    cases = cases_of(data.test, "test")
    old = tmp_path / "maps/val/old.map.png"
    draw(old, (8, 8), 0)
    kept = tmp_path / "maps/val/notes.png"
    draw(kept, (8, 8), 0)
    table = verdict_table([model], cases, maps_dir=tmp_path / "maps", map_limit=2)
    assert table["map_file"].notna().tolist() == [True] * 2 + [False] * (len(cases) - 2)
    assert len(list((tmp_path / "maps").rglob("*.map.png"))) == 2
    assert not old.exists()
    assert kept.exists()
    assert verdict_table([model], cases)["map_file"].isna().all()


def test_each_case_is_judged_by_the_model_of_its_fold(model, data) -> None:
    torch.manual_seed(1)
    other = GAINMTL("test_efficientnet", "S5").eval()
    other.image_size = 32
    cases = cases_of(data.test, "test", 0) + cases_of(data.val, "test", 1)
    both = verdict_table([model, other], cases)
    alone = verdict_table([other], cases_of(data.val, "test"))
    count = len(alone)
    assert both["fold"].tolist() == [0] * (len(cases) - count) + [1] * count
    assert both["defect_probability"].tolist()[-count:] == alone["defect_probability"].tolist()


def test_unlabelled_images_need_no_labels(model: GAINMTL, folder: Path) -> None:
    cases = cases_in(folder / "images")
    verdicts = verdict_table([model], cases)
    assert len(verdicts) == 12
    assert verdicts["name"].is_unique
    assert (verdicts["split"] == "new").all()
    assert verdicts[["true_label", "outcome", "group", "has_mask"]].isna().all(axis=None)


def test_an_image_that_is_none_is_named_before_any_verdict(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", (8, 8), 0)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "broken one.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"broken one\.png"):
        cases_in(tmp_path)


def test_an_untrained_model_is_refused(data: datasets.Data) -> None:
    with pytest.raises(ValueError, match="never trained"):
        verdict_table([GAINMTL("test_efficientnet", "S1")], cases_of(data.test, "test"))


def test_csv_reads_back(judged, tmp_path: Path) -> None:
    _, verdicts, _ = judged
    renamed = verdicts.assign(name=["\udcff.png", *verdicts["name"][1:]])
    write_verdicts(renamed, tmp_path / "verdicts.csv")
    with (tmp_path / "verdicts.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(verdicts)
    assert rows[0]["name"] == "\\udcff.png"
    assert float(rows[1]["defect_probability"]) == verdicts["defect_probability"][1]
    normal = next(row for row in rows if row["true_label"] == "normal")
    assert (normal["has_mask"], normal["peak_to_mask"]) == ("", "")


class Tags(HTMLParser):
    """What a page loads, and whether its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.missing_alt = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.sources += [str(given[k]) for k in ("src", "href", "srcset") if k in given]
        self.missing_alt += tag == "img" and not given.get("alt")
        if tag not in ("img", "meta", "link", "br", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


def parse(path: Path) -> tuple[Tags, str]:
    source = path.read_text("utf-8")
    page = Tags()
    page.feed(source)
    assert page.open == []
    return page, source


def test_the_report_stands_alone(judged, data, model, tmp_path: Path) -> None:
    cases, verdicts, _ = judged
    measures = tidy_rows(score(model, data.test), "folder", "test", "S5", resamples=50)
    path = write_report(
        tmp_path / "report.html", [model], cases, verdicts, title="<Teile>",
        rule=threshold_rule(verdicts, 0.05), measures=measures, counts=data.counts,
        facts={"command": "papermill <x>"},
    )  # fmt: skip
    page, source = parse(path)
    assert page.sources
    assert all(s.startswith(("#", "data:image/jpeg;base64,")) for s in page.sources)
    assert page.missing_alt == 0
    assert "prefers-color-scheme: dark" in source
    assert 'name="viewport"' in source
    assert "&lt;Teile&gt;" in source
    assert "papermill &lt;x&gt;" in source
    # one is missing from either split, one marks nothing: only one mask of the test part is left
    assert "3 defective images have no usable mask" in source
    assert "Only 3 of the test images are defective" in source
    auroc = measures[(measures["metric"] == "auroc")].iloc[0]
    assert f">{auroc['value']:.3f}<" in source


def made_up(**columns: list[object]) -> pd.DataFrame:
    count = len(columns["name"])
    base: dict[str, object] = dict.fromkeys(COLUMNS) | {
        "split": "test", "threshold": 0.5, "height": 100, "width": 100, "peak_to_mask": np.nan
    }  # fmt: skip
    return pd.DataFrame({key: columns.get(key, [value] * count) for key, value in base.items()})


def test_worst_mistakes_come_first() -> None:
    verdicts = made_up(
        name=["miss .4", "miss .1", "alarm .6", "alarm .9", "near", "far", "on it", "unmasked"],
        outcome=["miss", "miss", "false alarm", "false alarm", "hit", "hit", "hit", "hit"],
        defect_probability=[0.4, 0.1, 0.6, 0.9, 0.8, 0.7, 0.95, 0.99],
        peak_to_mask=[0.0, 0.0, np.nan, np.nan, 12.0, 30.0, 0.0, np.nan],
        peak=[0.7, 0.1] + [0.6] * 6,
    )
    sections = mistakes(verdicts, lambda rows: rows["name"].tolist())
    found = {key: (title, body) for key, title, body in sections}
    assert found["misses"][1][1:] == ["miss .1", "miss .4"]
    assert "On 1 of them the map peaks inside the mask" in found["misses"][1][0]
    assert found["alarms"][1][1:] == ["alarm .9", "alarm .6"]
    assert found["elsewhere"][1][1:] == ["far", "near"]
    assert "1 detected defects have no mask" in found["elsewhere"][1][0]
    assert found["elsewhere"][0].endswith("(2)")
    assert found["right"][1][1:] == ["on it"]


def test_far_is_relative_to_the_image() -> None:
    verdicts = made_up(
        name=["large image", "small image"], outcome=["hit", "hit"], defect_probability=[0.9, 0.9],
        peak_to_mask=[40.0, 30.0], height=[1000, 100], width=[1000, 100],
    )  # fmt: skip
    sections = {key: body for key, _, body in mistakes(verdicts, lambda r: r["name"].tolist())}
    assert sections["elsewhere"][1:] == ["small image", "large image"]


def test_threshold_rule_counts_validation_images() -> None:
    verdicts = made_up(
        name=list("abcde"), true_label=["normal"] * 4 + ["defective"],
        verdict=["normal"] * 3 + ["defective"] * 2,
    ).assign(split=["val"] * 5)  # fmt: skip
    rule = threshold_rule(verdicts, 0.25)
    assert "1 of the 4 normal images may be flagged" in rule
    assert "flags 1 of 4 normal and 1 of 1 defective" in rule
    assert "flags" not in threshold_rule(verdicts.assign(split="test"), 0.25)


def test_report_of_unlabelled_images_claims_nothing(model, folder, tmp_path: Path) -> None:
    cases = cases_in(folder / "images")
    verdicts = verdict_table([model], cases)
    path = write_report(
        tmp_path / "r.html", [model], cases, verdicts, title="t", rule="As stored.", examples=2
    )
    page, source = parse(path)
    assert "As stored." in source
    assert "12 unlabelled images" in source
    assert "AUROC" not in source
    assert "Misses" not in source
    assert len([s for s in page.sources if s.startswith("data:")]) <= 8


def test_names_that_are_no_text_don_t_break_the_page() -> None:
    assert text("a\udcff<b>") == "a\\udcff&lt;b&gt;"


def test_undefined_is_a_dash() -> None:
    assert number(float("nan")) == "–"
    assert ">–<" in table("c", ("", "x"), [("row", number(float("nan")))])


def test_cases_and_verdicts_must_match(judged, model, tmp_path: Path) -> None:
    cases, verdicts, _ = judged
    with pytest.raises(ValueError, match="one verdict per case"):
        write_report(tmp_path / "r.html", [model], cases[1:], verdicts, title="t", rule="r")


def test_cases_read_files_at_their_own_size(folder: Path, data: datasets.Data) -> None:
    for case in cases_of(data.test, "test"):
        assert torch.equal(case.read(), read_image(folder / case.name))
        mask = case.read_mask()
        if mask is not None:
            assert mask.shape[1:] == case.read().shape[1:]
            assert mask.sum() == 16 * 20


def test_numbers_that_differ_look_different() -> None:
    assert _comparison(0.4801, 0.4804) == "probability 0.4801 < 0.4804"
    assert _comparison(0.75, 0.5) == "probability 0.750 ≥ 0.500"
    assert _comparison(0.5, 0.5).count("0.50000000") == 2


@pytest.mark.parametrize(
    ("values", "low", "high"), [([0.1, 0.9], 0, 1), ([0.50, 0.51], 0.499, 0.511)]
)
def test_histograms_show_what_crowds_together(values: list[float], low: float, high: float) -> None:
    drawn = histograms([("normal", values, "red")], [values[0]])
    ticks = [float(tick) for tick in re.findall(r"<span>([^<]+)</span>", drawn)]
    assert drawn.count("<rect") == 2
    assert (ticks[0], ticks[-1]) == pytest.approx((low, high))


def test_histogram_of_one_value() -> None:
    assert (
        histograms([("normal", [0.3], "red"), ("defective", [], "blue")], [0.3]).count("<rect") == 1
    )
