"""Saves a vector: tensors, what they were made of, and the certificate that belongs to them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from dpft.accounting import Certificate
from dpft.accounting.publication import Publication
from dpft.adapters.algebra import Delta, Offset, write
from dpft.adapters.algebra.heads import needs_head
from dpft.artefact_digest import tensor_files, tensors_digest, write_note
from dpft.errors import ConfigurationError
from dpft.run_folder import make_durable, write_whole
from dpft.taskvectors.expression import Expression
from dpft.taskvectors.materialising import materialised
from dpft.taskvectors.reading import START, STARTS, WEIGHTS
from dpft.taskvectors.stored_parts import Form, layouts_of, store_parts
from dpft.taskvectors.terms import Term
from dpft.verification import CERTIFICATE

__all__ = ["store"]


def store(
    terms: Sequence[Term], certificate: Certificate, folder: Path, form: Form = Form.PEFT
) -> None:
    """Write a vector whole or not at all.

    Args:
        terms: At least one.
        certificate: The runs behind them.
        folder: A new folder.
        form: How to store the tensors.

    Raises:
        ConfigurationError: If the folder exists, or no adapter of peft holds the vector.

    Privacy:
        Released weights and public numbers. The certificate lies beside the tensors and names
        their digest (`test_what_was_saved_verifies`).
    """
    if folder.exists():
        raise ConfigurationError(
            f"Expected folder={folder} not to exist. Nothing is overwritten: somebody may rely on "
            "the certificate in it. Name a new folder."
        )
    delta = materialised(terms)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        layouts = layouts_of(delta) if form is Form.DELTA else {}
        _write_tensors(delta, terms[0].leaf.base.published().name, draft, form)
        Expression.of(terms, delta, form, layouts).write(draft)
        _certify(certificate, draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for path in (*draft.rglob("*"), draft):
        make_durable(path)
    draft.rename(folder)
    make_durable(folder.parent)


def _write_tensors(delta: Delta, base: str, folder: Path, form: Form) -> None:
    if form is Form.DELTA:
        store_parts(delta, folder)
        return
    written = write(delta)
    if needs_head(written.config):
        raise ConfigurationError(
            "Expected a prompt of a task with labels to have a head. peft asks for one when it "
            "loads the file. Save it by form=delta, or keep the head."
        )
    written.config.base_model_name_or_path = base or None
    written.config.save_pretrained(str(folder))
    save_file(dict(written.tensors), folder / WEIGHTS, metadata={"format": "pt"})
    starts = {
        f"{START}{place}": part.start.detach().clone().contiguous()
        for place, part in delta.parts.items()
        if isinstance(part, Offset) and part.start is not None
    }
    if starts:
        save_file(starts, folder / STARTS, metadata={"format": "pt"})


def _certify(certificate: Certificate, folder: Path) -> None:
    planned = min(run.delta for run in certificate.runs)
    publication = Publication.of(certificate, tensors_digest(folder), planned)
    write_whole(folder / CERTIFICATE, publication.to_json() + "\n")
    for path in tensor_files(folder):
        write_note(path, publication.digest)
