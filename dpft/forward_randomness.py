"""The generators of torch during a forward pass, keyed from the secret bits of the step.

Dropout draws from torch's own generators, which no caller can replace. Their whole state can be:
on the CPU all words of it are taken from the keystream.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from dpft.errors import UnsupportedError
from dpft.randomness import SecretRandomness

__all__ = ["secret_forward"]

# How torch lays the state of its CPU generator out: seed, position, 624 words of 64 bits of which
# the lower 32 count, a normal in reserve.
_STATE_BYTES, _FIRST_WORD, _WORD_BYTES = 5056, 24, 8


@contextmanager
def secret_forward(randomness: SecretRandomness, step: int) -> Iterator[None]:
    """Let a forward pass draw from secret generators; the user's are put back as they were.

    Args:
        randomness: Where the secret bits come from.
        step: Number of the step.

    Raises:
        UnsupportedError: If this release of torch keeps the state of its generator otherwise.

    Privacy:
        On the CPU MT19937 with 19968 secret bits of state, on CUDA Philox with a secret key of 63
        bits: freshly keyed by ChaCha20 at every step, though neither is a cryptographic generator
        (`test_the_whole_state_of_the_forward_pass_is_secret`,
        `test_dropout_does_not_follow_the_users_seed`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(randomness.forward_seed(step))
        torch.set_rng_state(_with_words(torch.get_rng_state(), randomness.forward_state(step)))
        yield


def _with_words(state: torch.Tensor, words: npt.NDArray[np.uint32]) -> torch.Tensor:
    """Return a freshly seeded state of the CPU generator with other words."""
    if state.numel() != _STATE_BYTES:
        raise UnsupportedError(
            f"Expected torch.get_rng_state() to have {_STATE_BYTES} bytes, got {state.numel()}. "
            "Masks that follow from a seed of 32 bits could be searched for. Use a release of "
            "torch that pyproject.toml allows."
        )
    filled = state.numpy().copy()
    end = _FIRST_WORD + _WORD_BYTES * words.size
    filled[_FIRST_WORD:end] = words.astype("<u8").view(np.uint8)
    return torch.from_numpy(filled)
