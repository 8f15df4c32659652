from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dpft.accounting.errors import ConfigurationError
from dpft.recipes import embedded
from dpft.recipes.embedded import Record, canaries, generate, reference_codes
from dpft.recipes.embedded.canaries import CANARY_REPETITIONS
from dpft.recipes.embedded.corpus import public_messages, split_sentences
from dpft.recipes.embedded.people import FIRST_NAMES, LAST_NAMES
from dpft.recipes.embedded.topics import TOPICS, Split, share

if TYPE_CHECKING:
    from dpft.recipes.embedded.probe import LabelledFeatures

BAG_OF_WORDS_CEILING = 0.88
MODEL_BYTES = 5 * 1024 * 1024
PROBE_FLOOR = 0.85
PROBE_MARGIN = 0.25
PINNED = {"text": "It is about the wrong item in the box. Kemal Hansen here.", "label": 2}


@pytest.fixture(scope="module")
def train() -> list[Record]:
    return generate("train")


@pytest.fixture(scope="module")
def validation() -> list[Record]:
    return generate("validation")


@pytest.fixture(scope="module")
def features(
    train: list[Record], validation: list[Record]
) -> list[tuple[LabelledFeatures, LabelledFeatures]]:
    """Frozen features of the pretrained encoder, then of its twin with random weights."""
    from dpft.recipes.embedded.probe import frozen_features

    model, tokenizer = _encoder()
    sets = (train[:1000], validation[:400])
    return [
        (frozen_features(each, tokenizer, sets[0]), frozen_features(each, tokenizer, sets[1]))
        for each in (model, _random_twin(model))
    ]


def test_same_seed_gives_the_same_records() -> None:
    assert generate("train", 200, seed=3) == generate("train", 200, seed=3)


def test_another_seed_gives_other_records() -> None:
    pairs = zip(*(generate("validation", 200, seed=seed) for seed in (3, 4)), strict=True)
    assert sum(one["text"] == other["text"] for one, other in pairs) < 20


def test_records_are_pinned_across_platforms_and_versions() -> None:
    record = generate("validation", 1, seed=0)[0]
    assert record == PINNED


def test_a_longer_set_begins_with_the_shorter_one_where_no_canary_sits() -> None:
    assert generate("validation", 50) == generate("validation", 80)[:50]


def test_default_sizes_are_those_stated(train: list[Record], validation: list[Record]) -> None:
    assert (len(train), len(validation)) == (6000, 1000)


def test_no_text_is_in_both_splits_unless_it_names_nobody(
    train: list[Record], validation: list[Record]
) -> None:
    common = {r["text"] for r in train} & {r["text"] for r in validation}
    assert len(common) < 0.05 * len(validation)
    assert not [text for text in common if re.search(r"\d|@|name|here\.|This is", text)]


@pytest.mark.parametrize("names", [FIRST_NAMES, LAST_NAMES])
def test_names_of_the_splits_are_disjoint(names: dict[Split, tuple[str, ...]]) -> None:
    everyone = [name for pool in names.values() for name in pool]
    assert len(everyone) == len(set(everyone))


def test_each_split_has_phrases_of_its_own() -> None:
    for topic in TOPICS:
        seen = set(share(topic.matters, Split.TRAIN))
        held_out = set(share(topic.matters, Split.VALIDATION)) - seen
        assert len(held_out) == len(topic.matters) // 4


def test_labels_are_the_stated_ones_and_balanced(train: list[Record]) -> None:
    counts = Counter(r["label"] for r in train)
    assert set(counts) == set(range(len(embedded.LABEL_NAMES)))
    assert min(counts.values()) > 0.85 * len(train) / len(embedded.LABEL_NAMES)


