"""Where the prompts of ATTEMPT come from: files that peft wrote, the vocabulary, given tokens.

Shapes: M sources, K tasks, L prompt tokens, D width. What is done with them stands in
`dpft.adapters.attention_prompts`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dpft.adapters.attempt_config import AttemptConfig, PromptInit, source_name
from dpft.errors import ConfigurationError

__all__ = [
    "Prompts",
    "build_prompts",
    "name_sources",
    "number_drawn",
    "read_prompt",
    "refuse_repeated",
]

_FILE, _KEY = "adapter_model.safetensors", "prompt_embeddings"
_DEFAULT_SOURCES = 4


@dataclass(frozen=True)
class Prompts:
    """Initial prompts of one adapter.

    Args:
        sources: Source prompts [M, L, D].
        targets: Target prompts [K, L, D].
        await_checkpoint: Whether the sources are placeholders until a checkpoint is loaded.
    """

    sources: torch.Tensor
    targets: torch.Tensor
    await_checkpoint: bool


def read_prompt(path: str | Path, length: int, width: int) -> torch.Tensor:
    """Read a prompt that peft's prompt tuning saved.

    Args:
        path: Folder of the adapter, or of a run that holds it.
        length: Tokens it must have.
        width: Width of the model.

    Returns:
        The prompt [L, D], finite.

    Raises:
        ConfigurationError: If there is no such file, or it holds no prompt of this size.

    Privacy:
        Nothing, no data touched. A prompt trained on private data carries its own guarantee.
    """
    prompt = _load(_locate(Path(path)))
    if prompt.shape != (length, width):
        raise ConfigurationError(
            f"Expected source={source_name(str(path))} of shape {list(prompt.shape)} to have shape "
            f"[{length}, {width}]: num_virtual_tokens by the model's width. Prompts are neither cut"
            " nor repeated. Choose num_virtual_tokens as in the source, and a source of the same "
            "model; for an encoder-decoder, one trained with num_transformer_submodules=1."
        )
    if not bool(prompt.isfinite().all()):
        raise ConfigurationError(
            f"Expected source={source_name(str(path))} to be finite. Every output would be void. "
            "Train it anew."
        )
    return prompt


def name_sources(config: AttemptConfig) -> list[str]:
    """Return the names of the sources, in order.

    Args:
        config: Configuration of the adapter.

    Raises:
        ConfigurationError: If two sources have one name, or the names do not fit the sources.

    Privacy:
        Nothing, no data touched.
    """
    drawn = [f"vocabulary-{index}" for index in range(number_drawn(config))]
    found = [*map(source_name, config.sources or ()), *drawn]
    names = list(config.source_names or found)
    if found and len(names) != len(found):
        raise ConfigurationError(
            f"Expected source_names={', '.join(names)} to be {len(found)}, one for each source. "
            "Give as many names as sources."
        )
    refuse_repeated(names)
    return names


def number_drawn(config: AttemptConfig) -> int:
    """Return how many sources are drawn from the vocabulary.

    Args:
        config: Configuration of the adapter.

    Privacy:
        Nothing, no data touched.
    """
    if config.num_random_sources is not None:
        return config.num_random_sources
    return 0 if config.sources or config.source_names else _DEFAULT_SOURCES


def refuse_repeated(names: list[str]) -> None:
    """Refuse names that stand for two sources.

    Args:
        names: Names of all sources.

    Raises:
        ConfigurationError: If a name occurs twice.

    Privacy:
        Nothing, no data touched.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigurationError(
            f"Expected source_names={', '.join(repeated)} to occur once. Sources are added and "
            "removed by name. Give source_names."
        )


def build_prompts(config: AttemptConfig, embedding: nn.Module) -> Prompts:
    """Read and draw the prompts that an adapter begins with.

    Args:
        config: As given by the user.
        embedding: The model's input embedding.

    Returns:
        The prompts, at least in single precision.

    Raises:
        ConfigurationError: If a source cannot be read or has another size, or an initial value
            does not exist; all that is wrong with the sources is named.

    Privacy:
        Nothing, no data touched: draws follow the public seed.
    """
    vocabulary = _Vocabulary(embedding, torch.Generator().manual_seed(config.seed))
    number = number_drawn(config)
    if not config.sources and not number:
        count = len(config.source_names or ())
        # Not a number, so that a placeholder that is missed cannot pass for a prompt.
        sources = vocabulary.empty(count, config.num_virtual_tokens).fill_(torch.nan)
        return Prompts(sources, _targets(config, vocabulary, sources), await_checkpoint=True)
    read = _read_all(config, vocabulary)
    drawn = vocabulary.draw(number, config.num_virtual_tokens)
    sources = torch.cat([*read, drawn])
    return Prompts(sources, _targets(config, vocabulary, sources), await_checkpoint=False)


