"""The adapter's README: how peft loads it, and what it may claim."""

from pathlib import Path

from dpft.adapters import AdapterName, is_in_peft
from dpft.losses import Pooling
from dpft.recipes.config.schema import PoolingName
from dpft.recipes.models import auto_class
from dpft.recipes.preparation import Prepared
from dpft.recipes.tasks.embedded import EMBEDDED_MODEL
from dpft.rendering import inline, render
from dpft.training import FitResult

__all__ = ["write_model_card"]

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
    text = render(
        "adapter.md.j2",
        adapter=prepared.settings.adapter.name.value,
        auto_class=auto_class(pooling).__name__,
        base="" if prepared.base_model == EMBEDDED_MODEL else prepared.base_model,
        base_in_words=_in_words(prepared),
        delta=result.delta,
        epsilon=result.epsilon,
        in_peft=is_in_peft(prepared.settings.adapter.name),
        is_private=result.certificate.is_bounded,
        labels=prepared.task.labels,
        max_length=prepared.settings.architecture.max_length,
        mean_pooling=prepared.settings.architecture.pooling is PoolingName.MEAN,
        prepends=prepared.settings.adapter.name in {AdapterName.ATTEMPT, AdapterName.PROMPT},
        task=prepared.task.name,
    )
    path.write_text(text, encoding="utf-8")
    return path


def _in_words(prepared: Prepared) -> str:
    if not prepared.settings.architecture.pretrained:
        return _PRETRAINED_NOWHERE
    if prepared.base_model == EMBEDDED_MODEL:
        return "the folder `dpft/recipes/embedded/model` of the installed package"
    return inline(prepared.base_model)
