"""Rules: how one kind of operation yields per-record gradients cheaply.

A rule says whether it applies to a call; what none of them takes goes to the generic rule.
"""

from typing import Any

from dpft.engine.boundary import Call, Rule
from dpft.engine.rules.elementwise import ELEMENTWISE, elementwise_applies
from dpft.engine.rules.embedding import EMBEDDING, embedding_applies
from dpft.engine.rules.expand import EXPAND, expand_applies
from dpft.engine.rules.generic import GENERIC
from dpft.engine.rules.layer_norm import LAYER_NORM, layer_norm_applies
from dpft.engine.rules.linear import (
    ADDMM,
    LINEAR,
    MATMUL,
    addmm_applies,
    linear_applies,
    matmul_applies,
)
from dpft.engine.rules.rms_norm import RMS_NORM, rms_norm_applies
from dpft.errors import UnsupportedError

__all__ = ["rule_for"]

_RULES: tuple[tuple[Any, Rule], ...] = (
    (linear_applies, LINEAR),
    (addmm_applies, ADDMM),
    (matmul_applies, MATMUL),
    (embedding_applies, EMBEDDING),
    (layer_norm_applies, LAYER_NORM),
    (rms_norm_applies, RMS_NORM),
    (elementwise_applies, ELEMENTWISE),
    (expand_applies, EXPAND),
)


def rule_for(call: Call) -> Rule:
    """Return the rule that carries out a call.

    Raises:
        UnsupportedError: For a custom autograd Function, which has no per-record gradient here, and
            for complex tensors.

    Privacy:
        Every rule is checked against the generic one and against a loop over single records
        (`tests/dpft/engine/test_rules.py`).
    """
    if getattr(call.func, "dpft_custom_function", False):
        raise UnsupportedError(
            f"Expected no custom autograd Function where a trainable parameter meets records, got "
            f"{call.name}. Its per-record gradient is unknown. Write it with ordinary operations, "
            "or freeze the parameter."
        )
    if any(operand.is_complex() for operand in call.operands):
        raise UnsupportedError(
            f"Expected real tensors at {call.name}, got complex ones. Their per-record gradients "
            "were not shown to be exact. Use real and imaginary parts, or freeze the parameter."
        )
    for applies, rule in _RULES:
        if applies(call):
            return rule
    return GENERIC
