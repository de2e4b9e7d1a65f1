"""The arithmetic of the paper's table, by brute force."""

from __future__ import annotations

from gainbook.chapters.ch14_active import paper


def test_every_row_starts_with_a_round_number() -> None:
    assert [paper.first_items(one) for one in paper.TABLE] == [100] * 6 + [50, 100]


def test_labels_are_fewer_than_items() -> None:
    assert sum(one.items for one in paper.TABLE) == 2596
    assert sum(paper.labels(one) for one in paper.TABLE) == 1673


def brute(percent: float, size: int) -> bool:
    return any(f"{100 * k / size:.2f}" == f"{percent:.2f}" for k in range(size + 1))


def test_possible_sizes_by_brute_force() -> None:
    for percent in {one.default for one in paper.TABLE} | {97.56, 95.30}:
        expected = [size for size in range(1, 300) if brute(percent, size)]
        assert [size for size in range(1, 300) if paper.is_possible(percent, size)] == expected
        assert paper.sizes(percent, 2) == expected[:2]


def test_what_99_99_needs() -> None:
    # rounded: one error in n reads 99.99 from n = 6,667, where 1/n is below 0.015 %
    (least,) = paper.sizes(99.99, 1)
    assert brute(99.99, least)
    assert not brute(99.99, least - 1)
    assert least == 6667
    # cut: one error in n must be at most 0.01 %
    assert paper.least_size_below_one() == 10_000
    assert 100 * (1 - 1 / 9_999) < 99.99 <= 100 * (1 - 1 / 10_000)


def test_the_table_shows_the_sums() -> None:
    assert "| sum | 2596 | 750 | 1673 |" in paper.table()
