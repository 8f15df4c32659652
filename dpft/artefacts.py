"""What a finished run publishes: the adapter, its certificate, the report."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from dpft.accounting import Certificate, RunRecord, Unit
from dpft.accounting.publication import Publication
from dpft.accounting.run_record import LedgerReference
from dpft.artefact_digest import tensor_files, tensors_digest, write_note
from dpft.declarations import floats_in_words, taken_as_public
from dpft.held_out import training_part
from dpft.model_card import write_plain_card
from dpft.preflight_statement import PREFLIGHT, PreflightStatement
from dpft.private_step import PrivateStep
from dpft.report import ReportFacts, write_report
from dpft.run_folder import RunFolder, environment, make_durable, storing, write_whole
from dpft.verification import CERTIFICATE

__all__ = ["CHOICE_OF_SETTINGS", "run_record", "save_adapter", "save_artefacts"]

CHOICE_OF_SETTINGS = (
    "Choosing hyper-parameters by looking at results of other runs on these records."
)
_EXCLUDED = (
    CHOICE_OF_SETTINGS,
    "The data on which a public base model was trained.",
    "Other runs on the same records: their certificates have to be composed with this one.",
    "Whoever watches the machine: time, memory, power and network may depend on sampled records.",
    "Interruptions that depend on records, as when a certain sample exhausts the memory.",
)
_OF_USERS = (
    "Users told apart otherwise, as by another column of owners: runs whose owners were named "
    "otherwise have no guarantee together, whatever epsilon adds up to."
)


def run_record(
    step: PrivateStep, run_id: str, *, ledger: LedgerReference | None = None
) -> RunRecord:
    """Return the run's entry in its certificate.

    Args:
        step: The steps that were taken.
        run_id: Random name of the run.
        ledger: Where the run stands in a ledger, if one charged it.

    Privacy:
        Public numbers and names: of a base model, its folder's last part alone.
    """
    plan = step.plan
    of_users = (_OF_USERS,) if plan.privacy.covers is Unit.USER else ()
    return RunRecord(
        run_id=run_id,
        dataset_id=plan.privacy.dataset_id,
        mechanism=step.mechanism,
        unit=plan.privacy.covers,
        adjacency=plan.length.adjacency,
        num_records=plan.length.num_records,
        expected_batch_size=plan.length.expected_batch_size,
        clipping=plan.privacy.clipping.value,
        clip_norm=plan.privacy.clip_norm,
        delta=plan.privacy.delta,
        private=step.is_private,
        generator=step.generator,
        sampler=step.sampler,
        accountant=plan.privacy.accountant.value,
        partition=training_part(plan.privacy),
        inputs=step.started.inputs,
        divisor=plan.length.expected_batch_size,
        versions={name: each for name, each in environment()["versions"].items() if each},
        excluded=(*_EXCLUDED, floats_in_words(plan.privacy), *of_users, *taken_as_public(plan)),
        ledger=ledger,
    )


def save_artefacts(
    model: nn.Module, certificate: Certificate, folder: RunFolder, facts: ReportFacts
) -> None:
    """Write weights, checks before the first step, certificate and report into the run folder.

    Args:
        model: The trained model.
        certificate: The mechanisms that touched the data.
        folder: The run folder. The certificate lies in it and beside the weights, which name it
            in the metadata of their file.
        facts: What the report states.

    Raises:
        StorageError: If the disk takes no more; what was there before is unchanged.

    Privacy:
        Weights after noise, and public numbers
        (`tests/end_to_end/test_run_folder_is_releasable.py`).
    """
    stated = PreflightStatement.of(facts.preflight, folder.config)

    def publish(draft: Path) -> str:
        text = _certify(draft, certificate, facts.run.delta, stated)
        write_plain_card(draft, model, Publication.from_json(text), facts.run)
        return text

    text = _save_adapter(model, folder.adapter, publish)
    write_whole(folder.certificate, text)
    folder.write_environment()
    write_report(folder.path, facts)


def save_adapter(model: nn.Module, certificate: Certificate, folder: Path, delta: float) -> None:
    """Write weights and their certificate into a folder of their own.

    Args:
        model: A model after a noisy step.
        certificate: What the weights may claim.
        folder: Where they will lie; what is there is replaced, once the new ones are whole.
        delta: Delta at which the file states epsilon.

    Raises:
        StorageError: If the disk takes no more; what was there before is unchanged.

    Privacy:
        Weights after noise, and public numbers.
    """
    _save_adapter(model, folder, partial(_certify, certificate=certificate, delta=delta))


def _save_adapter(model: nn.Module, adapter: Path, publish: Callable[[Path], str]) -> str:
    """Write the adapter whole or not at all, and return the text of its certificate."""
    draft = adapter.with_name(f".{adapter.name}.draft")
    former = adapter.with_name(f".{adapter.name}.former")
    with storing(adapter, "the steps stay charged, and what was there before is unchanged"):
        if former.exists() and not adapter.exists():  # an interruption between two names
            former.rename(adapter)
        for stale in (draft, former):  # of a process that was interrupted while it wrote
            _remove(stale)
        text = _drafted(model, draft, publish)
        if adapter.exists():
            adapter.rename(former)
        draft.rename(adapter)
        make_durable(adapter.parent)
        _remove(former)
    return text


def _drafted(model: nn.Module, draft: Path, publish: Callable[[Path], str]) -> str:
    """Write the adapter durably under the name of its draft; if that fails, leave nothing."""
    save: Callable[..., None] = model.save_pretrained  # type: ignore[assignment]  # peft's
    # peft would otherwise look the base model's vocabulary up on the Hub
    adapter_only = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    try:
        save(draft, safe_serialization=True, **adapter_only)
        text = publish(draft)
        for path in (*draft.rglob("*"), draft):
            make_durable(path)
    except (OSError, SafetensorError) as error:  # the latter for what the disk does not take
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from error
    return text


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _certify(
    folder: Path, certificate: Certificate, delta: float, stated: PreflightStatement | None = None
) -> str:
    """Write the certificate beside weights, and its digest into the metadata of their files."""
    preflight = None if stated is None else stated.digest
    if stated is not None:
        write_whole(folder / PREFLIGHT, stated.to_json())
    publication = Publication.of(certificate, tensors_digest(folder), delta, preflight)
    text = publication.to_json() + "\n"
    write_whole(folder / CERTIFICATE, text)
    for path in tensor_files(folder):
        write_note(path, publication.digest)
    return text
