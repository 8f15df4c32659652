"""What ATTEMPT is told: its configuration, as peft saves it beside the weights.

How the source prompts of a configuration are found stands in `dpft.adapters.source_prompts`.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftConfig
from peft.utils.constants import DUMMY_TARGET_MODULES

from dpft.adapters.registration import MethodType
from dpft.errors import ConfigurationError

__all__ = ["TYPE", "AttemptConfig", "PromptInit", "has_certificate", "source_name"]

TYPE = MethodType("DPFT_ATTEMPT")
_POSITIVE = ("num_virtual_tokens", "num_tasks", "bottleneck")


class PromptInit(str, Enum):
    """Where a target prompt begins.

    `vocabulary`: embeddings of tokens drawn by the seed. `source`: a copy of a source prompt.
    `random`: uniform between -0.5 and 0.5. `text`: embeddings of given tokens, repeated.
    """

    VOCABULARY = "vocabulary"
    SOURCE = "source"
    RANDOM = "random"
    TEXT = "text"


@dataclass
class AttemptConfig(PeftConfig):
    """Configuration of ATTEMPT: attention over frozen source prompts and a trained target.

    Args:
        num_virtual_tokens: Length l of every prompt, at least 1. A source of another length is
            refused: nothing is cut or repeated.
        num_tasks: Target prompts K, at least 1, which share the attention. With several, each call
            names the task of every record in `prompt_task_ids` [B].
        sources: Folders with a prompt that peft trained (`adapter_model.safetensors`), or run
            folders with such an adapter. Read when the adapter is built and never again: the
            checkpoint holds the prompts, and files hold the names alone.
        num_random_sources: Sources drawn from the vocabulary by the seed, behind those of
            `sources`; None for four if there are no others.
        source_names: Names of the sources, in order; None for the names of the folders, filled in
            when the adapter is built. Without sources to read or draw, the values come with a
            checkpoint.
        public_sources: Names of those of `sources` that no private record went into.
        private_sources: Names of all others, filled in when they are read: training on top of them
            owes their price too. Those beside a certificate are private whatever was declared.
        source_folders: Where each of them was read from in this process, by name, None for a
            tensor; a name that was given again has several. Never saved.
        train_sources: Whether the sources are trained too; if not, nothing switches them on.
        bottleneck: Width m of the attention network, at least 1.
        temperature: Divisor of the scores, above 0; None for e times the model's width.
        init: Where the target prompts begin.
        init_source: Name of the source to begin with; None for the first.
        init_text_ids: Tokens to begin with, one or more.
        seed: Seed of everything drawn. It is public, and saved.
        modules_to_save: Further modules to train and save, as heads.

    Raises:
        ConfigurationError: If a value is out of range; all such values are named.

    Privacy:
        Nothing, no data touched. A source that was trained on private data has its own price, which
        adds to that of this adapter where they share records.

    References:
        Asai et al. 2022 (2205.11961), section 3; sizes and temperature as in their code.
    """

    # peft asks for it; the prompt stands before a model's input and replaces no module.
    target_modules: ClassVar[str] = DUMMY_TARGET_MODULES

    num_virtual_tokens: int = 100
    num_tasks: int = 1
    sources: list[str] | None = None
    num_random_sources: int | None = None
    source_names: list[str] | None = None
    public_sources: list[str] | None = None
    private_sources: list[str] | None = None
    source_folders: dict[str, list[str | None]] | None = None
    train_sources: bool = False
    bottleneck: int = 100
    temperature: float | None = None
    init: PromptInit = PromptInit.VOCABULARY
    init_source: str | None = None
    init_text_ids: list[int] | None = None
    seed: int = 0
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # peft's
        self.peft_type = TYPE
        self.sources = [str(path) for path in self.sources] if self.sources else None
        wrong = [*_sizes(self), *_scale(self), *_start(self), *_names(self)]
        if wrong:
            raise ConfigurationError(wrong)

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved: sources by their names, as paths belong to one machine.

        Privacy:
            Nothing, no data touched.
        """
        own: dict[str, Any] = super().to_dict() | {"init": self.init.value}
        own["source_folders"] = None
        if self.source_names:  # the values are in the checkpoint
            return own | {"sources": None, "num_random_sources": None}
        return own | {"sources": [source_name(path) for path in self.sources or ()] or None}


def source_name(path: str) -> str:
    """Return the name that a source goes by: that of its folder, or of the run it belongs to.

    Args:
        path: Folder of a prompt, or of a run.

    Privacy:
        Nothing, no data touched.
    """
    folder = Path(path).resolve()
    in_run = folder.name == "adapter" and (folder.parent / "certificate.json").is_file()
    return folder.parent.name if in_run else folder.name


def has_certificate(path: str) -> bool:
    """Return whether a source lies in the folder of a run, or beside its certificate.

    Args:
        path: Folder of a prompt, or of a run.

    Privacy:
        Nothing, no data touched.
    """
    folder = Path(path).resolve()
    return any((each / "certificate.json").is_file() for each in (folder, folder.parent))


def _sizes(config: AttemptConfig) -> list[str]:
    return [
        f"Expected {name}={getattr(config, name)} >= 1. Nothing would be trained. Raise it."
        for name in _POSITIVE
        if getattr(config, name) < 1
    ]


def _scale(config: AttemptConfig) -> list[str]:
    if config.temperature is None or config.temperature > 0:
        return []
    value = f"Expected temperature={config.temperature} > 0. Scores are divided by it. "
    return [value + "Leave it out for e times the model's width."]


def _start(config: AttemptConfig) -> list[str]:
    known = [each.value for each in PromptInit]
    if config.init not in known:
        return [f"Expected init={config.init} to be one of {', '.join(known)}. Choose one."]
    config.init = PromptInit(config.init)
    if config.init is PromptInit.TEXT and not config.init_text_ids:
        return ["Expected init_text_ids=None to hold tokens where init=text. Give their numbers."]
    return []


def _names(config: AttemptConfig) -> list[str]:
    drawn, names = config.num_random_sources, config.source_names
    if drawn is not None and drawn < 0:
        return [f"Expected num_random_sources={drawn} >= 0. Leave it out for the default."]
    if drawn == 0 and not config.sources and not names:
        rule = "Expected num_random_sources=0 >= 1 without other sources. "
        why = "Attention needs a source beside the target. "
        return [rule + why + "Give sources, or choose the method named prompt."]
    return []
