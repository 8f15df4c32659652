import numpy as np
import pytest

from dpft.accounting.auditing import (
    distribution,
    independence,
    participation,
    same_law,
    share,
    spread,
)

LEVEL = 1e-6


def normals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_claimed_raises_no_alarm(seed: int) -> None:
    rows = normals(40, 512, seed=seed)
    drawn = np.random.default_rng(seed).random((200, 300)) < 0.05

    assert spread(rows).passes(LEVEL)
    assert distribution(rows).passes(LEVEL)
    assert independence(rows).passes(LEVEL)
    assert same_law(rows[0], rows[1]).passes(LEVEL)
    assert participation(drawn.sum(axis=0), 200, 0.05).passes(LEVEL)
    assert participation(drawn.sum(axis=1), 300, 0.05).passes(LEVEL)


@pytest.mark.parametrize("factor", [0.0, 0.25, 0.5, 0.8, 0.97, 1.03])
def test_noise_that_is_a_fifth_too_small_is_seen(factor: float) -> None:
    found = spread(factor * normals(20_000))

    assert not found.passes(LEVEL)
    assert found.statistic == pytest.approx(factor**2, rel=0.05)


def test_noise_of_another_shape_is_seen() -> None:
    uniform = np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, 20_000)

    assert spread(uniform).statistic == pytest.approx(1, abs=0.02)
    assert not distribution(uniform).passes(LEVEL)


def test_scores_of_another_law_are_seen() -> None:
    assert not same_law(normals(2000), 0.7 + normals(2000, seed=1)).passes(LEVEL)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("apart", [1, 7, 19])
def test_noise_that_is_used_twice_is_seen(sign: int, apart: int) -> None:
    rows = normals(20, 256)
    rows[apart] = sign * rows[0]

    found = independence(rows)

    assert found.statistic == pytest.approx(1)
    assert not found.passes(LEVEL)


def test_noise_that_is_shared_in_part_is_seen() -> None:
    rows, shared = normals(20, 4096), normals(4096, seed=1)

    assert not independence(rows + 0.5 * shared).passes(LEVEL)


def test_no_noise_at_all_is_seen() -> None:
    assert not independence(np.zeros((3, 100))).passes(LEVEL)
    assert not spread(np.zeros(100)).passes(LEVEL)


def test_too_little_to_compare_says_nothing() -> None:
    for found in (independence(normals(1, 100)), independence(normals(5, 4))):
        assert found.p_value == 1
        assert np.isnan(found.statistic)


def test_shuffled_batches_are_seen() -> None:
    often = np.full(300, 10)

    found = participation(often, 200, 0.05)

    assert found.statistic == 0
    assert not found.passes(LEVEL)


@pytest.mark.parametrize("share_above", [1e-2, 1e-3])
def test_the_tail_of_a_dispersion_is_not_thinner_than_stated(share_above: float) -> None:
    counts = np.random.default_rng(1).binomial(360, 0.02, (40_000, 120))
    squares = np.square(counts - 360 * 0.02).sum(axis=1)
    just_there = counts[np.argsort(squares)[-round(share_above * len(counts))]]

    found = participation(just_there, 360, 0.02)

    assert found.p_value == pytest.approx(2 * share_above, rel=0.3)


def test_a_rate_that_is_ten_times_the_claim_is_seen() -> None:
    drawn = np.random.default_rng(0).random((200, 300)) < 0.1

    assert not participation(drawn.sum(axis=0), 200, 0.01).passes(LEVEL)
    assert not share(int(drawn.sum()), drawn.size, 0.01).passes(LEVEL)
    assert share(int(drawn.sum()), drawn.size, 0.1).passes(LEVEL)


def test_nan_never_passes() -> None:
    assert not spread(np.full(10, np.nan)).passes(LEVEL)
