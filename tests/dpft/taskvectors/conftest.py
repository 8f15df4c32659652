"""What the tests of task vectors share: tiny models, stirred adapters, certificates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from dpft import adapters
from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.taskvectors import TaskVector

LABELS = {0: "bad", 1: "fair", 2: "good"}
_WORDS, _TOKENS = 40, 6


def _model(architecture: str = "bert") -> Any:
    """Return a model that is far from its start: biases are not zero, and layers do something."""
    torch.manual_seed(1)
    return _moved(_fresh(architecture), seed=5, scale=0.3)


def _moved(model: nn.Module, seed: int, scale: float) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def _fresh(architecture: str) -> transformers.PreTrainedModel:
    if architecture == "bert":
        config: Any = transformers.BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            vocab_size=_WORDS,
            max_position_embeddings=24,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=LABELS,
            label2id={name: number for number, name in LABELS.items()},
        )
        return transformers.BertForSequenceClassification(config).eval()
    config = transformers.GPT2Config(
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=24,
        vocab_size=_WORDS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def _stirred(model: nn.Module, seed: int, scale: float = 0.1) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "original_module" not in name:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(scale * noise.to(parameter.dtype))
    return model.eval()


def _adapted(kind: str, seed: int, architecture: str = "bert", **options: Any) -> nn.Module:
    model = _model(architecture)
    torch.manual_seed(7)  # adapters of one kind begin alike
    return _stirred(adapters.build(kind, model, **options), seed)


def _start(kind: str, **options: Any) -> dict[str, torch.Tensor]:
    base = _model()
    torch.manual_seed(7)
    model: Any = adapters.build(kind, base, **options)
    rows = model.get_prompt_embedding_to_save("default")
    return {"prompt_embeddings": rows.detach().clone()}


def _run(name: str, **changes: Any) -> RunRecord:
    mechanism = changes.get("mechanism", PoissonGaussian(2.0, 0.1, 50))
    fields: dict[str, Any] = {
        "run_id": name,
        "dataset_id": "letters",
        "mechanism": mechanism,
        "adjacency": Adjacency.ADD_OR_REMOVE if mechanism is None else mechanism.adjacency,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
        "divisor": 100,
    }
    return RunRecord(**(fields | changes))


def _vector(kind: str, seed: int, **options: Any) -> TaskVector:
    dtype = options.pop("dtype", torch.float32)
    model = _adapted(kind, seed, **options).to(dtype)
    return TaskVector.from_peft(model, certificate=Certificate((_run(f"run {kind} {seed}"),)))


def _outputs(model: nn.Module) -> torch.Tensor:
    words = torch.randint(3, _WORDS, (4, _TOKENS), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(input_ids=words, attention_mask=torch.ones_like(words)).logits
    assert isinstance(logits, torch.Tensor)
    return logits


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """Return a maker of tiny models, the same at every call: (architecture)."""
    return _model


@pytest.fixture
def adapted() -> Callable[..., Any]:
    """Return a maker of tiny models with a stirred adapter: (kind, seed, architecture, options)."""
    return _adapted


@pytest.fixture
def vector() -> Callable[..., TaskVector]:
    """Return a maker of certified vectors: (kind, seed, architecture, dtype, options)."""
    return _vector


@pytest.fixture
def start() -> Callable[..., dict[str, torch.Tensor]]:
    """Return what computes where the prompts of `adapted` begin: (kind, options)."""
    return _start


@pytest.fixture
def run() -> Callable[..., RunRecord]:
    """Return a maker of private runs: (name, changed fields)."""
    return _run


@pytest.fixture
def certificate() -> Callable[..., Certificate]:
    """Return a maker of certificates of one private run: (name, changed fields)."""
    return lambda name, **changes: Certificate((_run(name, **changes),))


@pytest.fixture
def outputs() -> Callable[[nn.Module], torch.Tensor]:
    """Return what computes logits on fixed words."""
    return _outputs
