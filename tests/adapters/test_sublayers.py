from pathlib import Path

import pytest
import torch
from peft import PeftConfig
from torch import nn

from dpft.adapters.bottleneck import BottleneckConfig, BottleneckLayer
from dpft.adapters.sublayers import Placement, SublayerConfig, with_targets
from dpft.adapters.targets import sublayer_targets
from dpft.errors import ConfigurationError

ENCODERS = ("bert", "deberta", "deberta-v2", "distilbert", "roberta")
ARCHITECTURES = [*ENCODERS, "gpt2", "llama", "mistral", "qwen2", "qwen3", "t5"]


class Pair(nn.Module):
    """Returns what an attention layer does: its output and something else."""

    def forward(self, hidden: torch.Tensor, *, weight: float) -> tuple[torch.Tensor, float]:
        return weight * hidden, weight


def layer(base: nn.Module, placement: Placement) -> BottleneckLayer:
    config = BottleneckConfig(placement=placement, reduction_factor=2, init_std=1.0)
    made = BottleneckLayer(base, 4, torch.empty(0))
    made.add("default", config)
    made.set_adapter("default")
    return made


@pytest.mark.parametrize("placement", Placement)
def test_of_a_tuple_the_first_entry_alone_is_changed(placement: Placement) -> None:
    adapted, hidden = layer(Pair(), placement), torch.randn(2, 3, 4)
    output, other = adapted(hidden, weight=2.0)
    expected = 2 * hidden + adapted.delta("default", 2 * hidden)
    torch.testing.assert_close(output, expected)
    assert other == 2.0


def test_pfeiffer_around_a_norm_applies_the_norm_twice() -> None:
    norm, stream = nn.LayerNorm(4), torch.randn(2, 3, 4)
    adapted = layer(norm, Placement.PFEIFFER)
    expected = norm(stream + adapted.delta("default", norm(stream)))
    torch.testing.assert_close(adapted(stream), expected)
    torch.testing.assert_close(adapted(input=stream), expected)


def test_houlsby_around_a_norm_adds_to_what_it_returns() -> None:
    norm, stream = nn.LayerNorm(4), torch.randn(2, 3, 4)
    adapted = layer(norm, Placement.HOULSBY)
    expected = norm(stream) + adapted.delta("default", norm(stream))
    torch.testing.assert_close(adapted(stream), expected)


def test_the_output_keeps_the_type_of_the_model() -> None:
    adapted = layer(nn.Identity(), Placement.HOULSBY)
    hidden = torch.randn(2, 4).to(torch.bfloat16)
    exact = hidden.float() + adapted.delta("default", hidden.float())
    assert adapted(hidden).dtype == torch.bfloat16
    torch.testing.assert_close(adapted(hidden).float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_has_targets_at_every_place(
    model_type: str, placement: Placement
) -> None:
    config = with_targets(SublayerConfig(placement=placement), model_type)
    assert config.target_modules == sublayer_targets(model_type, placement.value)


def test_targets_given_by_hand_are_kept() -> None:
    config = SublayerConfig(target_modules=["mixer"], exclude_modules=["head"])
    assert with_targets(config, "mamba").target_modules == {"mixer"}
    assert config.exclude_modules == {"head"}


def test_the_width_is_rounded_down_and_never_zero() -> None:
    assert SublayerConfig(reduction_factor=16).width(770) == 48
    assert SublayerConfig(reduction_factor=1.5).width(16) == 10
    with pytest.raises(ConfigurationError, match="reduction_factor=16 to be at most the width 15"):
        SublayerConfig(reduction_factor=16).width(15)


def test_the_placement_is_written_as_text_and_read_back(tmp_path: Path) -> None:
    BottleneckConfig(placement=Placement.PFEIFFER).save_pretrained(str(tmp_path))
    assert '"placement": "pfeiffer"' in (tmp_path / "adapter_config.json").read_text()
    read = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(read, BottleneckConfig)
    assert read.placement is Placement.PFEIFFER
