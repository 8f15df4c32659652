"""How prompts are mixed for one record: attention by its tokens over source and target prompts.

Pure functions of tensors. The parameters stand in `dpft.adapters.attempt_layer`.

Shapes: B records, T tokens, D width, L prompt tokens, M sources, N = M + 1 prompts in all.
"""

import math

import torch

__all__ = ["attention_weights", "mix", "pool_tokens"]


def pool_tokens(embeds_BTD: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor:
    """Return the largest value of each feature over a record's own tokens.

    Args:
        embeds_BTD: Input embeddings [B, T, D].
        mask_BT: Attention mask [B, T], zero where a token is padding; None if none is.

    Returns:
        Pooled embeddings [B, D]; zeros for a record without a token.

    Privacy:
        Row b depends on record b only, however much its batch was padded
        (`test_pooling_is_blind_to_padding`). The authors' code pools padding as well.

    Example:
        >>> embeds = torch.tensor([[[1.0], [5.0]], [[-2.0], [-1.0]]])
        >>> pool_tokens(embeds, torch.tensor([[1, 0], [1, 1]])).tolist()
        [[1.0], [-1.0]]
    """
    if mask_BT is None:
        return embeds_BTD.amax(1)
    padding_BT1 = (mask_BT == 0).unsqueeze(-1)
    pooled_BD = embeds_BTD.masked_fill(padding_BT1, -math.inf).amax(1)
    return pooled_BD.masked_fill(padding_BT1.all(1), 0.0)


def attention_weights(
    query_BD: torch.Tensor,
    sources_MLD: torch.Tensor,
    target_BLD: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return the weights of the sources and, last, of the record's own target prompt.

    Args:
        query_BD: Output of the attention network [B, D].
        sources_MLD: Source prompts [M, L, D].
        target_BLD: Target prompt of each record [B, L, D].
        temperature: Divisor of the scores, above 0.

    Returns:
        Weights [B, M + 1] that sum to one.

    Privacy:
        Row b depends on record b only (`tests/adapters/test_attempt.py`).

    References:
        Asai et al. 2022 (2205.11961), equation 1; keys are max-pooled over a prompt's tokens.
    """
    of_sources_BM = query_BD @ sources_MLD.amax(1).T
    of_target_B1 = (query_BD * target_BLD.amax(1)).sum(-1, keepdim=True)
    return torch.softmax(torch.cat([of_sources_BM, of_target_B1], 1) / temperature, -1)


def mix(
    weights_BN: torch.Tensor, sources_MLD: torch.Tensor, target_BLD: torch.Tensor
) -> torch.Tensor:
    """Return each record's prompt: the weighted prompts, and its target once more.

    Args:
        weights_BN: Weights [B, M + 1], the target's last.
        sources_MLD: Source prompts [M, L, D].
        target_BLD: Target prompt of each record [B, L, D].

    Returns:
        Prompts [B, L, D].

    Privacy:
        Row b depends on record b only (`tests/adapters/test_attempt.py`).

    References:
        Asai et al. 2022 (2205.11961), equation 2.
    """
    mixed_BLD = torch.einsum("bm,mld->bld", weights_BN[:, :-1], sources_MLD)
    return mixed_BLD + (1.0 + weights_BN[:, -1, None, None]) * target_BLD
