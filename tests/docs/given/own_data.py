"""What the page on own data takes for granted: a model, and records of patients."""

from transformers import AutoModelForSequenceClassification, AutoTokenizer

import dpft
from dpft.losses import Classification
from dpft.recipes.embedded import MODEL_DIR
from dpft.records import EncodingSettings
from dpft.training import FitOptions

__all__ = ["Classification", "EncodingSettings", "FitOptions", "dpft"]

model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR, num_labels=2)
tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
records = [
    {"text": f"visit {n} went well", "label": n % 2, "patient": f"p{n // 3}"} for n in range(90)
]
