"""ATTEMPT (Asai et al. 2022): each record attends over frozen source prompts and a trained one.

A prompt is mixed for each record and goes before its input embeddings, in encoders, decoders and
encoder-decoders. The parameters stand in `dpft.adapters.attempt_layer`, the algebra in
`dpft.adapters.attention_prompts`, where sources come from in `dpft.adapters.source_prompts`, the
way into the model in `dpft.adapters.prepending`.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from dpft.adapters.attempt_config import (
    TYPE,
    AttemptConfig,
    PromptInit,
    has_certificate,
    source_name,
)
from dpft.adapters.attempt_layer import PREFIX, AttemptLayer
from dpft.adapters.options import fill
from dpft.adapters.prepending import TASK_IDS
from dpft.adapters.registration import register_method
from dpft.adapters.registry import AdapterName, register
from dpft.adapters.source_prompts import (
    Prompts,
    build_prompts,
    name_sources,
    number_drawn,
    read_prompt,
    refuse_repeated,
)
from dpft.adapters.targets import head_modules
from dpft.adapters.tuners import AdapterTuner
from dpft.errors import ConfigurationError

__all__ = ["AttemptConfig", "AttemptModel", "PromptInit", "configure"]

_PLACE = PREFIX.rstrip("_")  # peft takes names with the whole prefix for parts of a layer


class AttemptModel(AdapterTuner):
    """Tuner of ATTEMPT: gives a model of transformers its prompts.

    peft makes it. Calls of the model take `prompt_task_ids` [B] where there are several tasks;
    `generate` takes them too.
    """

    prefix = PREFIX
    tuner_layer_cls = AttemptLayer

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,  # noqa: FBT001, FBT002 - as peft calls it
        low_cpu_mem_usage: bool = False,  # noqa: FBT001, FBT002 - as peft calls it
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Add an adapter.

        Args:
            model: Model of transformers.
            adapter_name: Name of the adapter.
            autocast_adapter_dtype: As in peft.
            low_cpu_mem_usage: Whether the adapter waits on the meta device for its checkpoint.
            state_dict: As in peft.

        Raises:
            ConfigurationError: If the model or a source does not fit; nothing has been changed.

        Privacy:
            Nothing, no data touched.
        """
        config = self.peft_config[adapter_name]
        assert isinstance(config, AttemptConfig)
        names, drawn = name_sources(config), number_drawn(config)
        prompts = build_prompts(config, _embedding(model))
        if low_cpu_mem_usage:
            prompts = Prompts(
                prompts.sources.to("meta"), prompts.targets.to("meta"), prompts.await_checkpoint
            )
        # In place, as peft changes the same object later; whoever uses it again gets the same.
        config.source_names, config.num_random_sources = names, drawn or None
        public = config.public_sources or ()
        for path, name in zip(config.sources or (), names, strict=False):  # then those drawn
            if has_certificate(path) or name not in public:
                _note_private(config, name, path)
        super().inject_adapter(
            model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, state_dict
        )
        self._hold(model, adapter_name, config, prompts)

    def _hold(
        self, model: nn.Module, adapter_name: str, config: AttemptConfig, prompts: Prompts
    ) -> None:
        # After peft has frozen the model: it would let all of it train that has a layer already.
        active = self.active_adapters
        layer = getattr(model, _PLACE, None)
        if layer is None:
            layer = _attach(model)
            layer.hold(adapter_name, config, prompts)
            layer.set_adapter(active, inference_mode=config.inference_mode)
            return
        layer.hold(adapter_name, config, prompts)
        trained = adapter_name in active and not config.inference_mode
        layer.set_requires_grad(adapter_name, requires_grad=trained)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate text as the model does, each record under its own prompt.

        Args:
            *args: As `generate` of transformers takes them.
            **kwargs: As `generate` of transformers takes them; `prompt_task_ids` [B] besides.

        Returns:
            What `generate` of transformers does: token ids without the prompt.

        Privacy:
            Nothing, no training.
        """
        with self._layer().prepending.tasks(kwargs.pop(TASK_IDS, None)):
            return self.model.generate(*args, **kwargs)

    def add_source(
        self,
        source: str | Path | torch.Tensor,
        name: str | None = None,
        adapter_name: str | None = None,
        *,
        public: bool = False,
    ) -> None:
        """Add a frozen source; the target, the attention and the other sources stay.

        Its parameter is a new tensor: attach an engine or an optimiser afterwards.

        Args:
            source: A prompt [L, D], or the folder of one, as in the configuration.
            name: Its name; None for that of the folder.
            adapter_name: Name of the adapter; None for the active one.
            public: Whether no private record went into it. Otherwise private training on top of it
                is refused, unless a certificate lies beside it: then `dpft.fit` composes the two.

        Raises:
            ConfigurationError: If the size differs, or the name is missing or taken.

        Privacy:
            Nothing, no data touched. A source trained on private data brings its own price.
        """
        adapter = self._chosen(adapter_name)
        weight = self._layer().table("sources", adapter).weight
        prompt = _prompt(source, weight.shape[1], weight.shape[2])
        names = [*self._names(adapter), name or _name(source)]
        refuse_repeated(names)
        added = prompt.to(weight.device, weight.dtype).unsqueeze(0)
        self._replace(adapter, torch.cat([weight.detach(), added]), names)
        from_run = not isinstance(source, torch.Tensor) and has_certificate(str(source))
        if from_run or not public:
            folder = None if isinstance(source, torch.Tensor) else str(source)
            _note_private(self.peft_config[adapter], names[-1], folder)

    def remove_source(self, name: str, adapter_name: str | None = None) -> None:
        """Remove a source; the target, the attention and the other sources stay.

        Its parameter is a new tensor: attach an engine or an optimiser afterwards.

        Args:
            name: Name of the source.
            adapter_name: Name of the adapter; None for the active one.

        Raises:
            ConfigurationError: If there is no such source, or no other.

        Privacy:
            Nothing, no data touched.
        """
        adapter = self._chosen(adapter_name)
        names = self._names(adapter)
        if name not in names or len(names) == 1:
            raise ConfigurationError(
                f"Expected source={name} to be one of several among {', '.join(names)}. Attention "
                "needs a source beside the target. Name one that may go."
            )
        kept = [index for index, each in enumerate(names) if each != name]
        weight = self._layer().table("sources", adapter).weight.detach()
        self._replace(adapter, weight[kept], [names[index] for index in kept])

    def unload(self) -> nn.Module:
        """Return the model without adapters.

        Privacy:
            Nothing, no data touched.
        """
        layer = self._layer()
        model: nn.Module = super().unload()
        layer.prepending.detach()
        delattr(model, _PLACE)
        return model

    def _layer(self) -> AttemptLayer:
        layer = getattr(self.model, _PLACE)
        assert isinstance(layer, AttemptLayer)
        return layer

    def _chosen(self, adapter_name: str | None) -> str:
        name = adapter_name or next(iter(self.active_adapters), None)
        if name not in self.peft_config:
            raise ConfigurationError(
                f"Expected adapter={name} to be one of {', '.join(self.peft_config)}. Choose one."
            )
        return name

    def _names(self, adapter_name: str) -> list[str]:
        config = self.peft_config[adapter_name]
        assert isinstance(config, AttemptConfig)
        return list(config.source_names or ())

    def _replace(self, adapter_name: str, prompts: torch.Tensor, names: list[str]) -> None:
        self._layer().table("sources", adapter_name).replace(prompts)
        # A copy, as other models may have been made of the same object.
        changed = copy.deepcopy(self.peft_config[adapter_name])
        assert isinstance(changed, AttemptConfig)
        changed.sources, changed.num_random_sources, changed.source_names = None, None, names
        self.peft_config[adapter_name] = changed


def configure(model_type: str, task_type: str | None, **options: Any) -> AttemptConfig:
    """Configure ATTEMPT, with four sources from the vocabulary unless others are given.

    Args:
        model_type: transformers' model type.
        task_type: peft's task type, or None.
        **options: Fields of `AttemptConfig`; they win over what is filled in.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: If a value is out of range.

    Privacy:
        Nothing, no data touched.

    References:
        Asai et al. 2022 (2205.11961).
    """
    filled = {"task_type": task_type, "modules_to_save": head_modules(model_type, task_type)}
    return fill(AttemptConfig, filled, options)


def _attach(model: nn.Module) -> AttemptLayer:
    assert isinstance(model, PreTrainedModel)
    weight = _embedding(model).weight
    assert isinstance(weight, torch.Tensor)
    layer = AttemptLayer(weight.shape[1], weight)
    layer.prepending.attach(model)
    setattr(model, _PLACE, layer)
    return layer


def _embedding(model: nn.Module) -> nn.Module:
    if not isinstance(model, PreTrainedModel):
        raise ConfigurationError(
            f"Expected model={type(model).__name__} to be a model of transformers. The prompt goes "
            "before its input embeddings. Give such a model."
        )
    return model.get_input_embeddings()


def _prompt(source: str | Path | torch.Tensor, length: int, width: int) -> torch.Tensor:
    if not isinstance(source, torch.Tensor):
        return read_prompt(source, length, width)
    if source.shape != (length, width):
        raise ConfigurationError(
            f"Expected source of shape {list(source.shape)} to have shape [{length}, {width}]. "
            "Prompts are neither cut nor repeated. Give a prompt of this model and length."
        )
    return source.detach()


def _note_private(config: Any, name: str, folder: str | None) -> None:
    config.private_sources = sorted({*(config.private_sources or ()), name})
    known = config.source_folders or {}
    # Every folder: a target may have begun with a source that was removed since.
    config.source_folders = {**known, name: [*known.get(name, ()), folder]}


def _name(source: str | Path | torch.Tensor) -> str:
    if isinstance(source, torch.Tensor):
        raise ConfigurationError(
            "Expected name=None to be given with a tensor. Sources are removed by name. Name it."
        )
    return source_name(str(source))


register_method(TYPE, AttemptConfig, AttemptModel)
register(AdapterName.ATTEMPT.value, configure)