class _Vocabulary:
    """The embeddings of a model's tokens, and what is drawn from them."""

    def __init__(self, embedding: nn.Module, generator: torch.Generator) -> None:
        self._embedding, self.generator = embedding, generator
        assert isinstance(embedding.weight, torch.Tensor)
        self._weight = embedding.weight
        self.dtype = torch.promote_types(self._weight.dtype, torch.float32)

    @property
    def width(self) -> int:
        return self._weight.shape[1]

    def empty(self, number: int, length: int) -> torch.Tensor:
        return self._weight.new_empty((number, length, self.width), dtype=self.dtype)

    def draw(self, number: int, length: int) -> torch.Tensor:
        ids = torch.randint(len(self._weight), (number, length), generator=self.generator)
        return self.embed(ids)

    def uniform(self, number: int, length: int) -> torch.Tensor:
        values = torch.rand((number, length, self.width), generator=self.generator) - 0.5
        return values.to(self._weight.device, self.dtype)

    def repeat(self, ids: list[int], length: int) -> torch.Tensor:
        outside = [number for number in ids if not 0 <= number < len(self._weight)]
        if outside:
            raise ConfigurationError(
                f"Expected init_text_ids={outside} to be below {len(self._weight)}, the size of "
                "the vocabulary. Tokenise with the model's own tokeniser."
            )
        return self.embed(torch.tensor([ids[index % len(ids)] for index in range(length)]))

    @torch.no_grad()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self._embedding(ids.to(self._weight.device))
        return embedded.to(self.dtype)


def _targets(config: AttemptConfig, vocabulary: _Vocabulary, sources: torch.Tensor) -> torch.Tensor:
    tasks, length = config.num_tasks, config.num_virtual_tokens
    if config.init is PromptInit.SOURCE:
        return sources[_index(config)].repeat(tasks, 1, 1)
    if config.init is PromptInit.TEXT:
        return vocabulary.repeat(config.init_text_ids or [], length).repeat(tasks, 1, 1)
    if config.init is PromptInit.RANDOM:
        return vocabulary.uniform(tasks, length)
    return vocabulary.draw(tasks, length)


def _index(config: AttemptConfig) -> int:
    names = name_sources(config)
    wanted = config.init_source or names[0]
    if wanted not in names:
        raise ConfigurationError(
            f"Expected init_source={wanted} to be one of {', '.join(names)}. Choose one."
        )
    return names.index(wanted)


def _read_all(config: AttemptConfig, vocabulary: _Vocabulary) -> list[torch.Tensor]:
    prompts: list[torch.Tensor] = []
    wrong: list[str] = []
    for path in config.sources or ():
        try:
            prompt = read_prompt(path, config.num_virtual_tokens, vocabulary.width)
        except ConfigurationError as error:
            wrong.extend(error.messages)
        else:
            like = vocabulary.empty(0, 0)
            prompts.append(prompt.to(like.device, vocabulary.dtype).unsqueeze(0))
    if wrong:
        raise ConfigurationError(wrong)
    return prompts


def _locate(folder: Path) -> Path:
    for file in (folder / _FILE, folder / "adapter" / _FILE):
        if file.is_file():
            return file
    raise ConfigurationError(
        f"Expected source={folder} to hold {_FILE}. Source prompts are read when the adapter is "
        "built. Give the folder that save_pretrained of a prompt-tuned model wrote."
    )


def _load(file: Path) -> torch.Tensor:
    try:
        with safe_open(file, framework="pt") as stored:
            if _KEY in stored.keys():  # noqa: SIM118 - the reader is no mapping
                prompt: torch.Tensor = stored.get_tensor(_KEY)
                return prompt
    except SafetensorError:
        pass
    raise ConfigurationError(
        f"Expected source={file} to hold {_KEY}, as prompt tuning of peft saves it. Adapters of "
        "other methods, and broken files, hold no prompt. Give a prompt-tuned adapter."
    )
