from collections.abc import Mapping

import pytest
import torch

from dpft.adapters.prefix import configure
from dpft.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

Tensors = Mapping[str, torch.Tensor]


def test_there_are_ten_positions_unless_asked_for_otherwise() -> None:
    assert configure("bert", "SEQ_CLS").num_virtual_tokens == 10
    assert configure("bert", "SEQ_CLS", num_virtual_tokens=4).num_virtual_tokens == 4


def test_without_a_task_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="task_type to be given with adapter=prefix"):
        configure("bert", None)
