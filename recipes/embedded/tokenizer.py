"""The tokenizer of the embedded encoder: lower-case byte pairs, trained on the public corpus.

Byte pairs rather than WordPiece because their trainer repeats exactly: that of WordPiece breaks
ties by the order of a randomly seeded hash map (seen with tokenizers 0.23).

May be imported by `pretraining.py` and `pretrain.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

__all__ = ["MAX_TOKENS", "SPECIAL_TOKENS", "train_tokenizer"]

MAX_TOKENS = 64
SPECIAL_TOKENS: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: The public corpus.
        vocabulary_size: Number of tokens at most, special ones and the 256 bytes included.

    Returns:
        A tokenizer that adds `[CLS]` and `[SEP]`, cuts at `MAX_TOKENS` when asked to, and can be
        saved as a Hugging Face folder.

    Privacy:
        Nothing private: the vocabulary is learnt from public text alone.

    References:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """
    from transformers import PreTrainedTokenizerFast

    core = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, model_max_length=MAX_TOKENS, **_names_of_special_tokens()
    )


def _untrained() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    return core


def _names_of_special_tokens() -> dict[str, str]:
    fields = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(fields, SPECIAL_TOKENS, strict=True))
