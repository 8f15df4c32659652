"""The secret streams have the distribution that is booked, and none is used twice."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness

MANY = 200_000


def test_normals_have_the_normal_distribution() -> None:
    drawn = PinnedRandomness(1).stream(Purpose.NOISE, 0).normals(MANY)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert drawn.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * MANY))
    assert drawn.mean() == pytest.approx(0.0, abs=5 / np.sqrt(MANY))


def test_normals_are_serially_uncorrelated() -> None:
    drawn = PinnedRandomness(2).stream(Purpose.NOISE, 0).normals(MANY)
    half = MANY // 2
    for lag in (1, 2, half):  # Box-Muller's pairs lie half the block apart
        correlation = float(np.mean(drawn[:-lag] * drawn[lag:]))
        assert abs(correlation) < 5 / np.sqrt(MANY - lag)


def test_an_odd_number_of_normals_is_given_in_full() -> None:
    assert PinnedRandomness(1).stream(Purpose.NOISE, 0).normals(7).shape == (7,)


def test_successive_draws_from_a_stream_differ() -> None:
    stream = PinnedRandomness(1).stream(Purpose.NOISE, 0)
    assert not np.array_equal(stream.normals(10), stream.normals(10))


@pytest.mark.parametrize("purpose", list(Purpose))
def test_streams_of_steps_purposes_and_instances_differ(purpose: Purpose) -> None:
    source, other = SecretRandomness(), SecretRandomness()
    first = source.stream(purpose, 3).integers(4).tolist()
    assert first != source.stream(purpose, 4).integers(4).tolist()
    assert first != other.stream(purpose, 3).integers(4).tolist()
    for different in set(Purpose) - {purpose}:
        assert first != source.stream(different, 3).integers(4).tolist()


def test_the_keystream_is_chacha20_of_rfc_8439() -> None:
    # RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, block 0
    source = PinnedRandomness(0)
    stream = source.stream(Purpose.SAMPLING, 0)
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    vector = Cipher(ChaCha20(bytes(32), bytes(16)), mode=None).encryptor().update(bytes(8))
    assert vector.hex() == "76b8e0ada0f13d90"
    assert stream.integers(1)[0] != int.from_bytes(vector, "little")  # the purpose is in the nonce


def test_a_seed_of_the_user_does_not_reach_the_secret_streams() -> None:
    np.random.seed(0)  # noqa: NPY002 - the user's own habit
    first = SecretRandomness().stream(Purpose.NOISE, 0).normals(4)
    np.random.seed(0)  # noqa: NPY002 - the user's own habit
    assert not np.array_equal(first, SecretRandomness().stream(Purpose.NOISE, 0).normals(4))


def test_a_secret_source_cannot_be_copied_or_stored() -> None:
    source = SecretRandomness()
    with pytest.raises(TypeError, match="secret key"):
        pickle.dumps(source)
    with pytest.raises(TypeError, match="secret key"):
        copy.deepcopy(source)
    assert source._key.hex() not in repr(source)


@pytest.mark.parametrize("rate", [0.003, 0.4, 1.0])
def test_each_record_enters_with_the_stated_rate(rate: float) -> None:
    source = PinnedRandomness(5)
    steps, records = 400, 500
    counts = np.zeros(records)
    for step in range(steps):
        counts[source.poisson_sample(step, records, rate)] += 1
    expected = steps * records * rate
    assert counts.sum() == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - rate)) + 1e-9)
    if rate < 1:
        spread = counts.var() / (steps * rate * (1 - rate))
        assert spread == pytest.approx(1.0, abs=5 * np.sqrt(2 / records) + 0.1)


def test_forward_seeds_differ_from_step_to_step() -> None:
    source = SecretRandomness()
    assert len({source.forward_seed(step) for step in range(50)}) == 50
