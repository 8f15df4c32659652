"""The card beside weights says what their certificate says, whatever names people gave."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.publication import Publication
from dpft.accounting.run_record import LedgerReference
from dpft.model_card import CARD, Card, base_in_words, hub_name, write_plain_card
from dpft.rendering import percent_rounded_up, rounded_up

HOSTILE = [
    '<script>alert("x")</script>',
    "</td><img src=x onerror=alert(1)>",
    "{{ 7919 * 7907 }}{% for x in y %}",
    "a | b\n| c | d |\n\n# heading",
    "---\nlicense: mit\n---",
    'quote " : # & * ! %',
    "\u202e8.0 = nolispe",
    "שלום 123",
    "[click](https://evil.example) www.evil.example",
    "`code` **bold** __x__",
]


def publication(**changes: Any) -> Publication:
    fields: dict[str, Any] = {
        "run_id": "one",
        "dataset_id": "letters",
        "mechanism": PoissonGaussian(2.0, 0.1, 30),
        "adjacency": Adjacency.ADD_OR_REMOVE,
        "num_records": 1000,
        "expected_batch_size": 100,
        "clipping": "auto_s",
        "clip_norm": 1.0,
        "delta": 1e-4,
        "private": True,
        "generator": "ChaCha20",
        "sampler": "Poisson",
        "accountant": "rdp",
        "versions": {"dpft": "0.1.0"},
        "excluded": ("The base model.",),
        "ledger": LedgerReference("0f" * 32, 4),
    }
    run = RunRecord(**(fields | changes))
    return Publication.of(Certificate((run,)), "0f" * 32, 1e-4)


def written(
    folder: Path, published: Publication, base: str = "org/tiny", kind: str = "LORA"
) -> str:
    """Write the card of an adapter of peft, and return it."""
    config = SimpleNamespace(_name_or_path=base)
    adapter = {"default": SimpleNamespace(peft_type=SimpleNamespace(value=kind))}
    model = SimpleNamespace(config=config, peft_config=adapter)
    write_plain_card(folder, model, published, published.certificate.runs[0])
    return (folder / CARD).read_text(encoding="utf-8")


def header(card: str) -> dict[str, Any]:
    found: dict[str, Any] = ModelCard(card).data.to_dict()
    return found


def test_the_card_states_what_the_certificate_states(tmp_path: Path) -> None:
    published = publication()
    card = written(tmp_path, published)
    epsilon = published.claims[0].epsilon
    said = f"epsilon = {rounded_up(epsilon)} at delta = 0.0001"
    assert card.count(said) == 2
    bound = published.certificate.attack_bound(0.01, 1e-4).rate
    assert f"detects at most {percent_rounded_up(bound)} of those" in card
    for statement in (
        "one record of the training data",
        "(add or remove)",
        "letters",
        "noise of 2 times the clip norm, rate 0.1, 30 steps",
        "Poisson",
        "ChaCha20",
        "entry 4",
        published.digest,
        published.tensors,
        "- The base model.",
        "Several records of one person",
    ):
        assert statement in card, statement


def test_the_hub_reads_the_header(tmp_path: Path) -> None:
    assert header(written(tmp_path, publication())) == {
        "library_name": "peft",
        "base_model": "org/tiny",
        "tags": ["differential_privacy", "dp-sgd", "dpft"],
    }


def test_no_licence_is_written_that_nobody_stated(tmp_path: Path) -> None:
    assert "license" not in written(tmp_path, publication())


def test_a_card_without_a_guarantee_says_so_first(tmp_path: Path) -> None:
    card = written(tmp_path, publication(private=False, mechanism=None))
    assert header(card)["tags"] == ["dpft"]
    assert ModelCard(card).text.lstrip().startswith("**NOT PRIVATE**\n")
    assert "Trained with differential privacy" not in card


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_changes_neither_header_nor_layout(tmp_path: Path, name: str) -> None:
    started = Input(name="x", role=InputRole.ADAPTER, status=InputStatus.PUBLIC)
    plain = written(tmp_path, publication(inputs=(started,)), base="a place")
    given = {"dataset_id": name, "sampler": name, "generator": name, "excluded": (name,)}
    started = Input(name=name, role=InputRole.ADAPTER, status=InputStatus.PUBLIC)
    hostile = publication(**given, versions={"dpft": name}, inputs=(started,))
    card = written(tmp_path, hostile, base=name)
    fields = header(card)
    assert set(fields) <= {"library_name", "tags"}
    assert fields["tags"] == header(plain)["tags"]
    rows = [len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line[:1] == "|"]
    assert set(rows) == {3}
    assert card.count("\n#") == plain.count("\n#")
    assert len(card.splitlines()) == len(plain.splitlines())
    assert not re.search(r"(?<!\\)<|(?<!\\:)//evil|\u202e", card)
    assert f"{7919 * 7907}" not in card


def test_no_element_is_made_of_a_name(tmp_path: Path) -> None:
    card = written(tmp_path, publication(dataset_id=HOSTILE[0], sampler=HOSTILE[1]))
    found: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda *args: found.append(args[0])
    reader.feed(card.replace("\\<", "&lt;"))  # as CommonMark reads it
    assert found == []


@pytest.mark.parametrize("name", [*HOSTILE, "/home/xyzzy/models/tiny", r"C:\Users\xyzzy\tiny"])
def test_the_header_is_yaml_of_known_fields_whatever_the_base_is_called(name: str) -> None:
    published = publication()
    card = Card(publication=published, run=published.certificate.runs[0], library="peft", base=name)
    assert set(yaml.safe_load(card.header)) == {"library_name", "tags"}


def test_a_card_shows_no_place(tmp_path: Path) -> None:
    place = tmp_path / "xyzzy" / "tiny"
    place.mkdir(parents=True)
    card = written(tmp_path, publication(), base=str(place))
    assert "xyzzy" not in card
    assert "a local one, tiny" in card
    assert "base_model" not in header(card)


def test_a_folder_that_looks_like_a_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_name("models/tiny") == "models/tiny"
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_name("models/tiny") is None
    assert base_in_words("models/tiny") == "a local one, tiny"
    assert base_in_words("") == "not named"


def test_a_method_that_peft_does_not_know_says_how_it_is_loaded(tmp_path: Path) -> None:
    card = written(tmp_path, publication(), kind="DPFT_BOTTLENECK")
    assert "import dpft.adapters" in card
    assert "# bottleneck adapter" in card


def test_a_whole_model_is_loaded_by_transformers(tmp_path: Path) -> None:
    published = publication()
    model = SimpleNamespace(config=SimpleNamespace(_name_or_path="org/tiny"))
    write_plain_card(tmp_path, model, published, published.certificate.runs[0])
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert header(card)["library_name"] == "transformers"
    assert "PeftModel" not in card
