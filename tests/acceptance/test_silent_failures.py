"""What goes wrong without a word elsewhere ends in an error here, before the first private step.

Every message says which field, why, and what to do.
"""

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

import dpft
from dpft.errors import BrokenGuaranteeError, ConfigurationError, DpftError
from dpft.losses import Classification

Fit = Callable[..., dpft.FitResult]
Records = list[dict[str, Any]]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def refused(error: type[DpftError], call: Callable[[], Any], *said: str) -> None:
    """Check that a call is refused, and that field, reason and remedy are said in this order."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert message.startswith("Expected ")
    places = [message.find(part) for part in said]
    assert -1 not in places, message
    assert places == sorted(places), message


def test_s1_the_loss_of_the_model_itself_is_refused_for_its_mean(
    fit: Fit, drawn: list[int]
) -> None:
    refused(
        BrokenGuaranteeError,
        lambda: fit(loss=lambda model, batch: model(**batch).loss),
        "Expected losses of shape",
        "couples records",
        "Return one loss a record",
    )
    assert not drawn


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
        peft.PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=3, encoder_hidden_size=4),
    ],
    ids=["prompt", "p_tuning"],
)
def test_s2_a_prompt_has_a_gradient_for_each_record_and_not_one_for_the_batch(
    config: peft.PeftConfig, build: Callable[[], Any]
) -> None:
    model = peft.get_peft_model(build(), config).eval()
    ids = torch.tensor([[5, 6, 7], [8, 9, 10], [11, 12, 13], [14, 15, 16]])
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.tensor([0, 1, 0, 1]),
    }
    together = dpft.per_record_gradients(model, Classification(), batch)
    first = {name: value[:1] for name, value in batch.items()}
    alone = dpft.per_record_gradients(model, Classification(), first)
    prompts = [name for name in together if "prompt_encoder" in name]
    assert prompts
    for name in prompts:
        assert len(together[name]) == 4
        torch.testing.assert_close(together[name][0], alone[name][0], rtol=1e-4, atol=1e-7)


def test_s2_a_gradient_of_the_whole_batch_would_fail_the_preflight(
    fit: Fit, drawn: list[int]
) -> None:
    def joined(model: Any, batch: Any) -> torch.Tensor:
        losses = Classification()(model, batch)
        return losses.mean().expand(len(losses))  # what one gradient for all of them means

    refused(
        BrokenGuaranteeError,
        lambda: fit(loss=joined),
        "Expected every preflight check to pass",
        "not each record's own gradient",
        "Make records independent",
    )
    assert not drawn


def test_s3_a_mean_over_the_tokens_of_all_records_is_refused(fit: Fit, drawn: list[int]) -> None:
    def over_all_tokens(model: Any, batch: Any) -> torch.Tensor:
        losses = Classification()(model, batch)
        own: torch.Tensor = batch["attention_mask"].sum(1)
        return losses * own * len(own) / own.sum()

    refused(
        BrokenGuaranteeError,
        lambda: fit(loss=over_all_tokens),
        "Expected every preflight check to pass",
        "not each record's own gradient",
        "Make records independent",
    )
    assert not drawn


@pytest.mark.parametrize("weighted", [True, False])
def test_s4_s5_a_loader_with_its_own_sampler_is_refused(
    weighted: bool, fit: Fit, records: Records, drawn: list[int]
) -> None:
    sampler = WeightedRandomSampler([1.0] * len(records), len(records)) if weighted else None
    loader: Any = DataLoader(records, 2, sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
    refused(
        ConfigurationError,
        lambda: fit(records=loader),
        "Expected records=DataLoader",
        "Epsilon holds for Poisson samples drawn here",
        "Give the data set itself",
    )
    assert not drawn


def test_s4_s5_an_own_loop_cannot_hand_in_a_loader_or_a_batch_of_it(
    build: Callable[[], Any], privacy: Callable[..., dpft.Privacy], records: Records
) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = dpft.PrivateStep(model, optimizer, privacy(), Classification())
    loader: Any = DataLoader(records, 15, collate_fn=list)  # type: ignore[arg-type]
    refused(
        ConfigurationError,
        lambda: step.batches(loader, list),  # type: ignore[arg-type]
        "Expected records=DataLoader",
        "Epsilon holds",
        "Give the data set itself",
    )
    refused(
        BrokenGuaranteeError,
        lambda: step(next(iter(loader))),
        "Expected the batch that step.batches() yielded last",
        "Epsilon holds for the engine's own Poisson samples",
        "Pass every batch once",
    )


def test_s5_records_one_after_the_other_are_refused(
    fit: Fit, records: Records, drawn: list[int]
) -> None:
    refused(
        ConfigurationError,
        lambda: fit(records=iter(records)),
        "Expected records=list_iterator",
        "Epsilon holds",
        "Give the data set itself",
    )
    assert not drawn


@pytest.mark.parametrize("delta", [0.5, 1 / 60])
def test_s6_a_delta_that_leaks_whole_records_is_refused(
    delta: float, fit: Fit, privacy: Callable[..., dpft.Privacy], drawn: list[int]
) -> None:
    refused(
        ConfigurationError,
        lambda: fit(privacy=privacy(delta=delta)),
        f"Expected delta={delta:g} < 1/num_records",
        "allows whole records to leak",
        "Set privacy.delta to at most",
    )
    assert not drawn


def test_s7_an_optimiser_of_parameters_from_before_the_adapter_is_refused(
    build: Callable[[], Any], privacy: Callable[..., dpft.Privacy]
) -> None:
    model = build()
    stale = torch.optim.SGD(model.parameters(), lr=0.1)
    adapted: Any = peft.get_peft_model(
        model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    )
    refused(
        BrokenGuaranteeError,
        lambda: dpft.PrivateStep(adapted, stale, privacy(), Classification()),
        "Expected the optimiser to hold exactly the trainable parameters",
        "would move without noise, or never",
        "Build the optimiser after the adapter",
    )


def test_s7_a_parameter_that_never_moves_is_named_before_it_costs_anything(
    fit: Fit, build: Callable[[], Any], drawn: list[int]
) -> None:
    model: Any = build()
    model.never_used = torch.nn.Linear(2, 2)
    refused(
        BrokenGuaranteeError,
        lambda: fit(model=model, adapter=None),
        "never_used.weight",
        "never learns",
        "freeze parameters that the loss does not use",
    )
    assert not drawn
