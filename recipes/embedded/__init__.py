"""The embedded default: a task that looks private and a tiny encoder, both in the package.

`generate` makes labelled customer messages from a seed, `canaries` lists the secrets planted in
them, `MODEL_DIR` holds a pretrained BERT in Hugging Face form. Importing this package imports
neither torch nor transformers; the recipe that made the encoder is
`python -m dpft.recipes.embedded.pretrain`. May be imported by anything in `dpft.recipes`.
"""

from pathlib import Path

from dpft.recipes.embedded.canaries import Canary, canaries, reference_codes
from dpft.recipes.embedded.generator import DEFAULT_NUM_RECORDS, Record, generate
from dpft.recipes.embedded.topics import LABEL_NAMES, Split

__all__ = [
    "DEFAULT_NUM_RECORDS",
    "LABEL_NAMES",
    "MODEL_DIR",
    "Canary",
    "Record",
    "Split",
    "canaries",
    "generate",
    "reference_codes",
]

MODEL_DIR = Path(__file__).parent / "model"
