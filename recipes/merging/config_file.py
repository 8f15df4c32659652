"""The configuration file of a merge: a subset of mergekit's YAML, and a block on privacy.

    merge_method: ties
    base_model: NAME or DIR
    models:
      - model: runs/a
        parameters: {weight: 1.0, density: 0.5}
      - model: runs/b
    parameters: {lambda: 1.0, normalize: false, seed: 0}
    dtype: float32
    privacy: {on_uncertified: refuse}

No torch in here.
"""

import difflib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpft.accounting.bounded_files import bounded_text
from dpft.errors import ConfigurationError
from dpft.plain_yaml import LONGEST_YAML, plain_yaml
from dpft.recipes.merging.request import OutputType, Request, Uncertain, published_names

__all__ = ["MergeConfig", "MergedModel", "ModelParameters", "Parameters", "PrivacyBlock", "read"]

_EXACT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_ALIASES = {"task_arithmetic": "linear", "dare_linear": "dare"}
_Share = Annotated[float, Field(gt=0, le=1)]
# What a file may ask for, and nothing can grant: by name, why not, and what to do instead.
_NEVER = {
    "data": (
        "No method that is built in looks at records, and a choice made on private ones is a "
        "release of its own. Call dpft.taskvectors.merge with Public(...) or Private(...)."
    ),
    "disjoint": (
        "That people are in one data set alone is no matter of assertion: an overlap that is not "
        "excluded by a public rule is assumed. Train with partitions named by a rule."
    ),
    "forgotten": (
        "Negation refunds nothing: who was in a run stays charged, and nothing certifies that a "
        "model forgot. Measure forgetting, and report it as a measurement."
    ),
    "members": (
        "Ids of people, hashed or not, tell everybody who is a member. Name a public rule for "
        "the partition when training."
    ),
}
_NEVER |= {"records": _NEVER["data"], "partition": _NEVER["disjoint"]}
_NEVER |= {"unlearned": _NEVER["forgotten"], "erased": _NEVER["forgotten"]}
_NEVER |= {"member_hashes": _NEVER["members"]}


class ModelParameters(BaseModel):
    """What is said of one adapter: its weight, and the share of entries kept."""

    model_config = _EXACT
    weight: float = 1.0
    density: _Share | None = None


class MergedModel(BaseModel):
    """One adapter."""

    model_config = _EXACT
    model: str
    parameters: ModelParameters = ModelParameters()


class Parameters(BaseModel):
    """What is said of all: factor of the result, normalisation, share kept, seed, noise levels."""

    model_config = _EXACT
    scaling: float = Field(default=1.0, alias="lambda")
    normalize: bool = False
    weight: float | None = None
    density: _Share | None = None
    seed: int = 0
    noise_std: list[Annotated[float, Field(ge=0)]] = []


class PrivacyBlock(BaseModel):
    """What to do with adapters without certificate."""

    model_config = _EXACT
    on_uncertified: Annotated[Uncertain, Field(strict=False)] = Uncertain.REFUSE


class MergeConfig(BaseModel):
    """The file."""

    model_config = _EXACT
    models: Annotated[list[MergedModel], Field(min_length=1)]
    merge_method: str = "linear"
    base_model: str | None = None
    parameters: Parameters = Parameters()
    dtype: Annotated[OutputType, Field(strict=False)] | None = None
    privacy: PrivacyBlock = PrivacyBlock()


def read(path: Path) -> Request:
    """Read a configuration file.

    Args:
        path: The YAML file; folders in it are relative to where the command runs.

    Returns:
        The request.

    Raises:
        ConfigurationError: If the file is missing or damaged, a key is unknown, a value is out of
            range, or it asks for what nothing can grant; all problems are named.

    Privacy:
        Nothing, no data touched.
    """
    plain = _plain(path)
    _refuse_never(plain)
    try:
        config = MergeConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigurationError([_explained(each) for each in error.errors()]) from None
    return _request(config)


def _plain(path: Path) -> Any:
    try:
        text = bounded_text(path, LONGEST_YAML)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"Expected config={path} to be a file of text ({error}). There is nothing to merge. "
            "Name a YAML file, or write an expression."
        ) from None
    return plain_yaml(f"config={path}", text)


def _refuse_never(plain: Any) -> None:
    if not isinstance(plain, Mapping):
        raise ConfigurationError(
            "Expected the configuration to be a mapping with models. There is nothing to merge. "
            "See docs/merge.md."
        )
    for block in (plain, plain.get("privacy"), plain.get("parameters")):
        for key in block if isinstance(block, Mapping) else ():
            if key in _NEVER:
                raise ConfigurationError(f"Expected {key} to be left out. {_NEVER[key]}")


def _explained(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys_beside(error["loc"])
        nearest = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(known)}."
        return f"Expected {place} to be a known setting. Unknown keys are never ignored. {hint}"
    if error["type"] == "missing":
        return f"Expected {place} to be given. It has no default. Set {place}."
    rule = str(error["msg"])
    return f"Expected {place}={error['input']!r} to be valid: {rule}. Change {place}."


def _keys_beside(place: Sequence[Any]) -> list[str]:
    shape: Any = MergeConfig
    inner = {"models": MergedModel, "parameters": Parameters, "privacy": PrivacyBlock}
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        shape = ModelParameters if shape is MergedModel else inner[part]
    return sorted(field.alias or name for name, field in shape.model_fields.items())


def _request(config: MergeConfig) -> Request:
    titles = published_names([each.model for each in config.models])
    common = 1.0 if config.parameters.weight is None else config.parameters.weight
    weights = [
        each.parameters.weight if "weight" in each.parameters.model_fields_set else common
        for each in config.models
    ]
    return Request(
        folders={t: Path(m.model).expanduser() for t, m in zip(titles, config.models, strict=True)},
        coefficients={t: Fraction(repr(w)) for t, w in zip(titles, weights, strict=True)},
        method=_ALIASES.get(config.merge_method, config.merge_method),
        density=_density(config),
        scaling=config.parameters.scaling,
        normalize=config.parameters.normalize,
        seed=config.parameters.seed,
        noise_std=tuple(config.parameters.noise_std),
        dtype=config.dtype,
        base=config.base_model,
        on_uncertified=config.privacy.on_uncertified,
    )


def _density(config: MergeConfig) -> float:
    common = config.parameters.density
    own = {each.parameters.density or common for each in config.models}
    if len(own) > 1:
        raise ConfigurationError(
            f"Expected density={sorted(map(str, own))} to be one for all models. Methods here "
            "keep the same share of each. Set parameters.density."
        )
    return own.pop() or 1.0
