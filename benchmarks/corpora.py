"""Corpora whose lengths are real, each with the model that is trained on it and its loss.

Sentences (SST-2) and pairs (the development file of MNLI) for MiniLM with a classification head;
tables with their texts (E2E, DART) for the decoder of the package, which learns the text alone.
Always LoRA r = 8. Records are read from `$DPFT_ASSETS` and encoded as the recipes do; without it
they are drawn to the same lengths.
"""

import dataclasses
from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from benchmarks.cases import Family, Method, adapted, assets, base_model, quiet
from benchmarks.lengths import Lengths, drawn_records
from dpft.losses import CausalLanguageModelling, Classification
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.decoder import DECODER_DIR
from dpft.recipes.tasks import Split, build_task
from dpft.recipes.tasks.traits import traits_of
from dpft.recipes.text_targets import encode_text_targets
from dpft.records import EncodingSettings, Row, encode

__all__ = ["Corpus", "Material", "material"]


class Corpus(str, Enum):
    """Corpora by name."""

    SST2 = "sst2"
    MNLI = "mnli"
    E2E = "e2e"
    DART = "dart"


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is known of a corpus without reading it."""

    title: str
    count: int
    lengths: Lengths

    @property
    def is_written(self) -> bool:
        return not self.lengths.classes


_FACTS = {
    Corpus.SST2: _Facts("sentences of SST-2", 67_349, Lengths(2.07, 0.89, 3, 66, classes=2)),
    Corpus.MNLI: _Facts("pairs of MNLI-dev", 15_682, Lengths(3.51, 0.50, 6, 128, classes=3)),
    Corpus.E2E: _Facts("tables and texts of E2E", 42_061, Lengths(4.22, 0.28, 25, 148, classes=0)),
    Corpus.DART: _Facts(
        "triples and texts of DART", 51_635, Lengths(4.41, 0.44, 15, 256, classes=0)
    ),
}
_DRAWN = "lengths drawn from a log-normal distribution"
_QUICK_RECORDS, _QUICK_VOCABULARY = 400, 100
_VOCABULARY = {True: 4096, False: 30_522}  # by whether texts are written
_QUICK_DECODER: dict[str, Any] = {
    "vocab_size": _QUICK_VOCABULARY,
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


@dataclasses.dataclass(frozen=True)
class Material:
    """What all loops are given of a corpus.

    Args:
        model: With its adapter, in train mode, on the CPU.
        records: Encoded records.
        loss: Of a record.
        tokenizer: Pads.
        source: Where the lengths come from, in words.

    Privacy:
        Public records, of a benchmark.
    """

    model: nn.Module
    records: Sequence[Row]
    loss: Classification | CausalLanguageModelling
    tokenizer: Any
    source: str


def material(corpus: Corpus, *, quick: bool) -> Material:
    """Return model, records and loss of a corpus.

    Args:
        corpus: Which one.
        quick: Tiny and drawn, to see that a script runs.

    Privacy:
        Nothing private: public data sets, and nothing of them is released.
    """
    facts = _FACTS[corpus]
    torch.manual_seed(0)
    base = _decoder(quick=quick) if facts.is_written else _encoder(facts, quick=quick)
    is_real = assets() is not None and not quick
    tokenizer = _tokenizer(facts, is_real=is_real)
    return Material(
        model=adapted(base, Method.LORA).train(),
        records=_real(corpus, tokenizer) if is_real else _drawn(facts, quick=quick),
        loss=CausalLanguageModelling() if facts.is_written else Classification(),
        tokenizer=tokenizer,
        source=facts.title if is_real else _DRAWN,
    )


def _encoder(facts: _Facts, *, quick: bool) -> Any:
    return base_model(Family.MINILM, quick=quick, classes=facts.lengths.classes)


def _decoder(*, quick: bool) -> Any:
    quiet()
    if quick:
        config = AutoConfig.from_pretrained(DECODER_DIR, **_QUICK_DECODER, use_cache=False)
        return LlamaForCausalLM(config)
    return LlamaForCausalLM.from_pretrained(DECODER_DIR, use_cache=False, dtype=torch.float32)


def _tokenizer(facts: _Facts, *, is_real: bool) -> Any:
    """Return what pads; that of the package pads drawn records of either model alike."""
    folder = assets()
    if facts.is_written or folder is None or not is_real:
        return AutoTokenizer.from_pretrained(DECODER_DIR)
    return AutoTokenizer.from_pretrained(folder / "models" / "minilm-l6")


def _drawn(facts: _Facts, *, quick: bool) -> list[dict[str, Any]]:
    if quick:
        return drawn_records(_QUICK_RECORDS, _QUICK_VOCABULARY, facts.lengths)
    return drawn_records(facts.count, _VOCABULARY[facts.is_written], facts.lengths)


def _real(corpus: Corpus, tokenizer: Any) -> list[dict[str, Any]]:
    """Read the training records of the recipe of a corpus and encode them as it does."""
    settings = compose_settings([f"task={corpus.value}", f"architecture={corpus.value}"])
    task, longest = build_task(settings.task), settings.architecture.max_length
    rows, traits = task.load(Split.TRAIN), traits_of(task)
    if _FACTS[corpus].is_written:
        return encode_text_targets(rows, traits, tokenizer, longest, has_encoder=False)
    columns = EncodingSettings(
        text_field=task.text_field,
        pair_field=traits.pair_field,
        label_field=task.label_field,
        max_length=longest,
    )
    return encode(rows, tokenizer, columns)
