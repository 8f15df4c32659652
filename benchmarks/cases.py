"""What is measured: models of fixed size, fine-tuning methods, batches of random tokens.

MiniLM's weights come from `$DPFT_ASSETS/models/minilm-l6`; without it a model of the same size has
random ones, which costs the same. Dropout is off, as in the library's own recipes.
"""

import copy
import dataclasses
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftConfig, get_peft_model
from torch import nn

from dpft import adapters
from dpft.adapters import AdapterName
from dpft.losses import CausalLanguageModelling, Classification

__all__ = [
    "CASES",
    "Case",
    "Family",
    "Method",
    "Problem",
    "adapted",
    "assets",
    "base_model",
    "quiet",
]

_CLASSES = 2
_RANK = 8
_VIRTUAL_TOKENS = 20
_BERT: dict[str, Any] = {
    "vocab_size": 30_522,
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
_GPT2: dict[str, Any] = {"vocab_size": 8000, "n_layer": 6, "n_embd": 384, "n_head": 6}
_BERT_QUICK = _BERT | {
    "vocab_size": 100,
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_GPT2_QUICK: dict[str, Any] = {"vocab_size": 100, "n_layer": 1, "n_embd": 64, "n_head": 2}
_BERT_FIXED: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_GPT2_FIXED: dict[str, Any] = {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "use_cache": False,
}


class Family(str, Enum):
    """Architectures: MiniLM with a classification head, GPT-2 with its language-model head."""

    MINILM = "MiniLM"
    GPT2 = "GPT-2"


class Method(str, Enum):
    """What is trained; a classification head always is.

    The tied head is GPT-2's matrix of words, which reads tokens and names the next ones; nothing
    else is trained with it.
    """

    ATTEMPT = "ATTEMPT"
    BITFIT = "BitFit"
    BOTTLENECK = "bottleneck"
    COMPACTER = "Compacter"
    FFA_LORA = "FFA-LoRA"
    FULL = "full"
    IA3 = "IA3"
    LORA = "LoRA"
    PREFIX = "prefix"
    PROMPT = "prompt"
    TIED_HEAD = "tied head"


_TOKENS = {"num_virtual_tokens": _VIRTUAL_TOKENS}
_NAMED: dict[Method, tuple[AdapterName, dict[str, Any]]] = {
    Method.ATTEMPT: (AdapterName.ATTEMPT, {**_TOKENS, "temperature": 1.0}),
    Method.BITFIT: (AdapterName.BITFIT, {}),
    Method.BOTTLENECK: (AdapterName.BOTTLENECK, {}),
    Method.COMPACTER: (AdapterName.COMPACTER, {"reduction_factor": 16}),
    Method.FFA_LORA: (AdapterName.FFA_LORA, {"r": _RANK}),
    Method.IA3: (AdapterName.IA3, {}),
    Method.LORA: (AdapterName.LORA, {"r": _RANK}),
    Method.PREFIX: (AdapterName.PREFIX, _TOKENS),
    Method.PROMPT: (AdapterName.PROMPT, _TOKENS),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A model, one batch, and its per-record loss.

    Args:
        model: In train mode, on the device.
        batch: Tensors [B, ...], labels included.
        loss: Callable (model, batch) -> losses [B].

    Privacy:
        Nothing, no data touched: tokens are random.
    """

    model: nn.Module
    batch: Mapping[str, torch.Tensor]
    loss: Classification | CausalLanguageModelling

    @property
    def batch_size(self) -> int:
        """Number of records B."""
        return len(self.batch["labels"])

    @property
    def trainable(self) -> int:
        """Number of trainable entries."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def first(self, records: int) -> "Problem":
        """Return the problem of some of its records, the model copied."""
        batch = {name: value[:records] for name, value in self.batch.items()}
        return dataclasses.replace(self.copy(), batch=batch)

    def copy(self) -> "Problem":
        """Return the same problem with a copy of the model."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model))


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        family: Architecture.
        method: What is trained.
        records: B.
        tokens: T.
        quick: Tiny sizes, to see that the script runs.
        rank: Of LoRA.
        size: Layers and width of a model with random weights; unset: those of the family.

    Privacy:
        Nothing, no data touched.
    """

    family: Family
    method: Method
    records: int
    tokens: int
    quick: bool = False
    rank: int = _RANK
    size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Name by which a case is chosen."""
        rank = f" r={self.rank}" if self.rank != _RANK else ""
        size = " {} x {}".format(*self.size) if self.size else ""
        shape = f"B={self.records} T={self.tokens}"
        return f"{self.family.value}{size} {self.method.value}{rank} {shape}"

    def shrunk(self) -> "Case":
        """Return a tiny case of the same kind."""
        tokens = max(8, self.tokens // 8)
        return dataclasses.replace(self, records=4, tokens=tokens, quick=True, size=None)

    def problem(self, device: str) -> Problem:
        """Build model and batch; the same ones at every call.

        Args:
            device: Where they shall lie.

        Privacy:
            Nothing, no data touched.
        """
        torch.manual_seed(0)
        base = base_model(self.family, quick=self.quick, size=self.size)
        model = adapted(base, self.method, rank=self.rank)
        is_lm = self.family is Family.GPT2
        return Problem(
            model=model.to(device).train(),
            batch={name: value.to(device) for name, value in self._batch().items()},
            loss=CausalLanguageModelling() if is_lm else Classification(),
        )

    def _batch(self) -> dict[str, torch.Tensor]:
        sizes = _sizes(self.family, quick=self.quick)
        shape = (self.records, self.tokens)
        ids = torch.randint(sizes["vocab_size"], shape)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.method is Method.FULL:  # the peers cannot train positions that are implicit
            batch["position_ids"] = torch.arange(self.tokens).repeat(self.records, 1)
            if self.family is Family.MINILM:
                batch["token_type_ids"] = torch.zeros_like(ids)
        is_lm = self.family is Family.GPT2
        batch["labels"] = ids.clone() if is_lm else torch.randint(_CLASSES, shape[:1])
        return batch


CASES = (
    Case(Family.MINILM, Method.LORA, 32, 64),
    Case(Family.MINILM, Method.LORA, 32, 128),
    Case(Family.GPT2, Method.LORA, 16, 128),
    Case(Family.MINILM, Method.IA3, 32, 128),
    Case(Family.GPT2, Method.IA3, 16, 128),
    Case(Family.MINILM, Method.PROMPT, 32, 128),
    Case(Family.GPT2, Method.PROMPT, 16, 128),
    Case(Family.MINILM, Method.FULL, 32, 64),
    Case(Family.MINILM, Method.FULL, 32, 128),
    Case(Family.GPT2, Method.FULL, 16, 64),
    Case(Family.GPT2, Method.FULL, 16, 128),
)


def assets() -> Path | None:
    """Return the folder of real models and data sets, if DPFT_ASSETS names one."""
    folder = os.environ.get("DPFT_ASSETS")
    return Path(folder) if folder else None


def quiet() -> None:
    """Let transformers show neither bars nor notices.

    Privacy:
        Nothing, no data touched.
    """
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def base_model(
    family: Family, *, quick: bool, classes: int = _CLASSES, size: tuple[int, int] | None = None
) -> Any:
    """Build a model of transformers with all parameters trainable, in float32 on the CPU.

    Args:
        family: Architecture.
        quick: A tiny one.
        classes: Outputs of a classification head.
        size: Layers and width of one with random weights, its heads of 64; unset: the family's.

    Privacy:
        Nothing, no data touched.
    """
    quiet()
    sizes = _sizes(family, quick=quick) | (_scaled(family, *size) if size else {})
    if family is Family.GPT2:
        gpt2 = transformers.GPT2Config(**sizes, **_GPT2_FIXED)
        return transformers.GPT2LMHeadModel(gpt2)
    folder, fixed = assets(), _BERT_FIXED | {"num_labels": classes}
    if folder is None or quick or size:
        bert = transformers.BertConfig(**sizes, **fixed)
        return transformers.BertForSequenceClassification(bert)
    return transformers.BertForSequenceClassification.from_pretrained(
        folder / "models" / "minilm-l6",
        **fixed,
        dtype=torch.float32,
    )


def adapted(model: Any, method: Method, *, rank: int = _RANK) -> nn.Module:
    """Return a model with an adapter and a trainable head, or as it is for full fine-tuning.

    Args:
        model: A model of transformers.
        method: What shall be trained.
        rank: Of LoRA.

    Privacy:
        Nothing, no data touched.
    """
    if method in (Method.FULL, Method.TIED_HEAD):
        assert isinstance(model, nn.Module)
        if method is Method.TIED_HEAD:
            head = model.get_output_embeddings().weight  # type: ignore[operator]  # theirs
            for parameter in model.parameters():
                parameter.requires_grad = parameter is head
        return model
    return get_peft_model(model, _adapter(model, method, rank))


def _adapter(model: Any, method: Method, rank: int) -> PeftConfig:
    task_type = "SEQ_CLS" if model.config.model_type == "bert" else "CAUSAL_LM"
    name, options = _NAMED[method]
    options = options | {"r": rank} if method is Method.LORA else options
    return adapters.config(name, model.config, task_type, **options)


def _scaled(family: Family, layers: int, width: int) -> dict[str, Any]:
    heads = width // 64
    if family is Family.GPT2:
        return {"n_layer": layers, "n_embd": width, "n_head": heads}
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


def _sizes(family: Family, *, quick: bool) -> dict[str, Any]:
    if family is Family.GPT2:
        return _GPT2_QUICK if quick else _GPT2
    return _BERT_QUICK if quick else _BERT
