"""Dropout follows secret bits, all of them, and leaves the user's generator alone."""

import numpy as np
import pytest
import torch

from dpft.errors import UnsupportedError
from dpft.forward_randomness import _with_words, secret_forward
from dpft.randomness import PinnedRandomness, SecretRandomness


def drawn_in(randomness: SecretRandomness, step: int = 0) -> torch.Tensor:
    with secret_forward(randomness, step):
        return torch.empty(2000, dtype=torch.int64).random_(0, 2**20)


def test_the_whole_state_of_the_forward_pass_is_secret() -> None:
    source = PinnedRandomness(3)
    reference = np.random.MT19937()
    key = source.forward_state(5)
    reference.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    expected = reference.random_raw(2000) % 2**20
    assert drawn_in(source, 5).tolist() == expected.tolist()
    assert len(set(key.tolist())) > 620


def test_an_equal_seed_of_32_bits_does_not_give_equal_masks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SecretRandomness, "forward_seed", lambda *_: 7)
    assert not torch.equal(drawn_in(SecretRandomness()), drawn_in(SecretRandomness()))


def test_masks_of_steps_and_of_runs_differ() -> None:
    source = SecretRandomness()
    assert not torch.equal(drawn_in(source, 0), drawn_in(source, 1))
    assert not torch.equal(drawn_in(source), drawn_in(SecretRandomness()))


def test_the_state_is_put_back_also_after_an_error() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()

    def fail() -> None:
        with secret_forward(SecretRandomness(), 0):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_another_layout_of_the_generator_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="5056 bytes, got 40"):
        _with_words(torch.zeros(40, dtype=torch.uint8), np.zeros(624, np.uint32))
