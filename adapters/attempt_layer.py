"""The parameters of ATTEMPT: source and target prompts, and the network that attends over them.

The algebra stands in `dpft.adapters.attention_prompts`, the way of the prompt into a model in
`dpft.adapters.prepending`.

Shapes: B records, T tokens, D width, L prompt tokens, M sources, K tasks, A bottleneck.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dpft.adapters.attempt_config import TYPE, AttemptConfig
from dpft.adapters.attention_prompts import attention_weights, mix, pool_tokens
from dpft.adapters.prepending import Prepending
from dpft.adapters.source_prompts import Prompts
from dpft.adapters.switched_layer import SwitchedLayer
from dpft.errors import ConfigurationError

__all__ = ["PREFIX", "AttemptLayer", "PromptTable"]

PREFIX = f"{TYPE.lower()}_"
_SOURCES = f"{PREFIX}sources"


class PromptTable(nn.Module):
    """Several prompts [N, L, D], which may have yet to be loaded.

    Args:
        values: The prompts.
        trainable: Whether they are trained.
        await_checkpoint: Whether the values are placeholders.
    """

    def __init__(
        self, values: torch.Tensor, *, trainable: bool, await_checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(values, requires_grad=trainable)
        self._placeholder = [self.weight] if await_checkpoint else []  # a list registers nothing

    @property
    def awaits_checkpoint(self) -> bool:
        """Whether the values are placeholders still, neither copied into nor replaced.

        Privacy:
            Nothing, no data touched.
        """
        return any(each is self.weight for each in self._placeholder)

    def replace(self, values: torch.Tensor) -> None:
        """Hold other prompts, trained or not as before.

        Args:
            values: The prompts [N, L, D].

        Privacy:
            Nothing, no data touched.
        """
        self.weight = nn.Parameter(values, requires_grad=self.weight.requires_grad)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if f"{prefix}weight" in state_dict:
            self._placeholder = []


class AttemptLayer(SwitchedLayer):
    """Prompts and attention of every ATTEMPT adapter of a model; it replaces no module.

    Args:
        width: Width D of the model's input embeddings.
        place: A tensor on the device and in the type of the input embeddings.
    """

    adapter_layer_names = tuple(
        f"{PREFIX}{part}" for part in ("target", "down", "up", "norm", "sources")
    )
    other_param_names = (f"{PREFIX}temperature",)
    dpft_attempt_sources: nn.ModuleDict
    dpft_attempt_target: nn.ModuleDict
    dpft_attempt_down: nn.ModuleDict
    dpft_attempt_up: nn.ModuleDict
    dpft_attempt_norm: nn.ModuleDict

    def __init__(self, width: int, place: torch.Tensor) -> None:
        # Never below single precision: a file loaded without copying would lose its last digits.
        dtype = torch.promote_types(place.dtype, torch.float32)
        super().__init__(nn.Identity(), width, torch.empty(0, device=place.device, dtype=dtype))
        self.prepending = Prepending(self)
        self.dpft_attempt_temperature: dict[str, float] = {}
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}

    def hold(self, adapter_name: str, config: AttemptConfig, prompts: Prompts) -> None:
        """Take up an adapter's prompts, with a fresh attention network drawn by the seed.

        Args:
            adapter_name: Name of the adapter, which is not made active.
            config: Its configuration.
            prompts: What it begins with; on the meta device, all of the adapter lies there.

        Privacy:
            Nothing, no data touched.
        """
        trainable = config.train_sources
        table = PromptTable(
            prompts.sources, trainable=trainable, await_checkpoint=prompts.await_checkpoint
        )
        self.dpft_attempt_sources[adapter_name] = table
        self.dpft_attempt_target[adapter_name] = PromptTable(prompts.targets, trainable=True)
        # One draw apart from that of the prompts, which it would else repeat.
        generator = torch.Generator().manual_seed(config.seed + 1)
        like, wide, narrow = prompts.targets, self.width, config.bottleneck
        self.dpft_attempt_down[adapter_name] = _linear(wide, narrow, like, generator)
        self.dpft_attempt_up[adapter_name] = _linear(narrow, wide, like, generator)
        norm = nn.LayerNorm(wide, device=like.device, dtype=like.dtype)
        self.dpft_attempt_norm[adapter_name] = norm
        self.dpft_attempt_temperature[adapter_name] = config.temperature or math.e * wide
        if not trainable:
            self.frozen_peft_weight_names[adapter_name] = (_SOURCES,)
        self.set_requires_grad(adapter_name, requires_grad=False)

    def prompt_length(self) -> int:
        """Return the length of the prompt that goes before an input now, 0 for none.

        Privacy:
            Nothing, no data touched.
        """
        name = self._active_name()
        return 0 if name is None else self.table("target", name).weight.shape[1]

    def prompt(
        self,
        embeds_BTD: torch.Tensor,
        mask_BT: torch.Tensor | None,
        task_ids_B: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the active adapter's prompt for each record.

        Args:
            embeds_BTD: Input embeddings [B, T, D].
            mask_BT: Attention mask [B, T], or None.
            task_ids_B: Task of each record [B], from 0; None where there is one task.

        Returns:
            Prompts [B, L, D] in the type of the embeddings.

        Raises:
            ConfigurationError: If the tasks are missing or of another number than the records, or
                the sources have yet to be loaded.

        Privacy:
            Row b depends on record b only (`test_a_record_alone_equals_one_among_longer_mates`).

        References:
            Asai et al. 2022 (2205.11961), section 3.2.
        """
        name = self._active_name()
        assert name is not None
        sources_MLD = _loaded(self.table("sources", name), name)
        target_BLD = _of_tasks(self.table("target", name).weight, task_ids_B, len(embeds_BTD))
        pooled_BD = pool_tokens(embeds_BTD, mask_BT).to(target_BLD.dtype)
        hidden_BA = functional.silu(self.dpft_attempt_down[name](pooled_BD))
        query_BD = self.dpft_attempt_norm[name](self.dpft_attempt_up[name](hidden_BA))
        temperature = self.dpft_attempt_temperature[name]
        weights_BN = attention_weights(query_BD, sources_MLD, target_BLD, temperature)
        return mix(weights_BN, sources_MLD, target_BLD).to(embeds_BTD.dtype)

    def table(self, part: str, adapter_name: str) -> PromptTable:
        """Return an adapter's prompts.

        Args:
            part: "sources" or "target".
            adapter_name: Name of the adapter.

        Privacy:
            Nothing, no data touched.
        """
        table = getattr(self, f"{PREFIX}{part}")[adapter_name]
        assert isinstance(table, PromptTable)
        return table

    def _active_name(self) -> str | None:
        if self.disable_adapters:
            return None
        return next((name for name in self.active_adapters if name in self.dpft_attempt_down), None)


