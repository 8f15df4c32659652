"""How a record is put into words: a template, and one word for each label. No torch in here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dpft.errors import ConfigurationError
from dpft.recipes.tasks import Task
from dpft.recipes.tasks.traits import traits_of

__all__ = ["WORDINGS", "Wording", "checked_wording", "default_wording"]

_FIELD = re.compile(r"\{(\w*)\}")
_PAIR = "{text} ? {mask}, {pair}"


@dataclass(frozen=True)
class Wording:
    """A template and the words of the labels.

    Args:
        template: Text with {text}, for pairs {pair}, and for text infilling {mask}.
        words: For each label in order, the word that stands for it.

    Privacy:
        Nothing, no data touched.

    References:
        Li et al. 2022 (2110.05679), released templates, after Gao et al. 2021 (2012.15723), table
        1. Theirs also drop the last sign of the first sentence and lower the first letter of the
        second; here records stay as they are.
    """

    template: str
    words: tuple[str, ...]

    def fields(self) -> list[str]:
        """Return the names in braces, in order."""
        return _FIELD.findall(self.template)

    def text_of(self, values: Mapping[str, str]) -> str:
        """Put values into the template; braces within the values stay as they are."""
        return _FIELD.sub(lambda match: values[match[1]], self.template)


# By task and label; the order of labels is the task's.
WORDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "cola": ("{text} This is {mask}.", {"unacceptable": "incorrect", "acceptable": "correct"}),
    "mnli": (_PAIR, {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"}),
    "mrpc": ("{text} {mask}, {pair}", {"not_equivalent": "No", "equivalent": "Yes"}),
    "qnli": (_PAIR, {"entailment": "Yes", "not_entailment": "No"}),
    "qqp": ("{text} {mask}, {pair}", {"not_duplicate": "No", "duplicate": "Yes"}),
    "rte": (_PAIR, {"entailment": "Yes", "not_entailment": "No"}),
    "sst2": ("{text} It was {mask}.", {"negative": "terrible", "positive": "great"}),
}


def default_wording(task: Task) -> Wording | None:
    """Return the wording that the papers use for a task, None if they have none.

    Privacy:
        Nothing, no data touched.
    """
    template, words = WORDINGS.get(task.name, ("", {}))
    if set(words) != set(task.labels):
        return None
    return Wording(template, tuple(words[label] for label in task.labels))


def checked_wording(
    task: Task, template: str | None, words: tuple[str, ...] | None, *, with_mask: bool
) -> Wording:
    """Return the wording of a run, from its settings or that of the papers.

    Args:
        task: The task.
        template: As set; unset: that of the papers.
        words: As set; unset: those of the papers.
        with_mask: Whether the template is to hold {mask}, as for text infilling.

    Returns:
        The wording.

    Raises:
        ConfigurationError: If a template or words are missing, or do not fit task and labels.

    Privacy:
        Nothing, no data touched.
    """
    default = default_wording(task)
    if template is None and default is not None:
        template = default.template if with_mask else _without_mask(default.template)
    if words is None and default is not None:
        words = default.words
    if template is None or words is None:
        raise ConfigurationError(
            f"Expected architecture.template and architecture.label_words with task={task.name}. "
            "It has none of its own, and what its labels mean is never guessed. Set both, as in "
            "architecture.template='{text} It was {mask}.' architecture.label_words=[bad,good]."
        )
    wording = Wording(template, words)
    problems = [*_template_problems(wording, task, with_mask=with_mask), *_words(wording, task)]
    if problems:
        raise ConfigurationError(problems)
    return wording


def _without_mask(template: str) -> str:
    return " ".join(template.replace("{mask}", "").replace(" ,", ",").split())


def _template_problems(wording: Wording, task: Task, *, with_mask: bool) -> list[str]:
    pair = traits_of(task).pair_field is not None
    expected = ["text", *(["pair"] if pair else []), *(["mask"] if with_mask else [])]
    if sorted(wording.fields()) == sorted(expected):
        return []
    names = " and ".join(f"{{{name}}}" for name in expected)
    said = (
        f"Expected architecture.template={wording.template!r} to hold {names}, each once and "
        "nothing else in braces. Without them a record or its answer has no place. Correct the "
        "template."
    )
    return [said]


def _words(wording: Wording, task: Task) -> list[str]:
    if len(set(wording.words)) == len(wording.words) == len(task.labels):
        return []
    said = (
        f"Expected architecture.label_words={list(wording.words)} to be {len(task.labels)} words "
        f"that differ, one for each of {', '.join(task.labels)}. Labels with the same word cannot "
        "be told apart. Correct the words."
    )
    return [said]
