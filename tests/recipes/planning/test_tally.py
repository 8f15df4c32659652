"""What is counted without values is what torch allocates with them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from dpft.recipes.planning.tally import Tally, fused_attention
from tests.recipes.allocations import peak_bytes


def step(device: str) -> tuple[Callable[[], object], list[torch.Tensor]]:
    """Return a forward and backward pass, and what is there before it."""
    layers = [nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), nn.LayerNorm(16), nn.Linear(16, 8)]
    model = nn.Sequential(*layers).to(device)
    inputs = torch.ones(64, 128, 16, device=device)
    return lambda: model(inputs).exp().sum().backward(), [inputs, *model.parameters()]


def counted(device: str) -> Tally:
    action, held = step(device)
    tally = Tally(held)
    with tally:
        action()
    return tally


def test_as_much_is_counted_as_torch_allocates() -> None:
    action, held = step("cpu")
    assert counted("meta").peak == peak_bytes(action)
    assert held[1].grad is not None


def test_operations_are_those_of_the_matrix_products() -> None:
    forward = 2 * 64 * 128 * (16 * 32 + 32 * 16 + 16 * 8)
    first = 2 * 64 * 128 * 16 * 32  # whose inputs need no gradient
    assert counted("meta").flops == 3 * forward - first


def test_what_is_let_go_is_no_longer_counted_and_views_never_are() -> None:
    held = torch.empty(100, device="meta")
    tally = Tally([held])
    with tally:
        view = held[:50].view(5, 10)
        assert tally.live == 0
        made = view + 1
        assert tally.live == 200
        seen = made.t()
        del made
        assert tally.live == 200, "a view keeps what it shows"
        del seen
        assert (tally.live, tally.peak) == (0, 200)
        kept = held + 1
        tally.start_over()
        assert (tally.live, tally.peak) == (0, 0)
        assert len(kept) == 100


def test_masks_hide_something_and_buffers_stay_as_they_are() -> None:
    values = torch.empty(3, device="meta")
    with Tally():
        assert not bool((values > 0).all())
        assert torch.equal(values, values.clone())
        with pytest.raises(RuntimeError, match="meta"):
            values.sum().item()


@pytest.mark.parametrize("heads", [4, 2])
def test_attention_keeps_no_scores(heads: int) -> None:
    long = 256
    plain = functional.scaled_dot_product_attention

    def keeps(tally: Tally) -> int:
        query = torch.empty(2, 4, long, 8, device="meta", requires_grad=True)
        key = torch.empty(2, heads, long, 8, device="meta")
        grouped = heads != 4
        with tally:
            result = functional.scaled_dot_product_attention(query, key, key, enable_gqa=grouped)
            assert result.shape == query.shape
            torch.autograd.backward(result.sum())
        return tally.peak

    scores = 2 * 4 * long * long * 4
    with fused_attention():
        fused = keeps(Tally())
    assert functional.scaled_dot_product_attention is plain
    assert fused < scores < keeps(Tally())


def test_attention_with_values_is_torchs_own() -> None:
    query = torch.randn(1, 2, 3, 4)
    here = functional.scaled_dot_product_attention(query, query, query)
    with fused_attention():
        torch.testing.assert_close(
            functional.scaled_dot_product_attention(query, query, query), here
        )
