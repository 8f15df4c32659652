"""Leaves from adapters in memory and from folders: what peft saved, and whose certificate it is."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from dpft.accounting import Certificate
from dpft.adapters.algebra import BaseModel, Delta, Source, read
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.inheritance import inherited
from dpft.taskvectors.adapter_file import WEIGHTS, adapter_config, read_lazily, shapes_in
from dpft.taskvectors.bases import BaseIdentity, refuse_other_base
from dpft.taskvectors.certification import Uncertified, check_runs, marked
from dpft.taskvectors.expression import Expression
from dpft.taskvectors.leaf import Leaf, digest_of_delta
from dpft.taskvectors.stored_parts import Form, parts_in
from dpft.verification import Artefact, holds_certificate, stated, trusted

__all__ = [
    "START",
    "STARTS",
    "Reading",
    "base_of_folder",
    "certified_leaf",
    "leaf_of_adapter",
    "leaf_of_folder",
]

STARTS = "start.safetensors"
START = "start."  # before each name, since no two tensors of an artefact have one name
_TRAINED_BY_US = "dpft_run"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """How a delta is read.

    Args:
        on_uncertified: What to do with a delta that has no certificate.
        base: The model as it was before training; needed for trained biases, for DoRA in a folder
            and for the digest of a folder's base model.
        start: Where trained tensors began, by their names in the model; needed for the task vector
            of a prompt (`prompt_embeddings`).

    Privacy:
        Nothing, no data touched.
    """

    on_uncertified: Uncertified = Uncertified.REFUSE
    base: nn.Module | None = None
    start: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)


def leaf_of_adapter(
    model: nn.Module, adapter_name: str, certificate: Certificate | None, options: Reading
) -> Leaf:
    """Read an adapter of a model in memory.

    Args:
        model: A model with adapters of peft.
        adapter_name: Which of them.
        certificate: Its certificate; None takes the one of the run that trained the model in this
            process.
        options: How to read it.

    Returns:
        The leaf, with copies of all tensors.

    Raises:
        ConfigurationError: If there is no such adapter, or it cannot be read exactly.
        BrokenGuaranteeError: If there is no certificate.

    Privacy:
        Nothing, no data touched: released weights. Whether the certificate is that of these weights
        cannot be seen in memory: whoever gives it states so.
    """
    config = _config_of(model, adapter_name)
    if options.base is None and getattr(config, "bias", "none") != "none":
        raise ConfigurationError(
            f"Expected base to be given with bias={config.bias}. peft trains these biases in the "
            "base model itself, so that where they began is not in the adapted model. Give "
            "Reading(base=MODEL) with the model as it was before."
        )
    saved = get_peft_model_state_dict(
        model,
        state_dict=model.state_dict(),  # given: peft takes the bias of B for a broken tensor
        adapter_name=adapter_name,
        save_embedding_layers=False,
    )
    tensors = {name: tensor.detach().clone() for name, tensor in saved.items()}
    base = BaseModel(model if options.base is None else options.base)
    source = Source(config=config, tensors=tensors, base=base, start=options.start)
    known = _known(model) if certificate is None else certificate
    return certified_leaf(read(source), known, BaseIdentity(base.name, base.digest), options)


def leaf_of_folder(folder: Path, options: Reading) -> Leaf:
    """Read a folder of an adapter, of a run, or of a saved vector.

    Args:
        folder: The folder.
        options: How to read it.

    Returns:
        The leaf. Tensors stay in the folder, and are read when they are used; one that changed
        meanwhile is refused then.

    Raises:
        ConfigurationError: If it cannot be read exactly.
        BrokenGuaranteeError: If the certificate is not that of the tensors, or there is none.

    Privacy:
        Nothing, no data touched: released weights. The certificate's digest is compared with the
        tensors (`test_tensors_edited_after_certification_are_refused`).
    """
    artefact = Artefact.of(folder)
    certificate = stated(artefact).certificate if holds_certificate(artefact) else None
    expression = Expression.read(artefact.folder)
    base = None if options.base is None else BaseModel(options.base)
    if expression is not None and expression.form is Form.DELTA:
        delta = expression.shell(parts_in(artefact.folder, expression.layouts))
    else:
        delta = _saved_adapter(artefact.folder, base, options, expression)
    identity = _identity(artefact.folder, base, expression)
    leaf = certified_leaf(delta, certificate, identity, options)
    if certificate is not None:
        _refuse_other_certificate(artefact, certificate)
    return leaf


def certified_leaf(
    delta: Delta, certificate: Certificate | None, base: BaseIdentity, options: Reading
) -> Leaf:
    """Join a delta and its certificate.

    Args:
        delta: What was trained.
        certificate: Its runs; None if nobody knows.
        base: The model that it belongs to.
        options: What to do if nobody knows.

    Raises:
        BrokenGuaranteeError: If there is no certificate and it was not asked to mark the delta, or
            the certificate's statement cannot hold.

    Privacy:
        Nothing, no data touched (`test_a_delta_without_certificate_is_refused_unless_marked`).
    """
    if certificate is None:
        if Uncertified(options.on_uncertified) is Uncertified.REFUSE:
            raise BrokenGuaranteeError(
                "Expected certificate to be given or to lie beside the tensors. Nobody knows what "
                "the delta tells of private records. Give certificate=, or ask by name for "
                "Reading(on_uncertified='mark'): epsilon of all that is made of it is infinite."
            )
        certificate = marked(digest_of_delta(delta))
    check_runs(certificate.runs)
    return Leaf.of(delta, certificate, base)


def base_of_folder(folder: Path, expression: Expression | None) -> BaseIdentity:
    """Return which base model a folder says that it belongs to.

    Args:
        folder: Folder of an adapter or of a saved vector.
        expression: What the folder's `expression.json` holds; None if there is none.

    Returns:
        As the expression has it, else the name that peft wrote, without a digest.

    Raises:
        ConfigurationError: If a file is missing or damaged.

    Privacy:
        Nothing, no data touched.
    """
    if expression is not None:
        return expression.base
    return BaseIdentity(str(adapter_config(folder).base_model_name_or_path or ""), None)


def _refuse_other_certificate(artefact: Artefact, certificate: Certificate) -> None:
    """Compare tensors with their certificate once the leaf is sealed, not before.

    What is replaced after this is found by the seal, and what was replaced before it by this.
    """
    if trusted(artefact).certificate != certificate:
        raise BrokenGuaranteeError(
            f"Expected {artefact.folder} to stay as it is while it is read. Which certificate is "
            "that of the tensors would not be known. Try again when nobody writes there."
        )


def _config_of(model: nn.Module, adapter_name: str) -> Any:
    configs: Mapping[str, Any] = getattr(model, "peft_config", None) or {}
    if adapter_name not in configs:
        raise ConfigurationError(
            f"Expected adapter_name={adapter_name} to be one of {', '.join(configs) or 'none'}. "
            "There is no such adapter in the model. Name one of them."
        )
    return configs[adapter_name]


def _known(model: Any) -> Certificate | None:
    """Return the certificate of the run that trained the model's only adapter, if it is known."""
    # Not by getattr: peft hands on what the base model has, and that may have been trained under
    # another adapter.
    if _TRAINED_BY_US not in vars(model) or len(model.peft_config) > 1:
        return None
    return Certificate(inherited(model).runs)


def _saved_adapter(
    folder: Path, base: BaseModel | None, options: Reading, expression: Expression | None
) -> Delta:
    config = adapter_config(folder)
    stored: dict[str, torch.Tensor] = {}
    if (folder / STARTS).is_file() and shapes_in(folder / STARTS):
        stored = load_file(folder / STARTS)
    starts = {name.removeprefix(START): tensor for name, tensor in stored.items()}
    source = Source(config=config, tensors={}, base=base, start={**starts, **options.start})
    delta = read_lazily(folder / WEIGHTS, source)
    if expression is None or delta.labels is not None:
        return delta
    return dataclasses.replace(delta, labels=expression.labels)


def _identity(folder: Path, base: BaseModel | None, expression: Expression | None) -> BaseIdentity:
    given = None if base is None else BaseIdentity(base.name, base.digest)
    if expression is not None and given is not None:
        refuse_other_base(given, expression.base)
    return given if expression is None and given is not None else base_of_folder(folder, expression)
