"""The tokenizer of the decoder: byte pairs with case, digits one by one.

May be imported by `pretraining.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerFast

__all__ = ["MAX_TOKENS", "SPECIAL_TOKENS", "train_tokenizer"]

MAX_TOKENS = 256
SPECIAL_TOKENS: tuple[str, ...] = ("<pad>", "<bos>", "<eos>")


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that adds no special tokens by itself.

    Args:
        texts: Public text.
        vocabulary_size: Number of tokens at most, special ones and the 256 bytes included.

    Returns:
        The tokenizer; it can be saved as a Hugging Face folder.

    Privacy:
        Nothing private: the vocabulary is learnt from public text alone.

    References:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
        Digits stand alone so that a number can be copied sign by sign.
    """
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    pad, bos, eos = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        model_max_length=MAX_TOKENS,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
    )
