"""Bottleneck adapters: A(u) = W_up act(W_down u + b_down) + b_up.

The weighted sum of such networks is one whose bottleneck is the concatenation of theirs, with the
weights on W_up and b_up alone. It is exact at each place for one input; at a constant width no sum
exists, and none with a LayerNorm inside.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dpft.adapters.algebra.linear import same_shape, weighted_sum
from dpft.errors import ConfigurationError

__all__ = ["Bottleneck", "padded"]


@dataclasses.dataclass(frozen=True, eq=False)
class Bottleneck:
    """One network: D is the model's width, M the adapter's.

    Args:
        down: W_down [M, D].
        down_bias: b_down [M].
        up: W_up [D, M].
        up_bias: b_up [D].
        norms: Weights of LayerNorms inside, by name; nearly always empty.
    """

    down: torch.Tensor
    down_bias: torch.Tensor
    up: torch.Tensor
    up_bias: torch.Tensor
    norms: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """M."""
        return len(self.down)

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Return the tensors that it consists of, by name.

        Privacy:
            Nothing, no data touched.
        """
        names = ("down", "down_bias", "up", "up_bias")
        return {name: getattr(self, name) for name in names} | dict(self.norms)

    def trained(self) -> torch.Tensor:
        """Return what began at zero: the biases.

        Privacy:
            Nothing, no data touched.
        """
        return torch.cat([self.down_bias, self.up_bias])

    @classmethod
    def combined(cls, terms: Sequence[tuple[float, "Bottleneck"]]) -> "Bottleneck":
        """Return the network that does what the weighted networks do side by side.

        Args:
            terms: Weights and parts, at least one.

        Raises:
            ConfigurationError: If widths of the model differ, or a LayerNorm stands inside.

        Privacy:
            Nothing, no data touched.
        """
        parts: list[Any] = [part for _, part in terms]
        if any(part.norms for part in parts):
            raise ConfigurationError(
                "Expected ln_before=False and ln_after=False. With a LayerNorm inside the adapter "
                "no sum or multiple is exact. Use it alone with weight 1, or train without it."
            )
        same_shape([part.up_bias for part in parts])
        ups = [weighted_sum([(weight, part.up)]) for weight, part in terms]
        return cls(
            down=torch.cat([part.down for part in parts]),
            down_bias=torch.cat([part.down_bias for part in parts]),
            up=torch.cat(ups, 1),
            up_bias=weighted_sum([(weight, part.up_bias) for weight, part in terms]),
        )


def padded(part: Bottleneck, width: int) -> Bottleneck:
    """Return the same network with idle units: what leaves them is multiplied by zero.

    Args:
        part: A network.
        width: At least its own.

    Privacy:
        Nothing, no data touched.
    """
    more, model = width - part.width, len(part.up_bias)
    if not more:
        return part
    new = part.down.new_zeros
    return dataclasses.replace(
        part,
        down=torch.cat([part.down, new(more, model)]),
        down_bias=torch.cat([part.down_bias, new(more)]),
        up=torch.cat([part.up, new(model, more)], 1),
    )