def _linear(inputs: int, outputs: int, like: torch.Tensor, generator: torch.Generator) -> nn.Linear:
    """Return a layer without bias, initialised as torch does but from a generator."""
    bound = 1 / math.sqrt(inputs)
    drawn = (torch.rand((outputs, inputs), generator=generator) * 2 - 1) * bound
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    layer.weight = nn.Parameter(drawn.to(like.device, like.dtype))
    return layer


def _loaded(table: PromptTable, name: str) -> torch.Tensor:
    if table.awaits_checkpoint:
        raise ConfigurationError(
            f"Expected sources of adapter={name} to be loaded. Its configuration names sources "
            "whose values are in a checkpoint. Load it by PeftModel.from_pretrained, or give "
            "sources or num_random_sources in a new configuration."
        )
    return table.weight


def _of_tasks(
    targets_KLD: torch.Tensor, task_ids_B: torch.Tensor | None, records: int
) -> torch.Tensor:
    tasks, *shape = targets_KLD.shape
    if task_ids_B is None:
        if tasks > 1:
            raise ConfigurationError(
                f"Expected prompt_task_ids=None to name one of {tasks} tasks for each record. Each "
                "task has its own prompt. Pass prompt_task_ids [B] to the model."
            )
        return targets_KLD.expand(records, *shape)
    if task_ids_B.shape != (records,):
        raise ConfigurationError(
            f"Expected prompt_task_ids of shape {list(task_ids_B.shape)} to have shape [{records}],"
            " one task for each record. Pass as many as there are records."
        )
    # which record it is stays unsaid; on the meta device there is no number to look at
    if not task_ids_B.is_meta and ((task_ids_B < 0) | (task_ids_B >= tasks)).any():
        raise ConfigurationError(
            f"Expected prompt_task_ids in 0 to {tasks - 1}. Each number names one of {tasks} tasks "
            "of the adapter. Correct them, or build the adapter with more tasks."
        )
    flat_BX = functional.embedding(task_ids_B, targets_KLD.flatten(1))
    return flat_BX.view(records, *shape)
