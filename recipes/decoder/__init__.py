"""The small pretrained decoder: a Llama of a few million parameters, made from public text.

`DECODER_DIR` holds it in Hugging Face form, `python -m dpft.recipes.decoder.pretrain` makes it.
Importing this package imports neither torch nor transformers.
"""

from pathlib import Path

__all__ = ["DECODER_DIR"]

DECODER_DIR = Path(__file__).parent / "model"
