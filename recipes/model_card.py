"""The adapter's README: how peft loads it, and what it may claim."""

from pathlib import Path
from typing import Any

from dpft.adapters import AdapterName, is_in_peft
from dpft.losses import Pooling
from dpft.recipes.config.schema import FamilyName, PoolingName
from dpft.recipes.models import auto_class
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.embedded import EMBEDDED_MODEL
from dpft.recipes.tasks.embedded_table_to_text import EMBEDDED_DECODER
from dpft.rendering import basis_in_words, inline, percent_rounded_up, render
from dpft.training import FitResult

__all__ = ["write_model_card"]

_FALSE_ALARM_RATE = 0.01
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
    path = adapter / "README.md"
    pooling = Pooling(prepared.settings.architecture.pooling.value)
    bound = result.certificate.attack_bound(_FALSE_ALARM_RATE, result.delta)
    text = render(
        "adapter.md.j2",
        adapter=prepared.settings.adapter.name.value,
        auto_class=auto_class(
            pooling,
            prepared.traits.kind,
            prepared.settings.architecture.family,
            has_encoder=_has_encoder(result.model),
        ).__name__,
        base="" if prepared.base_model in _IN_THE_PACKAGE else prepared.base_model,
        base_in_words=_in_words(prepared),
        delta=result.delta,
        detected=percent_rounded_up(bound.rate),
        detected_from=basis_in_words(bound, result.delta),
        epsilon=result.epsilon,
        false_alarms=f"{_FALSE_ALARM_RATE:.0%}",
        in_peft=is_in_peft(prepared.settings.adapter.name),
        is_pair=prepared.traits.pair_field is not None,
        is_worded=prepared.settings.architecture.family is not FamilyName.CLASSIFIER,
        is_table=prepared.traits.is_table,
        is_private=result.certificate.is_bounded,
        kind=prepared.traits.kind.value,
        labels=prepared.task.labels,
        max_length=prepared.settings.architecture.max_length,
        mean_pooling=prepared.settings.architecture.pooling is PoolingName.MEAN,
        prepends=prepared.settings.adapter.name in {AdapterName.ATTEMPT, AdapterName.PROMPT},
        task=prepared.task.name,
        unit=result.run.unit.value,
    )
    path.write_text(text, encoding="utf-8")
    return path


def _has_encoder(model: Any) -> bool:
    return bool(model.config.is_encoder_decoder)


def _in_words(prepared: Prepared) -> str:
    if not prepared.settings.architecture.pretrained:
        return _PRETRAINED_NOWHERE
    if prepared.base_model in _IN_THE_PACKAGE:
        return f"the folder `{_IN_THE_PACKAGE[prepared.base_model]}` of the installed package"
    return inline(prepared.base_model)
