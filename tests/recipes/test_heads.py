from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import dpft
from dpft.errors import ConfigurationError
from dpft.losses import Classification
from dpft.recipes.config.schema import Architecture, PoolingName
from dpft.recipes.heads import start_from_descriptions
from dpft.recipes.metrics.evaluation import predict_logits
from dpft.recipes.models import LoadedModel, load
from dpft.recipes.tasks.embedded import Embedded, EmbeddedSettings
from dpft.recipes.tasks.sst2 import Sst2, Sst2Settings
from dpft.training import FitOptions

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
LABELS = ("parcel", "money", "nobody")
TEXTS = (
    ("where is my parcel", "the parcel never came"),
    ("i want my money back", "you charged me twice"),
    ("is anybody there", "nobody answers the phone", "i have been waiting"),
)


@pytest.fixture
def loaded() -> LoadedModel:
    return load("embedded", Architecture(), LABELS, 0)


def logits(loaded: LoadedModel, texts: tuple[str, ...]) -> torch.Tensor:
    task = Embedded(EmbeddedSettings())
    rows = [{"text": text, "label": 0} for text in texts]
    return predict_logits(loaded.model, loaded.encode(rows, task), loaded.pooling)


def mean_states(loaded: LoadedModel) -> torch.Tensor:
    """Return each class's mean state [C, D], one text at a time and without padding."""
    means = []
    for texts in TEXTS:
        states = []
        for text in texts:
            inputs = loaded.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                states.append(loaded.model.base_model(**inputs).last_hidden_state.mean(1)[0])
        means.append(torch.stack(states).mean(0))
    return torch.stack(means)


def test_the_head_chooses_the_nearest_mean(loaded: LoadedModel) -> None:
    means = mean_states(loaded)
    start_from_descriptions(loaded, TEXTS)
    for texts in TEXTS:
        got = logits(loaded, texts)
        got = got - got.mean(1, keepdim=True)
        for row, text in zip(got, texts, strict=True):
            inputs = loaded.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                state = loaded.model.base_model(**inputs).last_hidden_state.mean(1)[0]
            distances = (state - means).square().sum(1)
            expected = -distances / 2 * scale(means)
            torch.testing.assert_close(row, expected - expected.mean(), rtol=1e-3, atol=1e-3)


def scale(means: torch.Tensor) -> float:
    """Return what makes two classes' means differ by a logit of 8 from one to the other."""
    pairs = [(i, j) for i in range(len(means)) for j in range(i)]
    distances = [(means[i] - means[j]).square().sum() for i, j in pairs]
    return float(8 / torch.stack(distances).mean())


def test_the_model_keeps_its_head_and_its_encoder(loaded: LoadedModel) -> None:
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    start_from_descriptions(loaded, TEXTS)
    after = loaded.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_a_head_of_its_own_is_refused() -> None:
    loaded = load("embedded", Architecture(pooling=PoolingName.HEAD), LABELS, 0)
    with pytest.raises(ConfigurationError, match="pooling=head"):
        start_from_descriptions(loaded, TEXTS)


@pytest.mark.parametrize("texts", [(), (("a",), ())])
def test_classes_without_descriptions_are_refused(loaded: LoadedModel, texts: Any) -> None:
    with pytest.raises(ConfigurationError, match="describes each of its classes"):
        start_from_descriptions(loaded, texts)


def test_sst2_describes_both_of_its_labels() -> None:
    task = Sst2(Sst2Settings())
    assert len(task.descriptions) == len(task.labels)
    assert "a boring film" in task.descriptions[task.labels.index("negative")]


def test_a_frozen_head_is_saved_and_does_not_move(tmp_path: Path) -> None:
    loaded = load("embedded", Architecture(), LABELS, 0)
    start_from_descriptions(loaded, TEXTS)
    head = loaded.model.classifier.weight.detach().clone()
    task = Embedded(EmbeddedSettings())
    rows = [{"text": text, "label": label} for label, texts in enumerate(TEXTS) for text in texts]
    result = dpft.fit(
        loaded.model,
        loaded.encode(rows, task).records,
        loss=Classification(loaded.pooling),
        privacy=dpft.Privacy(noise_multiplier=1.0, delta=1e-3, expected_batch_size=4, steps=2),
        tokenizer=loaded.tokenizer,
        adapter="lora",
        out=tmp_path / "run",
        options=FitOptions(train_head=False),
    )
    trained = [name for name, p in result.model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    [name] = [name for name in saved if name.endswith("classifier.weight")]
    assert torch.equal(saved[name], head)
