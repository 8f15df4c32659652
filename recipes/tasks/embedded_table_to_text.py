"""The embedded table-to-text task: notes on visits that look private and belong to nobody."""

from typing import Annotated

from pydantic import Field

from dpft.configuration import validated
from dpft.privacy import EvaluationStatus
from dpft.recipes.embedded.visits import visits
from dpft.recipes.linearisation import linearise
from dpft.recipes.tasks.ownership import OWNER_FIELD
from dpft.recipes.tasks.references import References, note_on, owned_by_table
from dpft.recipes.tasks.task import Row, Split, register
from dpft.recipes.tasks.traits import TaskKind, Traits

__all__ = ["EMBEDDED_DECODER", "EmbeddedTableToText", "EmbeddedTableToTextSettings"]

EMBEDDED_DECODER = "embedded_decoder"


@validated
class EmbeddedTableToTextSettings:
    """Which records are generated.

    Args:
        references: Whether the notes of one table are one record together or several.
        data_seed: Seed of the generator: another seed gives other people.
        name: Name of the task.

    Privacy:
        Nothing, no data touched.
    """

    references: References = References.SEVERAL
    data_seed: Annotated[int, Field(ge=0)] = 0
    name: str = "embedded_table_to_text"


class EmbeddedTableToText:
    """Generated tables on visits, and notes that describe them.

    Args:
        settings: Which records are generated.

    Privacy:
        The people are invented, hence metrics cost nothing. The training records are nevertheless
        treated as private throughout, so that the whole path is exercised.
    """

    name = "embedded_table_to_text"
    labels: tuple[str, ...] = ("text",)
    text_field = "text"
    label_field = "label"
    descriptions: tuple[tuple[str, ...], ...] = ()
    evaluation: EvaluationStatus | None = EvaluationStatus.PUBLIC
    metric = "e2e"

    def __init__(self, settings: EmbeddedTableToTextSettings) -> None:
        self._settings = settings

    @property
    def traits(self) -> Traits:
        """What sets the task apart."""
        one_record = self._settings.references is References.ONE_RECORD
        return Traits(
            kind=TaskKind.TEXT,
            is_table=True,
            owner_field=OWNER_FIELD if one_record else None,
            truncate=False,
            notes=(note_on(self._settings.references),),
        )

    def problems(self) -> list[str]:
        """Return nothing: there are no files that could be wrong."""
        return []

    def default_model(self) -> str | None:
        """Return the name of the decoder in the package."""
        return EMBEDDED_DECODER

    def load(self, split: Split) -> list[Row]:
        """Generate a split, one row for every note; the same settings give the same records."""
        rows: list[Row] = [
            {"text": linearise(visit.table), "label": note}
            for visit in visits(split.value, seed=self._settings.data_seed)
            for note in visit.notes
        ]
        owned = split is Split.TRAIN and self._settings.references is References.ONE_RECORD
        return owned_by_table(rows) if owned else rows


register("embedded_table_to_text", EmbeddedTableToTextSettings, EmbeddedTableToText)
