"""The recipe of the decoder learns, repeats, and goes on after a kill as if there had been none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from dpft.errors import ConfigurationError
from dpft.recipes.decoder import pretraining
from dpft.recipes.decoder.corpus import Document, tokenise
from dpft.recipes.decoder.language_model import DecoderSize, make_batch, text_loss
from dpft.recipes.decoder.pretraining import DecoderPlan, train_decoder

SIZE = DecoderSize(layers=1, hidden=16, heads=2, intermediate=16, vocabulary=300)
PLAN = DecoderPlan(
    steps=8, batch_size=4, learning_rate=1e-2, max_tokens=40, checkpoint_every=3, size=SIZE
)


def documents() -> list[Document]:
    towns = ("Luton", "Ripon", "Newark", "Oakham")
    return [Document(f"town : {town}", f"It is in {town}.") for town in towns * 30]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    train_decoder(PLAN, documents(), folder)
    return folder


def test_what_is_made_loads_in_single_precision_and_says_how_good_it_is(made: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(made)
    assert model.dtype is torch.float32
    found = json.loads((made / "pretraining.json").read_text())
    assert found["plan"]["seed"] == PLAN.seed
    assert 1 < found["held_out_perplexity"] < 300
    assert not (made / "checkpoint.pt").exists()
    assert AutoTokenizer.from_pretrained(made).eos_token_id == model.config.eos_token_id


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def killed(*given: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise KeyboardInterrupt
        return text_loss(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "text_loss", killed)
        with pytest.raises(KeyboardInterrupt):
            train_decoder(PLAN, documents(), tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    train_decoder(PLAN, documents(), tmp_path)
    expected, found = weights(made), weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    model = LlamaForCausalLM(SIZE.config(300))
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = tmp_path / "checkpoint.pt"
    pretraining._save(model, optimizer, 3, checkpoint)
    checkpoint.with_suffix(".unfinished").write_bytes(b"half")
    assert pretraining._resume(model, optimizer, checkpoint) == 3


def test_only_texts_are_learnt_and_padding_changes_nothing(made: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(made)
    model = LlamaForCausalLM(SIZE.config(len(tokenizer)))
    found = tokenise([Document("town : Luton", "It."), Document("", "Here it is.")], tokenizer, 40)
    both = make_batch(found, [0, 1])
    alone = [make_batch(found, [index]) for index in (0, 1)]
    counts = [int((batch.labels >= 0).sum()) for batch in alone]
    assert counts[0] == len(tokenizer(" It.")["input_ids"]) + 1  # the end token too
    losses = [text_loss(model, batch).item() for batch in alone]
    mean = (losses[0] * counts[0] + losses[1] * counts[1]) / sum(counts)
    assert text_loss(model, both).item() == pytest.approx(mean, rel=1e-5)


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Expected steps=0 >= 1"):
        DecoderPlan(steps=0)
