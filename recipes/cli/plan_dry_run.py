"""`dpft plan --dry-run`: memory and time of a run from shapes alone.

Takes the overrides of `dpft train`. No weights are loaded, no records are read, and there is no
network unless the model is a Hub name, whose configuration is then read.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import chosen_base_model, stored_config
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.config.schema import FamilyName, QuantisationName, TrainSettings
from dpft.recipes.planning.forecast import Forecast, forecast
from dpft.recipes.planning.plan import with_placeholders
from dpft.recipes.planning.shapes import SHAPES, shape_config
from dpft.recipes.tasks import build_task
from dpft.recipes.tasks.traits import traits_of

__all__ = ["main"]

_GIB = 2**30
_NOT_COUNTED = (
    "Memory: what operations make and keep, one by one, as torch carries them out. Not counted: "
    "the libraries' own (about 1 GiB on a GPU), scratch space of kernels, fragments."
)
_TIME = (
    "Time: matrix products alone, at the speed given or measured; reading and writing of memory, "
    "noise and loading of data come on top."
)
_LONGEST = "Every record has architecture.max_length tokens; shorter ones take less."
_FUSED = "Attention runs in one kernel, which keeps no scores."
_DEEP = "Blocks are alike: two short stacks were followed, and the rest is in proportion."


def main(argv: Sequence[str]) -> int:
    """Foresee memory and time of a run, and print them.

    Args:
        argv: The arguments after ``dpft plan``.

    Returns:
        The exit code, 0.

    Raises:
        ConfigurationError: If an argument is wrong, or the model's shape is not known.
        UnsupportedError: If the engine refuses the model.

    Privacy:
        Nothing, no data touched.
    """
    arguments = _parser().parse_intermixed_args(argv)
    memory = _number("memory_gib", arguments.memory_gib)
    settings = compose_settings(with_placeholders(arguments.overrides))
    _refuse_other_family(settings)
    _refuse_labels_of_records(settings)
    config = _config(arguments.shape, settings)
    found = forecast(settings, config, _speed(arguments.flops, settings))
    print(_as_json(found, memory) if arguments.json else _as_text(found, settings, memory))
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="dpft plan --dry-run",
        description="Memory and time of a run, from the shapes of its model alone.",
    )
    add = made.add_argument
    add("--dry-run", action="store_true", help=argparse.SUPPRESS)
    add("--shape", metavar="NAME", help=f"instead of model=FOLDER: {', '.join(SHAPES)}")
    add("--memory", metavar="GIB", dest="memory_gib", help="memory of the device, in GiB")
    add("--flops", metavar="F", help="operations a second, as in 3e14; unset: measured here")
    add("--json", action="store_true", help="print JSON")
    add("overrides", nargs="*", help="as for dpft train, as in architecture.dtype=bfloat16")
    return made


def _number(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigurationError(
            f"Expected {name}={text} to be a number > 0. Nothing can be computed with it. "
            "Correct it."
        )
    return number


def _speed(text: str | None, settings: TrainSettings) -> float:
    given = _number("flops", text)
    if given is not None:
        return given
    import torch

    from dpft.recipes.planning.speed import sustained_flops

    return sustained_flops(getattr(torch, settings.architecture.dtype.value))


def _config(shape: str | None, settings: TrainSettings) -> Any:
    if shape is not None:
        return shape_config(shape)
    return stored_config(chosen_base_model(settings.model, build_task(settings.task)))


def _refuse_other_family(settings: TrainSettings) -> None:
    family = settings.architecture.family
    if family is not FamilyName.CLASSIFIER:
        raise ConfigurationError(
            f"Expected architecture.family={family.value} to be classifier in a dry run. The words "
            "of labels are known to a tokenizer alone. Plan with a classifier of the same shape."
        )


def _refuse_labels_of_records(settings: TrainSettings) -> None:
    if traits_of(build_task(settings.task)).declared_public:
        raise ConfigurationError(
            "Expected task.labels to be given in a dry run. They would be read off the training "
            "file, and no record is read here. Set task.labels to the names of the classes."
        )


def _as_json(found: Forecast, memory: float | None) -> str:
    fields = dataclasses.asdict(found)
    fields["memory"] |= {"at_rest": found.memory.at_rest, "peak": found.memory.peak}
    fields |= {
        "flops_per_step": found.flops_per_step,
        "seconds_per_step": found.seconds_per_step,
        "fits": None if memory is None else found.memory.peak <= memory * _GIB,
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _as_text(found: Forecast, settings: TrainSettings, memory: float | None) -> str:
    rows = {
        "weights": f"{found.frozen:,} frozen, {found.trained:,} trained",
        "physical batch": f"{found.records} records of {found.tokens} tokens",
        **_memory_rows(found),
        "work": f"{found.flops_per_step / 1e12:,.4g} TFLOP a step of {found.expected_batch_size}",
        "step": f"{found.seconds_per_step:,.3g} s at {found.flops_per_second:.3g} FLOP/s",
        **({} if memory is None else _verdict(found, memory)),
    }
    width = max(map(len, rows))
    return "\n".join(
        [
            *(f"{name:<{width}}  {value}" for name, value in rows.items()),
            "",
            "Assumed:",
            *(f"- {sentence}" for sentence in _assumptions(found, settings)),
        ]
    )


def _memory_rows(found: Forecast) -> dict[str, str]:
    memory = found.memory
    sizes = {
        "frozen weights": memory.weights,
        "trained weights": memory.trained,
        "optimiser": memory.optimiser,
        "clipped sum": memory.clipped_sum,
        "private pass": memory.private_pass,
        "peak": memory.peak,
    }
    rows = {name: f"{size / _GIB:8.3f} GiB" for name, size in sizes.items()}
    rows["private pass"] += f", of it {memory.activations / _GIB:.3f} GiB of activations"
    return rows


def _verdict(found: Forecast, memory: float) -> dict[str, str]:
    fits = "fits" if found.memory.peak <= memory * _GIB else "does NOT fit"
    most = found.records_that_fit(memory * _GIB)
    return {f"{memory:g} GiB": f"{fits}; about {most} records of this length fit at a time"}


def _assumptions(found: Forecast, settings: TrainSettings) -> list[str]:
    deep = [_DEEP] if found.in_proportion else []
    said = [_LONGEST, _FUSED, *deep, _NOT_COUNTED, _TIME]
    architecture = settings.architecture
    if architecture.quantisation is not QuantisationName.NONE:
        said.append(
            f"Weights of linear layers are stored as {architecture.quantisation.value}, and one at "
            "a time is widened."
        )
    if architecture.offload_activations:
        said.append("Activations are counted as if none were offloaded.")
    return said
