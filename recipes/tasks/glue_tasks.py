"""The tasks of GLUE as values: columns, labels and files, as on the Hub. Nothing is read here."""

import dataclasses

__all__ = ["GLUE", "GlueTask"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueTask:
    """Columns and labels of a task.

    Args:
        first: Column of the first text.
        second: Column of the second text, None for single texts.
        labels: Names of the classes, in the order of their numbers; one name for a number.
        development: Files of development records, without their ending.
        span: Smallest and largest number, where one is predicted.

    Privacy:
        Nothing, no data touched.
    """

    first: str
    second: str | None = None
    labels: tuple[str, ...]
    development: tuple[str, ...] = ("validation",)
    span: tuple[float, float] = (0.0, 0.0)

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that hold text."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (*self.texts, "label")

    @property
    def is_regression(self) -> bool:
        """Whether a number is predicted."""
        return len(self.labels) == 1

    def value(self, label: object) -> int | float | None:
        """Return a label as it is learnt, None if it is none of the task, as where it is hidden."""
        try:
            number = float(str(label))
        except ValueError:
            return None
        if self.is_regression:
            lowest, highest = self.span
            return number if lowest <= number <= highest else None  # never of NaN
        known = number.is_integer() and 0 <= number < len(self.labels)
        return int(number) if known else None


_ENTAILMENT = ("entailment", "not_entailment")
_DUPLICATE = ("not_duplicate", "duplicate")

GLUE = {
    "cola": GlueTask(first="sentence", labels=("unacceptable", "acceptable")),
    "mnli": GlueTask(
        first="premise",
        second="hypothesis",
        labels=("entailment", "neutral", "contradiction"),
        development=("validation_matched", "validation_mismatched"),
    ),
    "mrpc": GlueTask(
        first="sentence1", second="sentence2", labels=("not_equivalent", "equivalent")
    ),
    "qnli": GlueTask(first="question", second="sentence", labels=_ENTAILMENT),
    "qqp": GlueTask(first="question1", second="question2", labels=_DUPLICATE),
    "rte": GlueTask(first="sentence1", second="sentence2", labels=_ENTAILMENT),
    "stsb": GlueTask(
        first="sentence1", second="sentence2", labels=("similarity",), span=(0.0, 5.0)
    ),
    "wnli": GlueTask(
        first="sentence1", second="sentence2", labels=("not_entailment", "entailment")
    ),
}
"""By name; Wang et al. 2018 (1804.07461), table 1. SST-2 is `dpft.recipes.tasks.sst2`."""
