"""Nothing in a run folder tells of a record, of a sampled batch or of a key."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dpft.randomness import SecretRandomness
from dpft.recipes import cli
from dpft.recipes.embedded import Split, canaries, generate

RECORDS = 6000
EXPECTED = 311  # a number that stands for nothing else in a run folder
NUMBER = re.compile(r"\d[\d -]{4,}\d")


class Spied(NamedTuple):
    folder: Path
    sizes: list[int]
    keys: list[bytes]


@pytest.fixture(scope="module")
def spied(tmp_path_factory: pytest.TempPathFactory) -> Spied:
    """Run the embedded task, writing down what the run must keep to itself."""
    found = Spied(tmp_path_factory.mktemp("spied") / "runs" / "run", [], [])
    original = SecretRandomness.poisson_sample

    def poisson_sample(self: SecretRandomness, *arguments: Any) -> Any:
        sample = original(self, *arguments)
        found.sizes.append(len(sample))
        found.keys.append(self._key)
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecretRandomness, "poisson_sample", poisson_sample)
        batch = f"privacy.expected_batch_size={EXPECTED}"
        folder = f"hydra.run.dir={found.folder}"
        assert cli.main(["train", "privacy.steps=4", batch, "run.log_every=1", folder]) == 0
    return found


def content(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def text(folder: Path) -> str:
    texts = [path for path in sorted(folder.rglob("*")) if path.suffix != ".safetensors"]
    return "\n".join(path.read_text(encoding="utf-8") for path in texts if path.is_file())


def secrets_of(rows: list[str]) -> set[str]:
    """Return sentences, numbers and addresses of the records."""
    sentences = {part for row in rows for part in re.split(r"(?<=[.!?]) ", row) if len(part) > 12}
    numbers = {number for row in rows for number in NUMBER.findall(row)}
    addresses = {word.strip(".,") for row in rows for word in row.split() if "@" in word}
    return sentences | numbers | addresses


@pytest.mark.parametrize("split", ["train", "validation"])
def test_no_sentence_number_or_address_of_a_record(spied: Spied, split: str) -> None:
    secrets = secrets_of([record["text"] for record in generate(split)])
    assert len(secrets) > 1000
    written = content(spied.folder).decode("latin-1")
    assert not [secret for secret in secrets if secret in written]


def test_no_canary(spied: Spied) -> None:
    planted = canaries(Split.TRAIN, RECORDS, 0)
    assert planted
    written = content(spied.folder).decode("latin-1")
    assert not [canary.code for canary in planted if canary.code in written]


def test_no_name_of_a_person(spied: Spied) -> None:
    introduced = re.compile(r"(?:[Mm]y name is|[Tt]his is|I am) ([A-Z]\w+) ([A-Z]\w+)")
    people = {
        name
        for record in generate("train")
        for pair in introduced.findall(record["text"])
        for name in pair
    }
    assert len(people) > 10
    words = set(re.findall(r"\w+", text(spied.folder)))
    assert not people & words


def test_no_size_of_a_sampled_batch(spied: Spied) -> None:
    assert len(spied.sizes) == 4
    written = text(spied.folder)
    private = {*spied.sizes, sum(spied.sizes)} - {EXPECTED, 4 * EXPECTED}
    assert private
    for size in private:
        assert not re.search(rf"(?<![\w.]){size}(?![\w.])", written), size


def test_no_key(spied: Spied) -> None:
    written = content(spied.folder.parents[1])  # the ledger lies beside the folder of the run
    assert b"SQLite format 3" in written
    for key in set(spied.keys):
        assert key not in written
        assert key.hex().encode() not in written.lower()


def test_no_training_loss(spied: Spied) -> None:
    settings = ("accounts for", "loss_")
    lines = [line for line in text(spied.folder).splitlines() if "loss" in line.lower()]
    assert not [line for line in lines if not any(known in line for known in settings)]


def test_the_scan_would_find_what_it_looks_for(spied: Spied, tmp_path: Path) -> None:
    record = next(record["text"] for record in generate("train") if NUMBER.search(record["text"]))
    (tmp_path / "leak.json").write_text(f'{{"sampled": {spied.sizes[0]}, "row": "{record}"}}')
    assert any(secret in text(tmp_path) for secret in secrets_of([record]))
    assert re.search(rf"(?<![\w.]){spied.sizes[0]}(?![\w.])", text(tmp_path))
