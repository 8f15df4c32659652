"""A small configuration that has what can go wrong: sharing, a prompt, padding and dropout."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import dpft
from dpft.auditing import AuditTarget
from dpft.records import collate

_ROWS = [
    {"input_ids": list(range(3, 3 + length)), "attention_mask": [1] * length, "labels": length % 3}
    for length in (7, 11, 4)
]


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8).requires_grad_(requires_grad=False)
        self.prompt = nn.Parameter(torch.randn(2, 8))
        self.shared = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.2)
        self.mixing = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        prompts = self.prompt.expand(len(input_ids), -1, -1)
        hidden = torch.cat([prompts, self.words(input_ids)], dim=1)
        mask = functional.pad(attention_mask, (2, 0), value=1).unsqueeze(-1)
        hidden = torch.tanh(self.shared(self.dropout(hidden)))
        hidden = torch.tanh(self.mixing(self.shared(hidden)))
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        logits: torch.Tensor = self.head(pooled)
        return logits


def _loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = model(batch["input_ids"], batch["attention_mask"])
    return functional.cross_entropy(logits, batch["labels"], reduction="none")


@pytest.fixture
def plan() -> dpft.privacy.PrivacyPlan:
    privacy = dpft.Privacy(
        noise_multiplier=1.1, delta=1e-6, num_records=10_000, expected_batch_size=200, steps=300
    )
    return privacy.plan(10_000)


@pytest.fixture
def target(plan: dpft.privacy.PrivacyPlan) -> AuditTarget:
    torch.manual_seed(0)
    return AuditTarget(_Model(), _loss, _ROWS, partial(collate, pad_token_id=0), plan)
