from pathlib import Path

import pytest
import torch

from dpft.errors import ConfigurationError
from dpft.losses import Pooling
from dpft.recipes.config.schema import Architecture, PoolingName
from dpft.recipes.models import auto_class, load, task_type_of
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.embedded import Embedded, EmbeddedSettings

LABELS = ("a", "b", "c")


@pytest.mark.parametrize("pooling", list(PoolingName))
def test_the_head_fits_the_labels_and_the_pooling(pooling: PoolingName) -> None:
    loaded = load("embedded", Architecture(pooling=pooling), LABELS, 0)
    assert type(loaded.model).__name__.endswith(
        "SequenceClassification" if pooling is PoolingName.HEAD else "TokenClassification"
    )
    assert loaded.model.config.id2label == dict(enumerate(LABELS))
    assert loaded.model.classifier.out_features == 3


def test_every_pooling_of_the_configuration_is_one_of_the_engine() -> None:
    assert {pooling.value for pooling in PoolingName} == {pooling.value for pooling in Pooling}
    assert {task_type_of(pooling) for pooling in Pooling} == {"SEQ_CLS", "TOKEN_CLS"}
    assert len({auto_class(pooling) for pooling in Pooling}) == 2


def test_the_seed_draws_the_head_and_nothing_of_a_pretrained_encoder() -> None:
    first, second, other = (
        load("embedded", Architecture(), LABELS, seed).model for seed in (1, 1, 2)
    )
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    embeddings = [model.get_input_embeddings().weight for model in (first, other)]
    assert torch.equal(*embeddings)


def test_without_pretraining_the_seed_draws_everything() -> None:
    drawn = [
        load("embedded", Architecture(pretrained=False), LABELS, seed).model for seed in (1, 2)
    ]
    embeddings = [model.get_input_embeddings().weight for model in drawn]
    assert not torch.equal(*embeddings)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_reaches_every_dropout_layer(dropout: float) -> None:
    model = load("embedded", Architecture(dropout=dropout), LABELS, 0).model
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    assert layers
    assert {layer.p for layer in layers} == {dropout}


def test_weights_have_the_asked_for_format() -> None:
    model = load("embedded", Architecture(dtype="bfloat16"), LABELS, 0).model  # type: ignore[arg-type]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_artefacts_learn_the_given_name_and_no_path_of_this_machine() -> None:
    assert load("embedded", Architecture(), LABELS, 0).model.name_or_path == "embedded"


def test_records_are_cut_to_the_longest_length() -> None:
    loaded = load("embedded", Architecture(max_length=5), LABELS, 0)
    task = Embedded(EmbeddedSettings())
    encoded = loaded.encode(task.load(Split.VALIDATION)[:10], task)
    assert {len(row["input_ids"]) for row in encoded.records} == {5}


def test_a_model_that_transformers_cannot_load_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigurationError, match=r"to load with architecture\.pooling=mean"):
        load(str(tmp_path), Architecture(), LABELS, 0)
