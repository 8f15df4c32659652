"""What the page on adapters takes for granted: models."""

from transformers import AutoModelForSequenceClassification

from dpft.recipes.embedded import MODEL_DIR


def fresh() -> object:
    """Return a model without an adapter."""
    return AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)


model = fresh()
