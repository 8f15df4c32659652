"""The embedded task: customer messages that look private and belong to nobody."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.privacy import EvaluationStatus
from dpft.recipes.embedded.generator import generate
from dpft.recipes.embedded.topics import LABEL_NAMES
from dpft.recipes.tasks.task import Row, Split, register

__all__ = ["EMBEDDED_MODEL", "Embedded", "EmbeddedSettings"]

EMBEDDED_MODEL = "embedded"


@validated
class EmbeddedSettings:
    """Which records are generated.

    Args:
        name: Name of the task.
        data_seed: Seed of the generator: another seed gives other people and messages.

    Privacy:
        Nothing, no data touched.
    """

    name: str = "embedded"
    data_seed: Annotated[int, Field(ge=0)] = 0


class Embedded:
    """Generated customer messages, labelled by what is asked for.

    Args:
        settings: Which records are generated.

    Privacy:
        The people are invented, hence metrics cost nothing. The training records are nevertheless
        treated as private throughout, so that the whole path is exercised.
    """

    name = "embedded"
    labels: tuple[str, ...] = tuple(LABEL_NAMES)
    text_field = "text"
    descriptions: tuple[tuple[str, ...], ...] = ()
    label_field = "label"
    evaluation: EvaluationStatus | None = EvaluationStatus.PUBLIC

    def __init__(self, settings: EmbeddedSettings) -> None:
        self._settings = settings

    def problems(self) -> list[str]:
        """Return nothing: there are no files that could be wrong."""
        return []

    def default_model(self) -> str | None:
        """Return the name of the encoder in the package."""
        return EMBEDDED_MODEL

    def load(self, split: Split) -> list[Row]:
        """Generate a split; the same settings give the same records."""
        return [dict(record) for record in generate(split.value, seed=self._settings.data_seed)]


register("embedded", EmbeddedSettings, Embedded)
