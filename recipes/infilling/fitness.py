"""Whether a model can name the labels of a task as asked, found before it is loaded. No torch."""

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import stored_tokenizer
from dpft.recipes.config.schema import Architecture, FamilyName, HeadName
from dpft.recipes.infilling.encoding import word_tokens
from dpft.recipes.infilling.wording import checked_wording
from dpft.recipes.tasks import Task
from dpft.recipes.tasks.traits import TaskKind, traits_of

__all__ = ["family_problems", "refuse_unfit_words"]


def family_problems(architecture: Architecture, task: Task) -> list[str]:
    """Return what is wrong with template and words, without a tokenizer.

    Args:
        architecture: How the model is loaded.
        task: The task.

    Privacy:
        Nothing, no data touched.
    """
    family = architecture.family
    if family is FamilyName.CLASSIFIER:
        return _unused(architecture)
    if traits_of(task).kind is not TaskKind.CLASSIFICATION:
        said = (
            f"Expected architecture.family={family.value} with a task of labels, not with "
            f"task={task.name}. It has no label to find a word for. Unset architecture.family."
        )
        return [said]
    problems = []
    if architecture.head is not HeadName.FRESH:
        problems.append(
            f"Expected architecture.head={architecture.head.value} without "
            f"architecture.family={family.value}. It has no head to start. Unset one of them."
        )
    try:
        fills_in = family is FamilyName.INFILLING
        checked_wording(task, architecture.template, architecture.label_words, with_mask=fills_in)
    except ConfigurationError as error:
        problems.extend(error.messages)
    return problems


def refuse_unfit_words(architecture: Architecture, task: Task, base_model: str) -> None:
    """Raise if the words of labels are not one token each to the tokenizer of the base model.

    Args:
        architecture: How the model is loaded; its template and words were found sound.
        task: The task.
        base_model: Name of the base model.

    Raises:
        ConfigurationError: If a word is not one token, or the model has no mask.

    Privacy:
        Nothing, no data touched.
    """
    if architecture.family is not FamilyName.INFILLING:
        return
    words = architecture.label_words
    wording = checked_wording(task, architecture.template, words, with_mask=True)
    try:
        tokenizer = stored_tokenizer(base_model)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Expected model={base_model} to have a tokenizer. transformers says: {error}. "
            "Correct the name."
        ) from error
    word_tokens(tokenizer, wording)


def _unused(architecture: Architecture) -> list[str]:
    given = {"template": architecture.template, "label_words": architecture.label_words}
    return [
        f"Expected architecture.{name} to be unset with architecture.family=classifier. A head "
        "reads no words. Unset it, or set architecture.family=infilling."
        for name, value in given.items()
        if value is not None
    ]
