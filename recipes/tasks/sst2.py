"""SST-2 of GLUE: sentiment of film reviews, a public benchmark."""

from functools import cached_property
from pathlib import Path

from dpft.configuration import validated
from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.tasks.hub import HubPlace, hub_problems, hub_rows
from dpft.recipes.tasks.places import HUB_MODEL, assets_folder, default_encoder
from dpft.recipes.tasks.published import status_of_copy
from dpft.recipes.tasks.tables import labelled_rows, read_rows, table_in
from dpft.recipes.tasks.task import Row, Split, register

__all__ = ["HUB_MODEL", "Sst2", "Sst2Settings"]

_COLUMNS = ("sentence", "label")
_ON_THE_HUB = HubPlace("nyu-mll/glue", "sst2")
# What anybody would call a bad or a good film; written down before any record was looked at.
_WORDS = (
    ("awful", "bad", "boring", "disappointing", "dull", "negative", "poor", "stupid", "terrible"),
    ("brilliant", "enjoyable", "fascinating", "good", "great", "moving", "positive", "wonderful"),
)
_FRAMES = ("{}", "it was {} .", "a {} film", "this movie is {}")


@validated
class Sst2Settings:
    """Where SST-2 is.

    Args:
        name: Name of the task.
        path: Folder with train and validation as Parquet, JSON lines or CSV. Unset: the assets
            folder, else the Hub.

    Privacy:
        Nothing, no data touched.
    """

    name: str = "sst2"
    path: str | None = None


class Sst2:
    """SST-2: 67,349 training and 872 validation sentences, labels negative and positive.

    Args:
        settings: Where it is.

    Privacy:
        The benchmark is public, hence metrics on its validation split cost nothing; on other
        records in its format nobody knows (`dpft.recipes.tasks.published`).
    """

    name = "sst2"
    labels = ("negative", "positive")
    text_field = "text"
    descriptions = tuple(
        tuple(frame.format(word) for frame in _FRAMES for word in words) for words in _WORDS
    )
    label_field = "label"

    def __init__(self, settings: Sst2Settings) -> None:
        self._settings = settings

    @cached_property
    def evaluation(self) -> EvaluationStatus | None:
        """What a metric costs: nothing on published records, unknown on others in their format."""
        path = self._settings.path
        file = None if path is None else table_in(Path(path), Split.VALIDATION.value)
        return status_of_copy(path, file, _COLUMNS)

    def problems(self) -> list[str]:
        """Return what is wrong with the place of the files, without reading any record."""
        folder = self._folder()
        if folder is None:
            return hub_problems(_ON_THE_HUB, self.name)
        try:
            for split in Split:
                table_in(folder, split.value)
        except ConfigurationError as error:
            return list(error.messages)
        return []

    def default_model(self) -> str | None:
        """Return the MiniLM encoder of the assets folder, else its Hub name."""
        return default_encoder()

    def load(self, split: Split) -> list[Row]:
        """Read a split.

        Privacy:
            Reads raw records; nothing is released.
        """
        folder = self._folder()
        if folder is None:
            path = Path(_ON_THE_HUB.repository)
            rows = hub_rows(_ON_THE_HUB, split.value, self.name)
        else:
            path = table_in(folder, split.value)
            rows = read_rows(path, _COLUMNS)
        return labelled_rows(path, rows, text="sentence", label="label", index_of=_index)

    def _folder(self) -> Path | None:
        if self._settings.path is not None:
            return Path(self._settings.path)
        assets = assets_folder()
        local = assets / "data" / "glue" / "sst2" if assets is not None else None
        return local if local is not None and local.is_dir() else None


def _index(value: object) -> int | None:
    text = str(value)
    return int(text) if text in {"0", "1"} else None


register("sst2", Sst2Settings, Sst2)
