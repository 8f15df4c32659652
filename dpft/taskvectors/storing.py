"""Saves a vector: tensors, what they were made of, and the certificate that belongs to them.

One place is held at a time. Everything is written into a draft beside the folder, which then gets
its name in one step: a folder of that name is whole, and none is overwritten.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpft.accounting import Certificate
from dpft.accounting.publication import Publication
from dpft.adapters.algebra import Delta, Offset, Part
from dpft.artefact_digest import tensor_files, tensors_digest, write_note
from dpft.errors import ConfigurationError
from dpft.run_folder import make_durable, write_whole
from dpft.taskvectors.adapter_file import WEIGHTS
from dpft.taskvectors.expression import Expression
from dpft.taskvectors.materialising import materialised
from dpft.taskvectors.reading import START, STARTS
from dpft.taskvectors.stored_parts import Form, store_parts
from dpft.taskvectors.tensor_stream import in_layout_order, write_stream
from dpft.taskvectors.terms import Term
from dpft.taskvectors.writing_groups import announced, shape_of, streamed
from dpft.verification import CERTIFICATE

__all__ = ["Draft", "refuse_existing", "shapes_of", "store", "store_draft"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """What is to be saved.

    Args:
        terms: The linear form, at least one term.
        delta: What is stored; its parts are read one at a time.
        shapes: The delta without content (`shapes_of`).
        certificate: The runs behind it.
        form: How to store the tensors.
        dtype: What floating-point tensors are rounded to; None: as they are.
        made_by: Called after the tensors were written: what was done beside adding up.
        readme: Called with what is published: the text of README.md; None for none.

    Privacy:
        Nothing, no data touched: released weights and public numbers.
    """

    terms: Sequence[Term]
    delta: Delta
    shapes: Delta
    certificate: Certificate
    form: Form = Form.PEFT
    dtype: torch.dtype | None = None
    made_by: Callable[[], Mapping[str, object]] = dict
    readme: Callable[[Publication], str] | None = None


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
        As `store_draft`.
    """
    refuse_existing(folder)
    delta = materialised(terms)
    draft = Draft(
        terms=terms, delta=delta, shapes=shapes_of(delta), certificate=certificate, form=form
    )
    store_draft(draft, folder)


def store_draft(draft: Draft, folder: Path) -> None:
    """Write a vector whole or not at all.

    Args:
        draft: What is to be saved.
        folder: A new folder.

    Raises:
        ConfigurationError: If the folder exists, or no adapter of peft holds the vector.

    Privacy:
        Released weights and public numbers. The certificate lies beside the tensors and names
        their digest (`test_what_was_saved_verifies`).
    """
    refuse_existing(folder)
    with _published(folder) as place:
        digest, delta = _write_tensors(draft, place)
        Expression.of(draft.terms, delta, draft.form, draft.made_by()).write(place)
        publication = _certify(draft.certificate, digest, place)
        if draft.readme is not None:
            write_whole(place / "README.md", draft.readme(publication))


def shapes_of(delta: Delta) -> Delta:
    """Return a delta without content, reading one part at a time.

    Args:
        delta: Any delta.

    Privacy:
        Nothing, no data touched.
    """
    parts = {place: shape_of(delta.parts[place]) for place in delta.parts}
    return dataclasses.replace(delta, parts=parts)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that is there, or one inside a certified artefact.

    Args:
        folder: Where somebody wants to write.

    Raises:
        ConfigurationError: If it exists, or lies inside.

    Privacy:
        Nothing, no data touched. A certificate is of all tensors below its folder: more of them
        would make it one of other tensors (`test_nothing_is_written_into_a_certified_folder`).
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(
            f"Expected folder={folder} not to exist. Nothing is overwritten: somebody may rely on "
            "the certificate in it. Name a new folder."
        )
    for parent in folder.absolute().resolve().parents:
        if (parent / CERTIFICATE).is_file() and any(parent.glob("*.safetensors")):
            raise ConfigurationError(
                f"Expected folder={folder} not to lie inside {parent}. The certificate there is of "
                "all tensors below, and would no longer hold. Name a folder elsewhere."
            )


@contextlib.contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """Give a draft the name of the folder once it is whole; leave nothing if that fails."""
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".draft", dir=folder.parent))
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            make_durable(path)
        draft.chmod(0o777 & ~_umask())  # as mkdir would have it; mkdtemp is for one user alone
        refuse_existing(folder)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # somebody else uses it meanwhile
                parent.rmdir()
        raise
    make_durable(folder.parent)


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask


class _Noted(Mapping[str, Part]):
    """Parts that leave their shapes behind when they are read."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self.shapes: dict[str, Part] = {}

    def __getitem__(self, place: str) -> Part:
        part = self._parts[place]
        self.shapes[place] = shape_of(part)
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _write_tensors(draft: Draft, folder: Path) -> tuple[str, Delta]:
    """Write all tensors; return their digest, and the shapes that were written."""
    if draft.form is Form.DELTA:
        store_parts(draft.delta, folder)
        return tensors_digest(folder), draft.delta
    what = announced(draft.shapes)
    noted = _Noted(draft.delta.parts)
    digest = hashlib.sha256()
    tensors = streamed(dataclasses.replace(draft.delta, parts=noted), what, draft.dtype)
    shapes = {name: _rounded(each, draft.dtype) for name, each in what.shapes.items()}
    write_stream(folder / WEIGHTS, shapes, tensors, digest)
    written = dataclasses.replace(draft.shapes, parts=noted.shapes)
    config: Any = announced(written).config  # with the ranks that came out
    config.base_model_name_or_path = draft.terms[0].leaf.base.published().name or None
    config.save_pretrained(str(folder))
    starts = _write_starts(draft.delta, written, folder, digest)
    in_order = in_layout_order(shapes) == sorted(shapes) and starts == sorted(starts)
    return digest.hexdigest() if in_order else tensors_digest(folder), written


def _rounded(shape: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return shape if dtype is None or not shape.is_floating_point() else shape.to(dtype)


def _write_starts(delta: Delta, written: Delta, folder: Path, digest: Any) -> list[str]:
    """Write where trained tensors began, as far as it is known, and return their names."""
    places = [place for place, part in written.parts.items() if isinstance(part, Offset)]
    parts = {place: delta.parts[place] for place in places}
    starts = {
        f"{START}{place}": part.start
        for place, part in parts.items()
        if isinstance(part, Offset) and part.start is not None
    }
    order = in_layout_order(starts)
    if starts:
        write_stream(folder / STARTS, starts, ((name, starts[name]) for name in order), digest)
    return order


def _certify(certificate: Certificate, digest: str, folder: Path) -> Publication:
    planned = min(run.delta for run in certificate.runs)
    publication = Publication.of(certificate, digest, planned)
    write_whole(folder / CERTIFICATE, publication.to_json() + "\n")
    for path in tensor_files(folder):
        write_note(path, publication.digest)
    return publication
