"""The secret streams have the distribution that is booked, and none is used twice."""

import copy
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from scipy import stats

from dpft.randomness import PinnedRandomness, Purpose, SecretRandomness, Stream

MANY = 200_000


def test_normals_have_the_normal_distribution() -> None:
    drawn = PinnedRandomness(1).stream(Purpose.NOISE, 0).normals(MANY)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert drawn.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * MANY))
    assert drawn.mean() == pytest.approx(0.0, abs=5 / np.sqrt(MANY))


def test_normals_are_serially_uncorrelated() -> None:
    drawn = PinnedRandomness(2).stream(Purpose.NOISE, 0).normals(MANY)
    half = MANY // 2
    for lag in (1, 2, half):  # both normals of a pair lie half the block apart
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


def test_every_normal_is_the_sum_of_four_over_two(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[np.ndarray] = []

    def pairs(_: Stream, count: int) -> tuple[np.ndarray, np.ndarray]:
        handed[:] = np.random.default_rng(0).normal(size=(2, count))
        return handed[0], handed[1]

    monkeypatch.setattr(Stream, "_pairs", pairs)
    drawn = PinnedRandomness(4).stream(Purpose.NOISE, 2).normals(10)
    assert len(handed[0]) == 4 * 5
    expected = [sum(each[k::5][:4]) / 2 for each in handed for k in range(5)]
    assert drawn == pytest.approx(np.array(expected), rel=1e-12)


def test_pairs_of_normals_are_normal_and_independent() -> None:
    firsts, seconds = PinnedRandomness(8).stream(Purpose.NOISE, 0)._pairs(MANY)
    for drawn in (firsts, seconds, (firsts + seconds) / np.sqrt(2)):
        assert drawn.shape == (MANY,)
        assert stats.kstest(drawn, "norm").pvalue > 1e-3
    correlation = float(np.mean(firsts**2 * seconds**2)) - 1
    assert abs(correlation) < 6 * np.sqrt(8 / MANY)


def test_many_normals_are_drawn_in_blocks_that_do_not_repeat() -> None:
    drawn = PinnedRandomness(6).stream(Purpose.NOISE, 0).normals(2**18 + 2**17 + 3)
    assert len(np.unique(drawn)) == drawn.size
    assert stats.kstest(drawn[2**18 :], "norm").pvalue > 1e-3


def test_keys_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    monkeypatch.setattr("secrets.token_bytes", urandom)
    source = SecretRandomness()
    assert asked == [32]
    assert source._key == bytes(range(32))
    nonce = bytes(4) + int(Purpose.NOISE).to_bytes(4, "little") + (9).to_bytes(8, "little")
    expected = Cipher(ChaCha20(bytes(range(32)), nonce), mode=None).encryptor().update(bytes(16))
    assert source.stream(Purpose.NOISE, 9).integers(2).tobytes() == expected
