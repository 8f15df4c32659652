"""PHM, parameterised hypercomplex multiplication: a linear map made of few numbers.

The map is H = sum_i S_i (x) (L_i R_i), a sum of n Kronecker products: the rule S says how blocks of
the input mix into blocks of the output, and n matrices of rank k act within the blocks. What is
built of it stands in `dpft.adapters.compacter`. Plain tensor algebra; imports torch.

Shapes: A numbers in a block of the input, C in one of the output, n of either, k the rank:
x [..., n A], S [n, n, n], L [n, A, k], R [n, k, C], b [n C], y [..., n C].
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from dpft.errors import ConfigurationError

__all__ = [
    "PHMLinear",
    "PHMRule",
    "PHMSizes",
    "block_width",
    "kronecker_sum",
    "phm_by_factors",
    "phm_by_one_product",
    "phm_linear",
]


# How many times fewer multiplications the factors must need before they are the faster form, since
# they are many small products and H is one large one. Measured forward and backward over 8 x 128
# rows, float32, one thread of a busy AMD EPYC, 21 November 2026, plain / with per-record gradients:
# at 768 -> 24 and 24 -> 768 with n = 4, k = 1 (5.7 times fewer) the factors took 1.0 / 1.2 times as
# long as H; at 768 <-> 48 (11 times) 0.6 / 1.2, at 4096 <-> 128 with k = 4 (7.7 times) 0.6 / 0.6,
# with k = 1 (31 times) 0.3 / 0.5, at 768 -> 192 (38 times) 0.3 / 0.7.
_WORTH = 6


@dataclass(frozen=True)
class PHMSizes:
    """How many numbers a PHM map is made of.

    Args:
        blocks: n, how many Kronecker products are summed, and blocks of input and output there
            are, >= 1.
        rank: k, rank of what acts within the blocks, >= 1.
    """

    blocks: int
    rank: int


def phm_linear(
    x: torch.Tensor,
    rule: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Return x H + b with H = sum_i S_i (x) (L_i R_i), in the form that its sizes ask for.

    The form follows from the sizes of the parameters alone, never from the batch: what is computed
    of a record does not depend on how many others there are.

    Args:
        x: Data [..., n A].
        rule: S [n, n, n].
        left: L [n, A, k].
        right: R [n, k, C].
        bias: b [n C], or None for none.

    Returns:
        y [..., n C].

    Privacy:
        Each row of x makes its own row of y, as in `torch.nn.functional.linear`; checked by
        `test_gradients_equal_a_loop_over_single_records` in tests/adapters/test_compacter.py.

    References:
        Zhang et al. 2021 (2102.08597), equation 2, for PHM; Mahabadi et al. 2021 (2106.04647),
        equations 5 and 6, for the factors and the shared rule.
    """
    form = phm_by_factors if _saves_enough(left, right) else phm_by_one_product
    return form(x, rule, left, right, bias)


