"""Classification of texts in files of your own."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks.tables import FORMATS, labelled_rows, read_rows
from dpft.recipes.tasks.task import Row, Split, register

__all__ = ["TextClassification", "TextClassificationSettings"]


@validated
class TextClassificationSettings:
    """Which files and columns to use.

    Args:
        train: CSV, JSON lines or Parquet file of the training records.
        labels: All labels there are, as they stand in the label column. They are declared public:
            a label set read off the records would be a release.
        validation: File of held-out records.
        text_column: Column of the text.
        label_column: Column of the label.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    validation: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    name: str = "text_classification"


class TextClassification:
    """Texts and labels in files of your own.

    Args:
        settings: Which files and columns to use.

    Raises:
        ConfigurationError: If a label is declared twice.

    Privacy:
        Held-out records are as private as the training records until somebody says otherwise:
        there is no metric unless `privacy.evaluation` is set
        (`tests/recipes/test_text_classification.py`).
    """

    name = "text_classification"
    text_field = "text"
    descriptions: tuple[tuple[str, ...], ...] = ()
    label_field = "label"
    evaluation: EvaluationStatus | None = None

    def __init__(self, settings: TextClassificationSettings) -> None:
        self._settings = settings
        self._indices = {label: index for index, label in enumerate(settings.labels)}
        if len(self._indices) != len(settings.labels):
            raise ConfigurationError(
                f"Expected task.labels={list(settings.labels)} to differ from each other. Each "
                "label is one class. Remove the repetition."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._settings.labels

    def problems(self) -> list[str]:
        """Return what is wrong with the files, without reading any record."""
        named = {"train": self._settings.train, "validation": self._settings.validation}
        return [
            f"Expected task.{key}={file} to be a file that ends in one of {', '.join(FORMATS)}. "
            "There is nothing to read. Correct the path."
            for key, file in named.items()
            if file is not None and not (Path(file).is_file() and Path(file).suffix in FORMATS)
        ]

    def default_model(self) -> str | None:
        """Return None: the base model is chosen by the user."""
        return None

    def load(self, split: Split) -> list[Row]:
        """Read a split.

        Raises:
            ConfigurationError: If a record is malformed, or there is no file of the split.

        Privacy:
            Reads raw records; nothing is released, and messages never quote a record.
        """
        path = self._file(split)
        text, label = self._settings.text_column, self._settings.label_column
        rows = read_rows(path, (text, label))
        return labelled_rows(path, rows, text=text, label=label, index_of=self._index)

    def _file(self, split: Split) -> Path:
        file = self._settings.train if split is Split.TRAIN else self._settings.validation
        if file is None:
            raise ConfigurationError(
                "Expected task.validation to be given with privacy.evaluation. A metric needs "
                "held-out records. Set task.validation, or privacy.evaluation=none."
            )
        return Path(file)

    def _index(self, value: object) -> int | None:
        return self._indices.get(str(value))


register("text_classification", TextClassificationSettings, TextClassification)
