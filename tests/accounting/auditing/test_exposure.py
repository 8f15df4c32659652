import math

import pytest

from dpft.accounting.auditing import exposure_chance, secret_exposure
from dpft.errors import ConfigurationError


def test_the_likeliest_of_all_has_full_exposure() -> None:
    assert secret_exposure(1, 4096) == 12
    assert secret_exposure(4096, 4096) == 0


def test_exposure_of_what_was_never_seen_is_geometric() -> None:
    found = [secret_exposure(rank, 1024) for rank in range(1, 1025)]

    assert sum(each >= 3 for each in found) == 1024 // 8
    assert sum(found) / 1024 == pytest.approx(1 / math.log(2), abs=0.02)


@pytest.mark.parametrize(("rank", "candidates"), [(0, 10), (11, 10), (1, 0)])
def test_a_rank_outside_the_candidates_is_refused(rank: int, candidates: int) -> None:
    with pytest.raises(ConfigurationError):
        secret_exposure(rank, candidates)


def test_a_private_model_exposes_no_more_than_its_guarantee() -> None:
    assert exposure_chance(10.0, 1.0, 1e-5) == pytest.approx(math.e / 1024 + 1e-5)
    assert exposure_chance(10.0, 1.0, 1e-5, copies=2) == pytest.approx(
        math.e**2 / 1024 + 1e-5 * (1 + math.e)
    )
    assert exposure_chance(10.0, 8.0, 1e-5, copies=8) == 1
    assert exposure_chance(10.0, 500.0, 1e-5, copies=8) == 1


def test_without_a_copy_the_chance_is_that_of_guessing() -> None:
    assert exposure_chance(10.0, 8.0, 1e-5, copies=0) == pytest.approx(2**-10)
