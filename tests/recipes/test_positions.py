"""Records may not be longer than the model has positions."""

from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.positions import refuse_missing_positions


def test_more_tokens_than_positions_are_refused(tiny_masked: Path) -> None:
    refuse_missing_positions(str(tiny_masked), 64)
    with pytest.raises(ConfigurationError, match="max_length=65 <= 64"):
        refuse_missing_positions(str(tiny_masked), 65)


def test_relative_positions_have_no_end(tiny_encoder_decoder: Path) -> None:
    refuse_missing_positions(str(tiny_encoder_decoder), 100_000)


def test_a_model_that_is_not_there_is_left_to_its_loading() -> None:
    refuse_missing_positions("nobody/nothing", 10)
