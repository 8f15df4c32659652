"""Where the secret randomness of a run comes from: sampling, noise and dropout.

A ChaCha20 keystream (RFC 8439), keyed afresh by the operating system, is turned into float64
uniforms and, by Box and Muller, into normals. The key is never stored, logged or derived from a
user's seed. `PinnedRandomness` exists for tests; whatever it touches is NOT PRIVATE.
"""

import secrets
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

__all__ = ["PinnedRandomness", "Purpose", "SecretRandomness", "Stream"]

_KEY_BYTES = 32
_MANTISSA_BITS = 53
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
        no keystream is used twice. Normals are float64, tails end at 8.6 standard deviations
        (probability 1e-17 a draw). Floating-point artefacts of the Gaussian remain and are stated
        in the report (`tests/dpft/test_randomness.py`).

    References:
        RFC 8439 (ChaCha20); Box and Muller 1958; Mironov 2012 on floating-point noise.
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
        """Return a secret seed for the forward pass (dropout) of one step.

        Privacy:
            torch's CPU generator takes 32 bits of it and is not cryptographic; dropout masks add
            nothing to the guarantee, which holds for any mask that is independent of the data.
        """
        return int(self.stream(Purpose.FORWARD, step).integers(1)[0] >> np.uint64(1))


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
        """Return `count` independent standard normals in float64."""
        pairs = (count + 1) // 2
        uniforms = self._uniforms(2 * pairs)
        radius = np.sqrt(-2.0 * np.log(uniforms[:pairs]))
        angle = 2.0 * np.pi * uniforms[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def _uniforms(self, count: int) -> _Floats:
        top = (self.integers(count) >> np.uint64(64 - _MANTISSA_BITS)).astype(np.float64)
        return (top + 0.5) * 2.0**-_MANTISSA_BITS
