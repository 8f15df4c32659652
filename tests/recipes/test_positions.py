"""Records may not be longer than the model has positions."""

from pathlib import Path

import pytest
from transformers import RobertaConfig

from dpft.errors import ConfigurationError
from dpft.recipes.positions import refuse_missing_positions


def test_more_tokens_than_positions_are_refused(tiny_masked: Path) -> None:
    refuse_missing_positions(str(tiny_masked), 64)
    with pytest.raises(ConfigurationError, match="max_length=65 <= 64"):
        refuse_missing_positions(str(tiny_masked), 65)


def test_a_soft_prompt_and_written_text_take_positions(
    tiny_decoder: Path, tiny_masked: Path
) -> None:
    refuse_missing_positions(str(tiny_decoder), 512 - 20 - 64, soft=20, written=64)
    with pytest.raises(ConfigurationError, match=r"<= 428.*num_virtual_tokens=20 less gen"):
        refuse_missing_positions(str(tiny_decoder), 512 - 20 - 63, soft=20, written=64)
    with pytest.raises(ConfigurationError, match="max_length=64 <= 44"):
        refuse_missing_positions(str(tiny_masked), 64, soft=20)


def test_positions_of_roberta_are_counted_from_its_padding(tmp_path: Path) -> None:
    RobertaConfig(max_position_embeddings=66, pad_token_id=1).save_pretrained(tmp_path)
    refuse_missing_positions(str(tmp_path), 64)
    with pytest.raises(ConfigurationError, match="max_length=65 <= 64"):
        refuse_missing_positions(str(tmp_path), 65)


def test_relative_positions_have_no_end(tiny_encoder_decoder: Path) -> None:
    refuse_missing_positions(str(tiny_encoder_decoder), 100_000)


def test_a_model_that_is_not_there_is_left_to_its_loading() -> None:
    refuse_missing_positions("nobody/nothing", 10)
