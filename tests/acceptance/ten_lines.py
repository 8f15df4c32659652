"""A user's ten lines, as strict type checkers see them; nothing of it is run."""

from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer

import dpft
from dpft.losses import Classification


def fine_tune(records: list[dict[str, Any]]) -> dpft.FitResult:
    """Fine-tune privately."""
    model = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained("roberta-base")
    result = dpft.fit(
        model,
        records,
        tokenizer=tokenizer,
        loss=Classification(),
        adapter="lora",
        privacy=dpft.Privacy(
            epsilon=3, delta=1e-6, num_records=100_000, expected_batch_size=1024, epochs=10
        ),
        out="runs/first",
    )
    epsilon: float = result.epsilon
    assert epsilon > 0
    return result