@pytest.mark.parametrize("split", ["public", "test", Split.PUBLIC])
def test_a_split_without_labels_is_refused_by_name(split: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected split="):
        generate(split, 1)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Expected num_records=-1 >= 0"):
        generate("train", -1)


def test_canaries_present_exactly_as_listed(train: list[Record]) -> None:
    listed = canaries("train", len(train), seed=0)
    assert [len(c.records) for c in listed] == list(CANARY_REPETITIONS)
    for canary in listed:
        holders = tuple(i for i, r in enumerate(train) if canary.code in r["text"])
        assert holders == canary.records
        assert all(train[i]["text"].endswith(canary.text) for i in holders)
    planted = sum(len(c.records) for c in listed)
    assert sum("secret code" in r["text"] for r in train) == planted


def test_validation_and_tiny_sets_hold_no_canary(validation: list[Record]) -> None:
    assert canaries("validation", 1000, seed=0) == ()
    assert canaries("train", 19, seed=0) == ()
    assert not any("secret code" in r["text"] for r in validation)


def test_reference_codes_differ_from_each_other_and_from_the_planted() -> None:
    references = reference_codes(500, seed=1)
    assert len(set(references)) == 500
    assert not {c.code for c in canaries("train", 6000, seed=0)} & set(references)


def test_bag_of_words_stays_between_majority_and_ceiling(
    train: list[Record], validation: list[Record]
) -> None:
    from dpft.recipes.embedded.probe import bag_of_words_accuracy

    majority = max(Counter(r["label"] for r in validation).values()) / len(validation)
    assert majority + 0.3 < bag_of_words_accuracy(train, validation) < BAG_OF_WORDS_CEILING


def test_public_corpus_repeats_by_seed_and_holds_text_alone() -> None:
    texts = public_messages(50, seed=1)
    assert texts == public_messages(50, seed=1)
    assert all(isinstance(text, str) for text in texts)


def test_no_public_message_is_a_labelled_record(
    train: list[Record], validation: list[Record]
) -> None:
    labelled = {r["text"] for r in [*train, *validation]}
    long = [text for text in public_messages(2000, seed=1) if len(split_sentences(text)) > 2]
    assert long
    assert not labelled & set(long)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, dpft.recipes.embedded; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_model_folder_fits_in_five_megabytes() -> None:
    files = {path.name: path.stat().st_size for path in embedded.MODEL_DIR.iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(files) == wanted
    assert sum(files.values()) <= MODEL_BYTES


def test_model_loads_offline_with_plain_transformers_in_single_precision() -> None:
    torch = pytest.importorskip("torch")
    model, tokenizer = _encoder()
    ids = tokenizer("Please help me with my card.", return_tensors="pt")["input_ids"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert ids[0, 0] == tokenizer.cls_token_id
    assert ids[0, -1] == tokenizer.sep_token_id
    assert model(ids).last_hidden_state.isfinite().all()


def test_no_weight_of_the_model_is_missing_or_left_over() -> None:
    from transformers import AutoModel

    _, report = AutoModel.from_pretrained(
        embedded.MODEL_DIR, local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_records_fit_the_tokenizer(train: list[Record]) -> None:
    _, tokenizer = _encoder()
    lengths = [len(ids) for ids in tokenizer([r["text"] for r in train])["input_ids"]]
    assert max(lengths) <= tokenizer.model_max_length == 64
    assert sum(lengths) / len(lengths) <= 30


def test_frozen_features_beat_those_of_random_weights(
    features: list[tuple[LabelledFeatures, LabelledFeatures]],
) -> None:
    from dpft.recipes.embedded.probe import head_accuracy

    pretrained, random = (head_accuracy(*pair) for pair in features)
    assert pretrained >= PROBE_FLOOR
    assert pretrained - random >= PROBE_MARGIN


def test_simulated_private_head_beats_that_of_random_weights(
    features: list[tuple[LabelledFeatures, LabelledFeatures]],
) -> None:
    from dpft.recipes.embedded.probe import HeadPlan, private_head_accuracy

    pretrained, random = (private_head_accuracy(*pair, HeadPlan()) for pair in features)
    assert pretrained >= PROBE_FLOOR
    assert pretrained - random >= PROBE_MARGIN


def test_simulated_private_head_learns_nothing_under_overwhelming_noise(
    features: list[tuple[LabelledFeatures, LabelledFeatures]],
) -> None:
    from dpft.recipes.embedded.probe import HeadPlan, private_head_accuracy

    assert private_head_accuracy(*features[0], HeadPlan(noise_multiplier=1e4)) < PROBE_FLOOR - 0.2


def test_recipe_shows_its_help() -> None:
    from dpft.recipes.embedded.pretrain import main

    with pytest.raises(SystemExit, match="0"):
        main(["--help"])


def test_recipe_refuses_prose_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpft.recipes.embedded.pretrain import main

    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path)])


def test_recipe_refuses_more_steps_than_its_schedule_has() -> None:
    from dpft.recipes.embedded.pretraining import PretrainingPlan

    with pytest.raises(ConfigurationError, match="Expected steps=3 between 1 and decay_steps=2"):
        PretrainingPlan(steps=3, decay_steps=2)


def test_two_steps_of_the_recipe_repeat_and_load(tmp_path: Path) -> None:
    runs = [_smoke(tmp_path / name, steps=2) for name in ("a", "b")]
    assert runs[0] == runs[1]
    assert json.loads((tmp_path / "a" / "config.json").read_text())["hidden_size"] == 16


def test_resumed_recipe_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpft.recipes.embedded import pretraining

    whole = _smoke(tmp_path / "whole", steps=3)
    monkeypatch.setattr(pretraining, "_save", _stop_after(2, pretraining._save))
    with pytest.raises(KeyboardInterrupt):
        _smoke(tmp_path / "cut", steps=3)
    monkeypatch.undo()
    assert _smoke(tmp_path / "cut", steps=3) == whole


def _stop_after(last: int, save: Callable[..., None]) -> Callable[..., None]:
    def saving(model: Any, optimizer: Any, step: Any, checkpoint: Any) -> None:
        save(model, optimizer, step, checkpoint)
        if step == last:
            raise KeyboardInterrupt

    return saving


def _smoke(out: Path, steps: int) -> bytes:
    from dpft.recipes.embedded.pretrain import main

    size = "--layers 1 --hidden 16 --heads 2 --intermediate 16 --vocabulary 400".split()
    corpus = "--num-messages 60 --num-passages 0 --batch-size 4 --checkpoint-every 1".split()
    main(["--out", str(out), "--steps", str(steps), "--decay-steps", "12", *size, *corpus])
    return (out / "model.safetensors").read_bytes()


def _encoder() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    assert os.environ.get("HF_HUB_OFFLINE", "1") == "1"
    model = AutoModel.from_pretrained(embedded.MODEL_DIR, local_files_only=True)
    return model, AutoTokenizer.from_pretrained(embedded.MODEL_DIR, local_files_only=True)


def _random_twin(model: Any) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return type(model)(model.config)
