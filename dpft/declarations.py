"""What may have seen private records outside the steps, and who says that it has not. No torch.

A vocabulary, weights of classes or a threshold that was computed from records is a release of its
own. The library computes none; what a user brings along is declared, or refused where it shows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpft.accounting import Adjacency
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.privacy import EvaluationStatus, NoiseKind, Privacy, PrivacyPlan

__all__ = ["declared_inputs", "floats_in_words", "taken_as_public"]


def declared_inputs(model: Any, tokenizer: Any, declared: Sequence[Input]) -> tuple[Input, ...]:
    """Return what the user declared, after a check that nothing visible is missing from it.

    Args:
        model: The model that is about to be trained.
        tokenizer: What encodes the texts; None if rows are encoded already.
        declared: What else the run uses: public, or unknown, which makes epsilon infinite.

    Returns:
        The declared inputs.

    Raises:
        ConfigurationError: If one is declared to be certified: its folder says more.
        BrokenGuaranteeError: If the tokenizer is not the base model's, or no longer, and was not
            declared.

    Privacy:
        Nothing, no data touched. A vocabulary that was learnt from records tells their words
        (`test_a_tokenizer_of_other_origin_is_declared_or_refused`,
        `test_a_vocabulary_that_was_learnt_anew_keeps_its_name_and_is_found`). Class weights inside
        a loss leave no trace: they have to be declared by whoever computed them.
    """
    certified = sorted(each.name for each in declared if each.status is InputStatus.CERTIFIED)
    if certified:
        raise ConfigurationError(
            f"Expected declared={certified} to be public or unknown. The runs of something "
            "certified are counted too, and stand in its folder. Name that in started_from."
        )
    if tokenizer is not None and not _is_of(tokenizer, model):
        _require_vocabulary(_name_of(tokenizer), declared)
    return tuple(declared)


def floats_in_words(privacy: Privacy) -> str:
    """Return what the guarantee leaves out of computing with floating-point numbers.

    Args:
        privacy: The guarantee.

    Returns:
        A sentence for certificate and report.

    Privacy:
        Nothing, no data touched.
    """
    if privacy.noise is NoiseKind.DISCRETE_GAUSSIAN:
        return "Floating-point arithmetic before the noise, which is exact: the proof is for reals."
    return "Floating-point arithmetic: the proof is for real numbers and exact Gaussian noise."


def taken_as_public(plan: PrivacyPlan) -> tuple[str, ...]:
    """Return what about the records is not protected because it was declared public.

    Args:
        plan: The plan of the run.

    Returns:
        Sentences for the certificate.

    Privacy:
        Nothing, no data touched.
    """
    privacy = plan.privacy
    facts = {
        f"The number of {'users' if privacy.samples_users else 'training records'}: it was "
        "declared public.": plan.length.adjacency is Adjacency.ZERO_OUT,
        "Held-out records, on which metrics were taken: they were declared public.": (
            privacy.evaluation is EvaluationStatus.PUBLIC
        ),
        "The number of held-out records: it was declared public.": (
            privacy.evaluation is EvaluationStatus.NOISY and privacy.evaluation_records is None
        ),
        "Labels, columns, lengths and all other settings: whoever set them declares them public.": (
            True
        ),
    }
    return tuple(sentence for sentence, holds in facts.items() if holds)


def _is_of(tokenizer: Any, model: Any) -> bool:
    """Return whether a tokenizer came with the base model of a model."""
    own = _path_of(tokenizer)
    base = str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")
    named = bool(own) and (own == base or Path(own).resolve() == Path(base).resolve())
    return named and _is_as_stored(tokenizer)


def _is_as_stored(tokenizer: Any) -> bool:
    """Return whether a vocabulary is the one stored under its name.

    One that was learnt anew by `train_new_from_iterator`, or extended, keeps the name.
    """
    if not hasattr(tokenizer, "get_vocab"):  # it has no vocabulary
        return True
    loaded_from = getattr(tokenizer, "init_kwargs", {}).get("name_or_path") or _path_of(tokenizer)
    try:
        stored = type(tokenizer).from_pretrained(loaded_from, local_files_only=True)
    except (OSError, ValueError):
        return False
    return bool(stored.get_vocab() == tokenizer.get_vocab())


def _path_of(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "")


def _name_of(tokenizer: Any) -> str:
    return Path(_path_of(tokenizer)).name or "unnamed tokenizer"


def _require_vocabulary(name: str, declared: Sequence[Input]) -> None:
    known = {each.name for each in declared if each.role is InputRole.VOCABULARY}
    if name not in known:
        raise BrokenGuaranteeError(
            f"Expected tokenizer={name} to be the base model's. A vocabulary that was learnt from "
            "private records tells their words, and nobody said that this one was not. Add "
            f"Input(name={name!r}, role='vocabulary', status='public') to FitOptions.declared if "
            "that is so."
        )
