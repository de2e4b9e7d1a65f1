"""The synthetic parts: reproducible, and every setting has its effect."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from gainmtl.datasets.annotation import coarsen
from gainmtl.datasets.synthetic import SyntheticDataset, make, parts
from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.datasets.synthetic.textures import TEXTURES
from gainmtl.types import NORMAL, collate


def digest(dataset: SyntheticDataset, indices: list[int]) -> str:
    """A hash of samples in index order, whatever the order they are rendered in."""
    pixels = {i: dataset[i] for i in indices}
    content = b"".join(
        pixels[i].image.numpy().tobytes() + pixels[i].mask.numpy().tobytes()
        for i in sorted(indices)
    )
    return hashlib.sha256(content).hexdigest()


def test_samples_do_not_depend_on_order_length_or_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    long, _, _ = make(image_size=48, train=60)
    short, _, _ = make(image_size=48, train=25)
    monkeypatch.setattr(parts, "CACHE_BYTES", 0)
    uncached, _, _ = make(image_size=48, train=60)
    first = digest(long, list(range(20)))
    assert digest(short, list(range(20))[::-1]) == first
    assert digest(uncached, list(range(20))) == first
    assert digest(long, list(range(20))) == first, "the cache must return what was rendered"
    assert not uncached._cache
    assert len(long._cache) == 20


def test_another_process_renders_the_same() -> None:
    code = (
        "import hashlib\n"
        "from gainmtl.datasets.synthetic import make\n"
        "data, _, _ = make(image_size=48, train=12, seed=5, shortcut=0.8)\n"
        "samples = [data[i] for i in reversed(range(12))][::-1]\n"
        "content = b''.join(s.image.numpy().tobytes() + s.mask.numpy().tobytes() for s in samples)"
        "\nprint(hashlib.sha256(content).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    data, _, _ = make(image_size=48, train=12, seed=5, shortcut=0.8)
    assert run.stdout.strip() == digest(data, list(range(12)))


def test_seeds_and_splits_differ() -> None:
    a, val, test = make(image_size=32, train=40, val=40, test=40)
    b, _, _ = make(image_size=32, train=40, seed=1)
    images = [data[0].image for data in (a, val, test, b)]
    for i, image in enumerate(images):
        for other in images[i + 1 :]:
            assert not torch.equal(image, other)
    assert (a.labels != b.labels).any()


def test_pickle_keeps_the_content_and_drops_the_cache() -> None:
    data, _, _ = make(image_size=32, train=8)
    before = digest(data, list(range(8)))
    copy = pickle.loads(pickle.dumps(data))
    assert not copy._cache
    assert digest(copy, list(range(8))) == before


def test_fingerprint_depends_on_every_setting() -> None:
    changes = [
        {},
        {"seed": 1},
        {"image_size": 64},
        {"train": 10},
        {"views": 2},
        {"textures": ("cast",)},
        {"defect_types": ("crack",)},
        {"unseen_defect_types": ("crack",)},
        {"defect_rate": 0.4},
        {"defect_size": 2},
        {"mask_quality": "box"},
        {"shortcut": 0.5},
    ]
    prints = [make(**change)[0].fingerprint() for change in changes]
    assert len(set(prints)) == len(changes)
    assert make()[0].fingerprint() == prints[0]
    assert len({part.fingerprint() for part in make()}) == 3
    assert make(defect_size=np.float32(2))[0].fingerprint() == prints[9]


def test_samples_are_what_the_attributes_say() -> None:
    data, _, _ = make(image_size=32, train=30, mask_fraction=0.5, label_noise=0.2)
    assert len(data) == 30
    for i in range(30):
        sample = data[i]
        assert sample.image.shape == (3, 32, 32)
        assert sample.image.dtype == sample.mask.dtype == torch.float32
        assert sample.image.min() >= 0
        assert sample.image.max() <= 1
        assert sample.is_defective == data.labels[i] == (sample.defect_type != NORMAL)
        assert sample.defect_type == data.defect_types[i]
        assert sample.has_mask == data.has_mask[i]
        assert (sample.group, sample.name) == (data.groups[i], data.names[i])
        if sample.is_defective and sample.has_mask:
            assert sample.mask.any()
        else:
            assert not sample.mask.any()
    assert collate([data[0], data[1]]).image.shape == (2, 3, 32, 32)
    assert torch.equal(data[-1].image, data[29].image)
    with pytest.raises(IndexError):
        data[30]
    assert len(list(iter(data))) == 30


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.3, 0.5, 1.0])
def test_defect_rate_and_balance(rate: float) -> None:
    data, val, _ = make(train=1000, val=60, defect_rate=rate)
    assert data.labels.mean() == pytest.approx(rate, abs=0.01)
    assert val.labels.mean() == pytest.approx(rate, abs=0.06)
    # No order to exploit, and no texture or type tied to the label.
    if rate == 0.5:
        assert 0.3 < (data.labels[:-1] != data.labels[1:]).mean() < 0.7
        assert abs(data.labels[::2].mean() - 0.5) < 0.06
    for texture in TEXTURES:
        chosen = np.array(data.textures) == texture
        assert chosen.mean() == pytest.approx(1 / len(TEXTURES), abs=0.02)
        assert data.labels[chosen].mean() == pytest.approx(rate, abs=0.05)
    if rate >= 0.3:
        counts = Counter(data.defect_types)
        assert min(counts[d] for d in DEFECTS) > 0.9 * max(counts[d] for d in DEFECTS)


def test_train_defect_rate_is_for_training() -> None:
    data, val, test = make(train=600, val=200, test=200, train_defect_rate=0.05)
    assert data.labels.mean() == pytest.approx(0.05, abs=0.01)
    assert val.labels.mean() == test.labels.mean() == 0.5
    assert not make(train_defect_rate=0)[0].labels.any()


def test_unseen_types_only_in_test() -> None:
    data, val, test = make(train=300, val=100, test=100, unseen_defect_types=["crack", "chip"])
    seen = {NORMAL, "scratch", "blowhole", "stain"}
    assert set(data.defect_types) == set(val.defect_types) == seen
    assert set(test.defect_types) == seen | {"crack", "chip"}


def test_label_noise_flips_training_labels_in_both_directions() -> None:
    clean, _, _ = make(train=800)
    data, val, test = make(image_size=32, train=800, label_noise=0.2)
    assert (data.true_labels == clean.labels).all()
    for state in (False, True):
        flipped = data.labels[data.true_labels == state] != state
        assert flipped.mean() == pytest.approx(0.2, abs=0.01)
    for part in (val, test):
        assert (part.labels == part.true_labels).all()

    called_defective = np.flatnonzero(data.labels & ~data.true_labels)
    assert not data.has_mask[called_defective].any()
    called_normal = np.flatnonzero(~data.labels & data.true_labels)
    assert data.has_mask[called_normal].all()
    sample = data[int(called_normal[0])]
    assert sample.defect_type == NORMAL
    assert not sample.mask.any()
    assert data.exact_mask(int(called_normal[0])).any()
    sample = data[int(called_defective[0])]
    assert sample.defect_type in DEFECTS
    assert not data.exact_mask(int(called_defective[0])).any()


def test_contamination_hides_defects_among_training_normals() -> None:
    data, val, test = make(train=800, train_defect_rate=0, contamination=0.1)
    assert not data.labels.any()
    assert data.has_mask.all()
    assert data.true_labels.mean() == pytest.approx(0.1, abs=0.005)
    assert {data.true_defect_types[i] for i in np.flatnonzero(data.true_labels)} == set(DEFECTS)
    assert (val.labels == val.true_labels).all()
    assert (test.labels == test.true_labels).all()
    mixed, _, _ = make(train=800, contamination=0.1)
    assert mixed.true_labels[~mixed.labels].mean() == pytest.approx(0.1, abs=0.01)
    assert mixed.true_labels[mixed.labels].all()


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_mask_fraction(fraction: float) -> None:
    data, val, _ = make(train=800, mask_fraction=fraction)
    assert data.has_mask[data.labels].mean() == pytest.approx(fraction, abs=0.01)
    assert data.has_mask[~data.labels].all()
    assert val.has_mask.all()


def test_mask_quality_is_for_training() -> None:
    exact = make(image_size=64, train=12, val=6)
    for quality in ("dilated", "box"):
        data, val, _ = make(image_size=64, train=12, val=6, mask_quality=quality)
        for i in range(12):
            fine, coarse = exact[0][i].mask, data[i].mask
            assert (coarse >= fine).all()
            assert torch.equal(coarse, coarsen(fine, quality))
            assert torch.equal(data.exact_mask(i), fine)
        assert all(torch.equal(val[i].mask, exact[1][i].mask) for i in range(6))


def test_coarsen_by_hand() -> None:
    mask = torch.zeros(1, 7, 7)
    mask[0, 1, 2] = mask[0, 4, 5] = 1
    box = torch.zeros(1, 7, 7)
    box[0, 1:5, 2:6] = 1
    assert torch.equal(coarsen(mask, "box"), box)
    wide = torch.zeros(1, 7, 7)
    wide[0, 0:3, 1:4] = wide[0, 3:6, 4:7] = 1
    assert torch.equal(coarsen(mask, "dilated"), wide)
    assert torch.equal(coarsen(mask, "exact"), mask)
    assert not coarsen(torch.zeros(1, 7, 7), "box").any()


@pytest.mark.parametrize(("shortcut", "at_test"), [(1.0, 0.0), (0.5, 0.5), (0.9, 0.5), (0.0, 1.0)])
def test_shortcut_agrees_as_often_as_asked(shortcut: float, at_test: float) -> None:
    parts = make(train=800, val=400, test=400, shortcut=shortcut, shortcut_test=at_test)
    for part, rate in zip(parts, (shortcut, shortcut, at_test), strict=True):
        for state in (False, True):
            agrees = part.marked[part.true_labels == state] == state
            assert agrees.mean() == pytest.approx(rate, abs=0.02)


def test_marks_follow_the_part_not_its_label() -> None:
    data, _, _ = make(train=200, shortcut=1.0, label_noise=0.2, contamination=0.2)
    assert (data.marked == data.true_labels).all()
    assert (data.marked != data.labels).any()


def test_no_marks_without_a_shortcut() -> None:
    for part in make(image_size=32):
        assert not part.marked.any()
    assert not part.mark_mask(0).any()


def test_mark_can_be_printed_and_removed() -> None:
    data, _, _ = make(image_size=64, train=20, shortcut=1.0)
    for i in range(4):
        mark = data.mark_mask(i)
        assert mark.shape == (1, 64, 64)
        assert mark.any() == data.marked[i]
        same, other = data.render(i), data.render(i, marked=not data.marked[i])
        assert other.mark_mask.any() != data.marked[i]
        np.testing.assert_array_equal(same.image, data.render(i, marked=data.marked[i]).image)
        np.testing.assert_array_equal(same.mask, other.mask)


def test_clean_image_is_the_sample_without_its_defect() -> None:
    data, _, _ = make(image_size=64, train=10)
    for i in range(10):
        sample, clean = data[i], data.clean_image(i)
        differs = (sample.image - clean).abs().amax(0, keepdim=True) > 0
        assert bool(differs.any()) == sample.is_defective
        assert differs[sample.mask == 1].float().mean() > 0.9 or not sample.is_defective


def test_views_share_a_group() -> None:
    data, val, _ = make(image_size=32, train=20, val=6, views=3)
    assert [data.groups[i] for i in range(6)] == [data.groups[0]] * 3 + [data.groups[3]] * 3
    assert len(set(data.groups)) == 7
    assert len(set(data.names)) == 20
    assert not set(data.groups) & set(val.groups)
    assert (data.labels[0:18:3] == data.labels[2:18:3]).all()
    assert not torch.equal(data[0].image, data[1].image)


def test_textures_and_types_can_be_chosen() -> None:
    data, _, _ = make(textures=["woven"], defect_types=("chip", "stain"))
    assert set(data.textures) == {"woven"}
    assert set(data.defect_types) == {NORMAL, "chip", "stain"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 16}, "image_size: expected a whole number from 32 to 1024, got 16"),
        ({"image_size": 64.0}, "image_size: .* got 64.0"),
        ({"seed": -1}, "seed: .* got -1"),
        ({"train": 0}, "train: .* got 0"),
        ({"views": True}, "views: .* got True"),
        ({"textures": ()}, "textures: expected at least one of brushed_metal"),
        ({"textures": "cast"}, "textures: expected a list of names, got 'cast'"),
        ({"textures": ["wood"]}, "textures: expected names among .* got 'wood'"),
        ({"defect_types": ["chip", "chip"]}, "defect_types: expected each name once"),
        (
            {"defect_types": ["chip"], "unseen_defect_types": ["crack"]},
            "unseen_defect_types: expected names among chip, got 'crack'",
        ),
        ({"unseen_defect_types": tuple(DEFECTS)}, "expected at least one .* to stay"),
        ({"defect_rate": 1.5}, "defect_rate: expected a number from 0 to 1, got 1.5"),
        ({"defect_rate": None}, "defect_rate: .* got None"),
        ({"train_defect_rate": float("nan")}, "train_defect_rate: .* got nan"),
        ({"defect_size": 0}, "defect_size: .* got 0"),
        ({"defect_contrast": 9}, "defect_contrast: .* got 9"),
        ({"label_noise": 0.6}, "label_noise: .* got 0.6"),
        ({"contamination": -0.1}, "contamination: .* got -0.1"),
        ({"mask_fraction": "half"}, "mask_fraction: .* got 'half'"),
        ({"mask_quality": "good"}, "mask_quality: expected one of exact, dilated, box"),
        ({"shortcut": 2}, "shortcut: .* got 2"),
        ({"shortcut_test": -1}, "shortcut_test: .* got -1"),
        ({"defect_contrst": 1}, "no setting 'defect_contrst'. Did you mean 'defect_contrast'"),
        ({"zzz": 1}, "no setting 'zzz'. Known: image_size"),
    ],
)
def test_impossible_dials_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
