"""The adapter's README: how peft loads it, and what it may claim."""

from pathlib import Path
from typing import Any

from dpft.accounting.publication import Publication
from dpft.adapters import AdapterName, is_in_peft
from dpft.losses import Pooling
from dpft.model_card import CARD, Card
from dpft.recipes.config.schema import FamilyName, PoolingName
from dpft.recipes.models import auto_class
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.embedded import EMBEDDED_MODEL
from dpft.recipes.tasks.embedded_table_to_text import EMBEDDED_DECODER
from dpft.rendering import render
from dpft.reporting.given import given, in_markdown
from dpft.run_folder import write_whole
from dpft.training import FitResult
from dpft.verification import CERTIFICATE

__all__ = ["write_model_card"]

_IN_THE_PACKAGE = {
    EMBEDDED_DECODER: "dpft/recipes/decoder/model",
    EMBEDDED_MODEL: "dpft/recipes/embedded/model",
}
_PRETRAINED_NOWHERE = (
    "drawn from a seed and saved nowhere (`architecture.pretrained=false`); only `dpft evaluate` "
    "makes it again"
)


def write_model_card(adapter: Path, prepared: Prepared, result: FitResult) -> Path:
    """Replace peft's empty template by a README that says how to load the adapter.

    Args:
        adapter: Folder of the adapter.
        prepared: The run.
        result: What it spent.

    Returns:
        The file.

    Privacy:
        Releases public numbers and given names only.
    """
    path = adapter / CARD
    pooling = Pooling(prepared.settings.architecture.pooling.value)
    whole = prepared.settings.trains_whole_model
    text = render(
        "adapter.md.j2",
        **_card(adapter, prepared, result).values() | _words(prepared),
        adapter=in_markdown(prepared.settings.adapter.name.value),
        auto_class=auto_class(
            pooling,
            prepared.traits.kind,
            prepared.settings.architecture.family,
            has_encoder=_has_encoder(result.model),
        ).__name__,
        in_peft=whole or is_in_peft(prepared.settings.adapter.name),
        is_pair=prepared.traits.pair_field is not None,
        is_worded=prepared.settings.architecture.family is not FamilyName.CLASSIFIER,
        is_table=prepared.traits.is_table,
        kind=prepared.traits.kind.value,
        labels=[in_markdown(given(label)) for label in prepared.task.labels],
        max_length=prepared.settings.architecture.max_length,
        mean_pooling=prepared.settings.architecture.pooling is PoolingName.MEAN,
        prepends=prepared.settings.adapter.name in {AdapterName.ATTEMPT, AdapterName.PROMPT},
        task=in_markdown(given(prepared.task.name)),
        whole=whole,
    )
    write_whole(path, text)
    return path


def _card(adapter: Path, prepared: Prepared, result: FitResult) -> Card:
    written = (adapter / CERTIFICATE).read_text(encoding="utf-8")
    return Card(
        publication=Publication.from_json(written),
        run=result.run,
        library="transformers" if prepared.settings.trains_whole_model else "peft",
        base="" if prepared.base_model in _IN_THE_PACKAGE else prepared.base_model,
    )


def _has_encoder(model: Any) -> bool:
    return bool(model.config.is_encoder_decoder)


def _words(prepared: Prepared) -> dict[str, str]:
    """Return the base model in words where more is known of it than its name."""
    if not prepared.settings.architecture.pretrained:
        return {"base_in_words": _PRETRAINED_NOWHERE}
    if prepared.base_model in _IN_THE_PACKAGE:
        place = _IN_THE_PACKAGE[prepared.base_model]
        return {"base_in_words": f"the folder `{place}` of the installed package"}
    return {}
