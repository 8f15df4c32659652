"""What the README takes for granted: a model, here the one of the package."""

from transformers import AutoModelForSequenceClassification

from dpft.recipes.embedded import MODEL_DIR

base_model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR, num_labels=2)
