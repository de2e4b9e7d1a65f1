"""The frozen tables: their sources, their limits, and timm's table made again from its files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd
import pytest
from gainbook.chapters.ch01_models import tables

ROOT = Path(__file__).resolve().parents[3]


def test_every_table_names_its_sources() -> None:
    for path in tables.FOLDER.glob("*.csv"):
        assert path.read_text("utf-8").startswith("# "), path.name


def test_the_plan_s_candidates_have_the_nearest_figures_of_timm() -> None:
    """Within half a million parameters and, for weights that timm has, 0.15 points."""
    seed, timm = tables.seed_classifiers(), tables.timm_models()
    assert len(seed) == 8
    for one in seed.to_dict("records"):
        near = timm[(timm["architecture"] == one["architecture"])
                    & (timm["image_size"] == one["image_size"])]  # fmt: skip
        assert abs(near["cost"].iloc[0] - one["cost"]) < 0.5
        if "Fix" not in one["name"]:
            assert (near["accuracy"] - one["accuracy"]).abs().min() < 0.15
    missing = seed[seed["train_ms"].isna()]["name"].tolist()
    assert missing == ["TinyViT-21M-512-distill"]  # timm's training table is older
    assert seed[["gmacs", "cpu_ms", "gpu_ms"]].notna().all(axis=None)


def test_detectors_have_figures_sizes_and_references() -> None:
    paper, rerun = tables.detectors("paper"), tables.detectors("rerun")
    assert paper["accuracy"].between(90, 100).all()
    assert rerun["accuracy"].between(80, 100).all()
    assert "CFlow WR50" not in set(paper["name"])  # its size is unknown
    assert set(paper["checked"]) == {"source", "second hand", "no"}
    small = tables.within_limits(paper)
    assert set(paper["name"]) - set(small["name"]) == {
        "Reverse distillation WR50", "CS-Flow B5", "Dinomaly-B"
    }  # fmt: skip
    keys = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book/references.bib").read_text("utf-8")))
    assert set(paper["paper_source"]) <= keys


def test_unknown_figures() -> None:
    with pytest.raises(ValueError, match="expected one of paper, rerun, got 'both'"):
        tables.detectors("both")


def test_a_table_is_a_copy() -> None:
    del tables.timm_models()["cost"]
    assert "cost" in tables.timm_models()


def test_another_cost_leaves_out_what_lacks_it() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "cost": [1.0, 2.0], "ms": [None, 7.0]})
    assert tables.at_cost(table, "ms")["cost"].tolist() == [7.0]


def small_files(folder: Path) -> None:
    """timm's four files with two models; the training table has an old name."""
    (folder / tables.ACCURACY).write_text(
        'model,img_size,top1,param_count\nnet_a.tag,224,80.5,5.5\nnet_b.x,384,81,"1,014.45"\n'
        "net_c.x,384,82,7\n"
    )
    header = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size"
    for name, rows in (
        (tables.CPU, ["net_a,224,99,10,1,5.5,0.4,1.5", "net_a,320,99,20,1,5.5,0.8,3"]),
        (tables.GPU, ["net_a,224,99,512,1024,5.5,0.4,1.5", "net_b,384,99,768,256,5,9,9"]),
    ):
        lines = [f"{header},param_count,infer_gmacs,infer_macts", *rows]
        (folder / name).write_text("\n".join(lines) + "\n")
    (folder / tables.TRAINING).write_text(
        "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n"
        "net_a_ns,99,256,128,224,5.5\n"
    )


def test_timm_s_files_are_joined_by_architecture_and_size(tmp_path: Path) -> None:
    small_files(tmp_path)
    made = tables.reduce_timm(tmp_path).set_index("name")
    assert made.index.tolist() == ["net_a.tag", "net_b.x"]  # net_c has no time
    a, b = made.loc["net_a.tag"], made.loc["net_b.x"]
    assert (a["cpu_ms"], a["gpu_ms"], a["train_ms"], a["gmacs"]) == (10, 0.5, 2, 0.4)
    assert (b["cost"], b["gpu_ms"]) == (1014.45, 3)
    assert pd.isna(b["cpu_ms"])
    tables.write_timm(tmp_path, tmp_path / "made.csv")
    assert pd.read_csv(tmp_path / "made.csv", comment="#").equals(made.reset_index())


@pytest.mark.real_data
def test_the_frozen_table_is_that_of_timm_s_files(tmp_path: Path) -> None:
    folder = Path(os.environ.get("GAINMTL_DATA", "")) / "timm-results"
    if not (folder / tables.ACCURACY).is_file():
        pytest.skip("needs GAINMTL_DATA with the folder timm-results")
    tables.write_timm(folder, tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_bytes() == (tables.FOLDER / "timm_models.csv").read_bytes()
