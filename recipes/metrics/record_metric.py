"""The class of `evaluate` that computes our scorers: offline, in memory, with our messages.

`evaluate.load` fetches a script from the Hub even for accuracy; a subclass in the package does not.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from dpft.errors import ConfigurationError
from dpft.recipes.metrics.inputs import checked_records
from dpft.recipes.metrics.scorer import Kind, Scorer

__all__ = ["RecordMetric"]

_INTEGER = datasets.Value("int64")
_NUMBER = datasets.Value("float64")
_TEXT = datasets.Value("string")
_FEATURES = {
    Kind.LABELS: {"predictions": _INTEGER, "references": _INTEGER},
    Kind.LOSSES: {"predictions": _NUMBER, "references": _INTEGER},
    Kind.NUMBERS: {"predictions": _NUMBER, "references": _NUMBER},
    Kind.TEXTS: {"predictions": _TEXT, "references": datasets.Sequence(_TEXT)},
}
_PURPOSE = "Compares the predictions of a model with references, record by record."
_INPUTS = """
Args:
    predictions: One per record.
    references: One per record; for texts a text or a list of texts.
"""


# `evaluate` ships no annotations, hence its base class has no type.
class RecordMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric with the interface of `evaluate`: `compute`, `add`, `add_batch`, `combine`.

    Args:
        name: Name of the metric.
        scorer: How it is computed.

    Privacy:
        Figures depend on the records and carry no noise: publish them for public records only,
        best through `dpft.recipes.metrics.measurement.measure`. `evaluate` would write predictions
        and references below the home folder; here they stay in memory
        (`test_nothing_is_written_to_disk`).
    """

    def __init__(self, name: str, scorer: Scorer) -> None:
        self._registered_name = name
        self.scorer = scorer
        super().__init__(config_name=name, keep_in_memory=True, seed=0)

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self._registered_name

    def signature(self, references: Sequence[Any]) -> str:
        """Return what must be printed beside the figures: options and versions.

        Args:
            references: As given to `compute`; how many there are per record is part of it.

        Privacy:
            Tells the number of references per record, or that it varies.
        """
        texts = self.scorer.kind is Kind.TEXTS
        as_lists = [[each] if texts and isinstance(each, str) else each for each in references]
        return self.scorer.signature(as_lists)

    def compute(
        self, *, predictions: Any = None, references: Any = None, **options: Any
    ) -> dict[str, float] | None:
        """Return one number per figure, of these records or of those added before.

        Raises:
            ConfigurationError: If there are no records, or one of them is malformed.

        Privacy:
            As the class.
        """
        if predictions is None and references is None and len(self) == 0:
            raise ConfigurationError(
                f"Expected metric {self.name} to have at least one record. A metric of no records "
                "is undefined. Pass predictions and references, or add them before."
            )
        result: dict[str, float] | None = super().compute(
            predictions=predictions, references=references, **options
        )
        return result

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Add records.

        Raises:
            ConfigurationError: If one of them is malformed.

        Privacy:
            Messages never hold contents.
        """
        checked = checked_records(self.scorer.kind, predictions, references, first_row=len(self))
        super().add_batch(predictions=checked[0], references=checked[1], **others)

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Add one record.

        Raises:
            ConfigurationError: If it is malformed.

        Privacy:
            Messages never hold contents.
        """
        self.add_batch(predictions=[prediction], references=[reference], **others)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_PURPOSE,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(_FEATURES[self.scorer.kind]),
        )

    def _build_data_dir(self) -> str:
        # The base class would make a folder below the home; nothing is ever written there.
        return ""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return self.scorer.score(self.scorer.statistics(list(predictions), list(references)))
