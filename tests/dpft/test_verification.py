"""Whatever was edited after the release is found, and what was not is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpft import artefacts
from dpft.accounting import Adjacency, Certificate, PoissonGaussian, RunRecord
from dpft.accounting.publication import Publication
from dpft.accounting.run_record import LedgerReference
from dpft.artefact_digest import NOTE, write_note
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.verification import Artefact, holds_certificate, read_certificate, trusted, verify

FILE = "adapter_model.safetensors"
REFERENCE = LedgerReference("0f" * 32, 4)


def certificate(**changes: Any) -> Certificate:
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
        "generator": "chacha20",
        "sampler": "poisson",
        "accountant": "rdp",
    }
    return Certificate((RunRecord(**{**fields, **changes}),))


def publish(run: Path, made: Certificate | None = None) -> Path:
    """Write what a run folder holds of its artefact."""
    adapter = run / "adapter"
    adapter.mkdir(parents=True)
    content = {"b.weight": torch.arange(6.0).view(2, 3), "a.weight": torch.ones(4)}
    save_file(content, adapter / FILE, metadata={"format": "pt"})
    text = artefacts._certify(adapter, made or certificate(), 1e-4)
    (run / "certificate.json").write_text(text, encoding="utf-8")
    return run


def failed(folder: Path, **arguments: Any) -> set[str]:
    return {each.check for each in verify(folder, **arguments) if not each.passed}


def changed(folder: Path, change: Callable[[dict[str, Any]], object], *, canonical: bool) -> None:
    """Edit both certificates alike, in canonical form or in another layout."""
    for path in (folder / "certificate.json", folder / "adapter" / "certificate.json"):
        fields = json.loads(path.read_text(encoding="utf-8"))
        change(fields)
        text = json.dumps(fields, sort_keys=True, separators=(",", ":") if canonical else None)
        path.write_text(text + "\n", encoding="utf-8")


def edit_tensor(run: Path) -> None:
    path = run / "adapter" / FILE
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def rename_tensor(run: Path) -> None:
    path = run / "adapter" / FILE
    path.write_bytes(path.read_bytes().replace(b"a.weight", b"c.weight"))


def strip_metadata(run: Path) -> None:
    path = run / "adapter" / FILE
    save_file(load_file(path), path, metadata={"format": "pt"})


def name_another(run: Path) -> None:
    write_note(run / "adapter" / FILE, "0f" * 32)


def test_what_was_published_holds(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    assert not failed(run)
    assert not failed(run / "adapter")
    copied = shutil.copytree(run / "adapter", tmp_path / "alone")
    assert not failed(copied)
    assert trusted(Artefact.of(copied)).certificate == certificate()


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        (edit_tensor, "tensors"),
        (rename_tensor, "tensors"),
        (strip_metadata, "metadata of the tensors"),
        (name_another, "metadata of the tensors"),
        (lambda run: (run / "adapter" / "weights.bin").write_bytes(b"x"), "other files of weights"),
        (lambda run: (run / "adapter" / FILE).unlink(), "tensors"),
    ],
)
def test_edited_tensors_are_found(tmp_path: Path, edit: Any, check: str) -> None:
    run = publish(tmp_path / "run")
    edit(run)
    assert check in failed(run)
    assert check in failed(run / "adapter")
    with pytest.raises(BrokenGuaranteeError, match=check):
        trusted(Artefact.of(run))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda f: f["runs"][0].update(dataset_id="others"), "metadata of the tensors"),
        (
            lambda f: f["runs"][0]["mechanism"].update(noise_multiplier=9.0),
            "epsilon at delta 0.0001",
        ),
        (lambda f: f["claims"][1].update(epsilon=0.1), "epsilon at delta 1e-05"),
        (lambda f: f["claims"][0].update(epsilon=None), "epsilon at delta 0.0001"),
        (lambda f: f["claims"].clear(), "metadata of the tensors"),
        (lambda f: f["artefact"].update(tensors_sha256="0f" * 32), "tensors"),
        (lambda f: f["runs"][0].update(num_records=500), "certificate in adapter"),
        (lambda f: f["runs"][0].update(discount=2), "certificate in adapter"),
        (lambda f: f["runs"].clear(), "certificate in adapter"),
        (lambda f: f.update(format_version=3), "certificate in adapter"),
    ],
)
def test_edited_certificates_are_found(tmp_path: Path, change: Any, check: str) -> None:
    run = publish(tmp_path / "run")
    changed(run, change, canonical=True)
    assert check in failed(run)
    assert check in failed(run / "adapter")


def test_another_layout_is_not_the_certificate(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    changed(run, lambda _: None, canonical=False)
    assert failed(run) == {"certificate in run", "certificate in adapter"}


def test_a_wrong_claim_is_found_even_if_the_tensors_name_it(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    changed(run, lambda fields: fields["claims"][0].update(epsilon=0.1), canonical=True)
    text = (run / "certificate.json").read_text(encoding="utf-8")
    write_note(run / "adapter" / FILE, Publication.from_json(text).digest)
    assert failed(run) == {"epsilon at delta 0.0001"}


def test_a_wrong_numerical_error_is_found(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", certificate(accountant="pld"))
    assert not failed(run)
    changed(run, lambda f: f["claims"][0].update(numerical_error=1.0), canonical=True)
    assert "numerical error at delta 0.0001" in failed(run)


def test_a_missing_certificate_is_found(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    (run / "certificate.json").unlink()
    assert failed(run) == {"certificate in run", "certificates of run and adapter"}
    (run / "adapter" / "certificate.json").unlink()
    assert failed(run / "adapter") == {"certificate in adapter"}
    for folder in (run, run / "adapter"):
        with pytest.raises(BrokenGuaranteeError, match="to exist"):
            read_certificate(folder)


def test_a_certificate_of_another_run_beside_the_adapter_is_found(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    other = publish(tmp_path / "other", certificate(run_id="two"))
    shutil.copy(other / "certificate.json", run / "certificate.json")
    assert failed(run) >= {"certificates of run and adapter"}


def test_bytes_that_are_no_text_are_no_certificate(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    for path in (run / "certificate.json", run / "adapter" / "certificate.json"):
        path.write_bytes(b"\xff\xfe{")
    assert failed(run) == {"certificate in run", "certificate in adapter"}


def test_version_one_cannot_be_verified_and_says_why(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    changed(run, lambda fields: fields.update(format_version=1), canonical=True)
    (finding, *_) = verify(run)
    assert "no digest of tensors" in finding.found


def test_a_run_that_was_not_private_claims_nothing_and_verifies(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", certificate(private=False, mechanism=None))
    assert not failed(run)


def test_the_ledger_is_asked_for_the_entry_that_a_run_names(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", certificate(ledger=REFERENCE))
    assert not failed(run, ledger=lambda run: run.ledger == REFERENCE)
    assert failed(run, ledger=lambda _: False) == {"ledger, run one"}


def test_a_run_that_names_no_entry_is_not_vouched_for(tmp_path: Path) -> None:
    bare = publish(tmp_path / "bare")
    assert not failed(bare)
    assert failed(bare, ledger=lambda _: True) == {"ledger, run one"}
    (found,) = [each for each in verify(bare, ledger=lambda _: True) if not each.passed]
    assert found.found == "names no entry of a ledger: not looked for"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to exist"):
        verify(tmp_path / "nowhere")


def test_tensors_that_name_a_lost_certificate_are_known_for_it(tmp_path: Path) -> None:
    folder = publish(tmp_path / "run") / "adapter"
    for lost in (folder, folder.parent):
        artefact = Artefact(folder, (folder / "certificate.json",))
        assert holds_certificate(artefact)
        (lost / "certificate.json").unlink()
    assert holds_certificate(artefact)
    strip_metadata(folder.parent)
    assert not holds_certificate(artefact)
    assert NOTE not in (folder / FILE).read_bytes().decode("latin-1")


@pytest.mark.parametrize("name", [FILE, "model.safetensors", "pytorch_model.bin"])
def test_weights_beside_the_adapter_of_a_run_are_found(tmp_path: Path, name: str) -> None:
    """The run folder is one that peft can load from, and its certificate says nothing of them."""
    run = publish(tmp_path / "run")
    save_file({"a.weight": torch.zeros(4)}, run / name)
    assert failed(run) == {"other files of weights"}
    with pytest.raises(BrokenGuaranteeError, match=name):
        trusted(Artefact.of(run))
    assert not failed(run / "adapter")


def test_weights_behind_a_link_are_found(tmp_path: Path) -> None:
    run = publish(tmp_path / "run")
    elsewhere = publish(tmp_path / "other") / "adapter"
    (run / "adapter" / "second").symlink_to(elsewhere, target_is_directory=True)
    assert failed(run) == {"other files of weights"}


@pytest.mark.parametrize("number", ["1e400", "9" * 5000])
def test_numbers_that_are_none_are_found(tmp_path: Path, number: str) -> None:
    run = publish(tmp_path / "run", certificate(accountant="pld"))
    for path in (run / "certificate.json", run / "adapter" / "certificate.json"):
        text = path.read_text(encoding="utf-8")
        mark = '"numerical_error":'
        path.write_text(text.replace(f"{mark}null", f"{mark}{number}"), encoding="utf-8")
    assert failed(run) == {"certificate in run", "certificate in adapter"}


def test_a_numerical_error_that_was_talked_away_is_found(tmp_path: Path) -> None:
    run = publish(tmp_path / "run", certificate(accountant="pld"))
    changed(run, lambda f: f["claims"][0].update(numerical_error=0.0), canonical=True)
    assert "numerical error at delta 0.0001" in failed(run)
