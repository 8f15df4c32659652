"""The README of merged adapters: what they are, what they may claim, how peft loads them."""

import math
from typing import Any

from dpft.accounting.publication import Publication
from dpft.explanation import touched_in_words
from dpft.recipes.merging.summary import Summary
from dpft.rendering import render

__all__ = ["card"]

_OURS = "DPFT_"  # how types of adapters begin that peft learns from this library


def card(summary: Summary, publication: Publication, config: Any) -> str:
    """Return the model card of a merge.

    Args:
        summary: What was merged.
        publication: The certificate that was written.
        config: peft's configuration of the result.

    Returns:
        Markdown.

    Privacy:
        Releases public numbers and given names only.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    runs = publication.certificate.runs
    return render(
        "merged.md.j2",
        base=summary.base,
        coefficients=summary.expression,
        delta=summary.delta,
        epsilon=summary.epsilon,
        error=summary.error,
        exact=summary.exact,
        in_peft=not kind.startswith(_OURS),
        is_private=math.isfinite(summary.epsilon),
        kind=kind.removeprefix(_OURS).lower(),
        method=summary.method,
        parameters=summary.parameters,
        runs=[(run.run_id, touched_in_words(run)) for run in runs],
        shared=len(summary.binding),
        unit=summary.unit,
    )