def phm_by_factors(
    x: torch.Tensor,
    rule: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Return x H + b without forming H: u = X L, w = S u, y = w R, block by block.

    Costs n k (n A + n^2 + n C) multiplications a row.

    Args:
        x: Data [..., n A].
        rule: S [n, n, n].
        left: L [n, A, k].
        right: R [n, k, C].
        bias: b [n C], or None for none.

    Returns:
        y [..., n C].

    Privacy:
        As `phm_linear`.
    """
    blocks, width_in, rank = left.shape
    rows = x.shape[:-1]
    flat_left = left.transpose(0, 1).reshape(width_in, blocks * rank)
    u = x.reshape(*rows, blocks, width_in) @ flat_left
    w = torch.einsum("...pik,ipq->...qik", u.reshape(*rows, blocks, blocks, rank), rule)
    y = w.reshape(*rows, blocks, blocks * rank) @ right.reshape(blocks * rank, -1)
    flat = y.reshape(*rows, -1)
    return flat if bias is None else flat + bias


def phm_by_one_product(
    x: torch.Tensor,
    rule: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Return x H + b with H formed once and one product of matrices.

    Costs n A n C multiplications a row.

    Args:
        x: Data [..., n A].
        rule: S [n, n, n].
        left: L [n, A, k].
        right: R [n, k, C].
        bias: b [n C], or None for none.

    Returns:
        y [..., n C].

    Privacy:
        As `phm_linear`.
    """
    return functional.linear(x, kronecker_sum(rule, left, right).T, bias)


def kronecker_sum(rule: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return H = sum_i S_i (x) (L_i R_i), [n A, n C].

    Privacy:
        Nothing, no data touched.
    """
    blocks, width_in, _ = left.shape
    summed = torch.einsum("ipq,iac->paqc", rule, left @ right)
    return summed.reshape(blocks * width_in, -1)


class PHMRule(nn.Module):
    """The rule S [n, n, n] as a parameter, or as n products of a column and a row.

    S_i = s_i t_i^T where factorised, which is 2 n^2 numbers in place of n^3.

    Args:
        blocks: n, >= 1.
        init_range: Standard deviation of the normal numbers that it begins with, >= 0.
        factorised: Whether to keep the columns and rows instead of S.

    Privacy:
        Nothing, no data touched.

    References:
        Mahabadi et al. 2021 (2106.04647), section 3.2; initialised as in the authors' code.
    """

    def __init__(self, blocks: int, init_range: float, *, factorised: bool = False) -> None:
        super().__init__()
        self.factorised = factorised
        if factorised:
            self.left = nn.Parameter(torch.empty(blocks, blocks, 1))
            self.right = nn.Parameter(torch.empty(blocks, 1, blocks))
        else:
            self.full = nn.Parameter(torch.empty(blocks, blocks, blocks))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=init_range)

    def forward(self) -> torch.Tensor:
        """Return S.

        Privacy:
            Nothing, no data touched.
        """
        return self.left @ self.right if self.factorised else self.full


class PHMLinear(nn.Module):
    """A PHM map without its rule, which comes with every call because others may share it.

    Args:
        in_features: n A, width of the input.
        out_features: n C, width of the output.
        sizes: n and k.
        bias: Whether to add a bias, which begins at zero.

    Raises:
        ConfigurationError: If n does not divide a width.

    Privacy:
        As `phm_linear`.

    References:
        Mahabadi et al. 2021 (2106.04647), equation 6; L_i and R_i are initialised as in the
        authors' code, uniformly after Glorot with gain sqrt(2), for each i on its own.

    Example:
        >>> layer, rule = PHMLinear(768, 24, PHMSizes(blocks=4, rank=1)), PHMRule(4, 1e-4)
        >>> layer(torch.ones(2, 768), rule()).shape
        torch.Size([2, 24])
        >>> sum(parameter.numel() for parameter in layer.parameters())
        816
    """

    def __init__(
        self, in_features: int, out_features: int, sizes: PHMSizes, *, bias: bool = True
    ) -> None:
        super().__init__()
        blocks, rank = sizes.blocks, sizes.rank
        width_in = block_width(blocks, "in_features", in_features)
        width_out = block_width(blocks, "out_features", out_features)
        self.left = nn.Parameter(torch.empty(blocks, width_in, rank))
        self.right = nn.Parameter(torch.empty(blocks, rank, width_out))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        for factor in (*self.left, *self.right):
            nn.init.xavier_uniform_(factor, gain=math.sqrt(2))

    def forward(self, x: torch.Tensor, rule: torch.Tensor) -> torch.Tensor:
        """Return the map of x [..., in_features] by the rule S [n, n, n].

        Privacy:
            As `phm_linear`.
        """
        return phm_linear(x, rule, self.left, self.right, self.bias)


def block_width(blocks: int, field: str, width: int) -> int:
    """Return the width of one of n blocks.

    Args:
        blocks: n, >= 1.
        field: Name of the width, for the message.
        width: Number of features, >= 1.

    Raises:
        ConfigurationError: If there are no n equal blocks.

    Privacy:
        Nothing, no data touched.

    Example:
        >>> block_width(4, "hidden_size", 768)
        192
    """
    if blocks < 1 or width < 1 or width % blocks:
        raise ConfigurationError(
            f"Expected phm_dim={blocks} to divide {field}={width}. A sum of Kronecker products "
            f"needs blocks of equal width. Choose a phm_dim that divides {field}, or another "
            "reduction_factor."
        )
    return width // blocks


def _saves_enough(left: torch.Tensor, right: torch.Tensor) -> bool:
    blocks, width_in, rank = left.shape
    inputs, outputs = blocks * width_in, blocks * right.shape[2]
    by_factors = blocks * rank * (inputs + blocks**2 + outputs)
    return _WORTH * by_factors <= inputs * outputs
