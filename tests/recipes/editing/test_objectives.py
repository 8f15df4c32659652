"""Losses of the vectors: each of its own record alone, and right by hand."""

import pytest
import torch
from torch import nn

from dpft.losses import Classification, Pooling
from dpft.recipes.editing.objectives import Ascent, BagOfWords, word_embeddings
from dpft.recipes.editing.runs import Place, load_for
from dpft.recipes.tasks.corpora import CorpusName

FIRST, COUNT = 2000, 500
BATCH = {
    "input_ids": torch.tensor([[2, 2001, 2005, 2005, 3], [2, 2100, 3, 0, 0], [2, 7, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
    "labels": torch.tensor([0, 1, 1]),
}


@pytest.fixture(scope="module")
def labelled(place: Place) -> nn.Module:
    model: nn.Module = load_for(place, CorpusName.SST2).model.eval()
    return model


@pytest.fixture(scope="module")
def unlabelled(place: Place) -> nn.Module:
    model: nn.Module = load_for(place, CorpusName.GOODS_TEXTS).model.eval()
    return model


def words(model: nn.Module) -> BagOfWords:
    return word_embeddings(model.get_input_embeddings().weight, FIRST, COUNT)  # type: ignore[operator]  # transformers'


def one(index: int) -> dict[str, torch.Tensor]:
    length = int(BATCH["attention_mask"][index].sum())
    return {
        name: value[index : index + 1, :length] if value.dim() > 1 else value[index : index + 1]
        for name, value in BATCH.items()
    }


def test_every_loss_depends_on_its_own_record_alone(
    labelled: nn.Module, unlabelled: nn.Module
) -> None:
    for model, loss in ((labelled, Ascent()), (unlabelled, words(unlabelled))):
        together = loss(model, BATCH)
        alone = torch.cat([loss(model, one(index)) for index in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_ascent_is_the_opposite_of_learning_the_labels(labelled: nn.Module) -> None:
    torch.testing.assert_close(
        Ascent()(labelled, BATCH), -Classification(Pooling.MEAN)(labelled, BATCH)
    )


def test_the_words_of_a_text_are_predicted_from_its_mean_state(unlabelled: nn.Module) -> None:
    loss = words(unlabelled)
    found = loss(unlabelled, BATCH)
    table = unlabelled.get_input_embeddings().weight[FIRST : FIRST + COUNT].detach()  # type: ignore[operator]  # transformers'
    unit = nn.functional.normalize(table - table.mean(0), dim=-1)
    record = one(0)
    inputs = {name: value for name, value in record.items() if name != "labels"}
    state = unlabelled.base_model(**inputs).last_hidden_state.mean(1)[0]  # type: ignore[operator]  # transformers'
    scores = (20 * unit @ (state / state.norm())).log_softmax(0)
    torch.testing.assert_close(found[0], -(scores[1] + 2 * scores[5]) / 3, rtol=1e-4, atol=1e-4)


def test_a_text_without_a_known_word_has_no_loss(unlabelled: nn.Module) -> None:
    assert words(unlabelled)(unlabelled, BATCH)[2] == 0
