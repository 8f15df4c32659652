"""Where the secret randomness of a run comes from: sampling, noise and dropout.

A ChaCha20 keystream (RFC 8439), keyed afresh by the operating system, is turned into float64
uniforms and, by Box and Muller, into normals, each the sum of several. The key is never stored,
logged or derived from a user's seed. `PinnedRandomness` exists for tests; whatever it touches is
NOT PRIVATE.
"""

import math
import secrets
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

__all__ = ["PinnedRandomness", "Purpose", "SecretRandomness", "Stream"]

_KEY_BYTES = 32
_MANTISSA_BITS = 53
# Whoever sees a float64 normal made of one pair of uniforms can test whether a guessed sum lies on
# the lattice of values that such pairs reach. Four of them are beyond a search: 2**53 to the third.
_SAMPLES = 4
_BLOCK = 2**14  # pairs at a time: what they take fits a cache, which is a third of the time
_GENERATOR_WORDS = 624  # of the state of MT19937, torch's generator on the CPU
_Uint64s = npt.NDArray[np.uint64]
_Floats = npt.NDArray[np.float64]


class Purpose(IntEnum):
    """What a stream is used for; streams of different purposes never overlap."""

    SAMPLING = 1
    NOISE = 2
    FORWARD = 3


class SecretRandomness:
    """Streams of secret random numbers for one attachment of one run.

    Privacy:
        256 bits from the operating system per instance; each (purpose, step) has its own nonce, so
        no keystream is used twice. Normals are float64, each the sum of four divided by two, so
        that the lattice of floating-point values tells nothing that could be searched for; their
        tails end beyond 8.6 standard deviations (probability 1e-17 a draw). That they are no real
        numbers remains, and is stated in the report (`tests/dpft/test_randomness.py`). Integer
        noise has no such gap: `dpft.discrete_gaussian`.

    References:
        RFC 8439 (ChaCha20); Box and Muller 1958; Mironov 2012 on floating-point noise; Holohan and
        Braghin 2021 (2107.10138) on sums of several samples.
    """

    name = "ChaCha20 keystream, keyed by the operating system, fresh for this run"
    is_pinned = False

    def __init__(self) -> None:
        """Draw a fresh key."""
        self._key = secrets.token_bytes(_KEY_BYTES)

    def __repr__(self) -> str:
        """Name the generator; never the key."""
        return f"{type(self).__name__}()"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied: a key used twice would repeat noise."""
        raise TypeError(f"{type(self).__name__} holds a secret key and cannot be copied or stored")

    def stream(self, purpose: Purpose, step: int) -> "Stream":
        """Return the stream of one purpose in one step (>= 0)."""
        return Stream(self._key, purpose, step)

    def poisson_sample(
        self, step: int, num_records: int, sample_rate: float
    ) -> npt.NDArray[np.int64]:
        """Return the indices of a Poisson sample: each record enters with `sample_rate`.

        Args:
            step: Number of the step.
            num_records: Number of rows to choose from.
            sample_rate: Probability in (0, 1].

        Privacy:
            Integer comparison at 64 bits: the realised rate differs from the stated one by less
            than 2**-63.
        """
        drawn = self.stream(Purpose.SAMPLING, step).integers(num_records)
        if sample_rate >= 1:
            return np.arange(num_records)
        return np.flatnonzero(drawn < np.uint64(int(sample_rate * 2.0**64)))

    def forward_seed(self, step: int) -> int:
        """Return a secret seed of 63 bits for the generators of the forward pass in one step."""
        return int(self.stream(Purpose.FORWARD, step).integers(1)[0] >> np.uint64(1))

    def forward_state(self, step: int) -> npt.NDArray[np.uint32]:
        """Return secret words [624] for the whole state of MT19937 in one step.

        Privacy:
            A mask belongs to a place in the batch. If masks could be known beforehand, one record
            more would move the others to other masks, and the sum by more than the clip norm; with
            secret masks, alike in law at every place, it does not. A seed of 32 bits, which is all
            that this generator takes, could be searched for
            (`test_the_whole_state_of_the_forward_pass_is_secret`).
        """
        stream = self.stream(Purpose.FORWARD, step)
        stream.integers(1)  # the seed
        return stream.integers(_GENERATOR_WORDS // 2).view(np.uint32)


class PinnedRandomness(SecretRandomness):
    """Reproducible streams for tests. A run that uses it is NOT PRIVATE and says so.

    Args:
        seed: Any integer >= 0.

    Privacy:
        None: whoever knows the seed can subtract the noise.
    """

    name = "pinned for a test: NOT PRIVATE"
    is_pinned = True

    def __init__(self, seed: int) -> None:
        """Derive the key from the seed."""
        self._key = seed.to_bytes(_KEY_BYTES, "little")


class Stream:
    """One keystream, read from its start.

    Args:
        key: 32 secret bytes.
        purpose: What it is for.
        step: Step it belongs to.
    """

    def __init__(self, key: bytes, purpose: Purpose, step: int) -> None:
        """Set the cipher up: 4 bytes block counter, 4 bytes purpose, 8 bytes step."""
        nonce = bytes(4) + int(purpose).to_bytes(4, "little") + step.to_bytes(8, "little")
        self._encryptor = Cipher(ChaCha20(key, nonce), mode=None).encryptor()

    def integers(self, count: int) -> _Uint64s:
        """Return `count` uniform 64-bit integers."""
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8")

    def normals(self, count: int) -> _Floats:
        """Return `count` independent standard normals in float64, each made of four."""
        drawn = np.empty(count)
        for start in range(0, count, 2 * _BLOCK):
            part = drawn[start : start + 2 * _BLOCK]
            part[:] = self._summed((part.size + 1) // 2)[: part.size]
        return drawn

    def _summed(self, pairs: int) -> _Floats:
        """Return twice as many normals as pairs: sums over the samples, of variance 1 again."""
        firsts, seconds = self._pairs(_SAMPLES * pairs)
        sums = [each.reshape(_SAMPLES, pairs).sum(0) for each in (firsts, seconds)]
        normals: _Floats = np.concatenate(sums) / np.sqrt(_SAMPLES)
        return normals

    def _pairs(self, count: int) -> tuple[_Floats, _Floats]:
        """Return pairs of independent standard normals [count], by Box and Muller."""
        uniforms = torch.from_numpy(self._uniforms(2 * count))
        radius = uniforms[:count].log().mul_(-2.0).sqrt_()
        angle = uniforms[count:].mul_(2.0 * math.pi)
        # torch's own functions take half as long as numpy's
        return angle.cos().mul_(radius).numpy(), angle.sin_().mul_(radius).numpy()

    def _uniforms(self, count: int) -> _Floats:
        top = (self.integers(count) >> np.uint64(64 - _MANTISSA_BITS)).astype(np.float64)
        return (top + 0.5) * 2.0**-_MANTISSA_BITS
