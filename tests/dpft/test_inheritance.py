"""What a run starts from is found and counted, or the run is refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from peft import PeftModel, PromptTuningConfig
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft import adapters
from dpft.accounting import (
    Adjacency,
    Certificate,
    PoissonGaussian,
    RunRecord,
    UserPoissonGaussian,
    epsilon,
)
from dpft.accounting.inputs import InputRole
from dpft.adapters.attempt import AttemptConfig
from dpft.errors import BrokenGuaranteeError, ConfigurationError
from dpft.inheritance import Inheritance, inherited
from dpft.losses import Classification
from dpft.privacy import PrivacyMode
from dpft.training import FitOptions

RECORDS, LENGTH = 60, 2
PRIVACY = {"noise_multiplier": 2.0, "delta": 1e-3, "expected_batch_size": 15, "steps": 2}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def build() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=30,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def records() -> list[dict[str, Any]]:
    return [
        {"input_ids": [3 + index % 2, 7, 8], "attention_mask": [1] * 3, "labels": index % 2}
        for index in range(RECORDS)
    ]


def fit(model: nn.Module | None = None, privacy: Any = None, **arguments: Any) -> dpft.FitResult:
    chosen = dpft.Privacy(**{**PRIVACY, "accountant": "rdp", **(privacy or {})})
    return dpft.fit(
        build() if model is None else model,
        records(),
        loss=Classification(),
        privacy=chosen,
        **arguments,
    )


def prompt(folder: Path, **privacy: Any) -> Path:
    """Train a prompt privately, and return its run folder."""
    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    fit(adapter=config, out=folder, privacy=privacy)
    return folder


def attempt(*sources: Path, **options: Any) -> AttemptConfig:
    folders = [str(source) for source in sources]
    return AttemptConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH, sources=folders, **options)


def read(folder: Path) -> Certificate:
    return Certificate.from_json((folder / "certificate.json").read_text(encoding="utf-8"))


def test_a_base_model_without_a_certificate_is_public() -> None:
    (found,) = inherited(build()).inputs
    assert (found.role.value, found.status.value) == ("base_model", "public")
    assert Inheritance().fingerprint == inherited(build()).fingerprint == {}


def test_private_source_prompts_are_composed(tmp_path: Path) -> None:
    mnli, sst2 = prompt(tmp_path / "mnli"), prompt(tmp_path / "sst2")
    result = fit(adapter=attempt(mnli, sst2 / "adapter"), out=tmp_path / "out")
    earlier = read(mnli).compose(read(sst2))
    assert result.certificate == earlier.with_release(result.run)
    named = {each.name: each for each in result.run.inputs if each.role.value == "source_prompt"}
    assert set(named) == {"mnli", "sst2"}
    assert named["mnli"].certificate == read(mnli).digest
    three = [run.mechanism for run in result.certificate.runs if run.mechanism is not None]
    assert len(three) == 3
    assert result.epsilon == epsilon(three, result.delta, accountant="rdp")
    assert read(tmp_path / "out" / "adapter") == result.certificate
    assert str(tmp_path) not in (tmp_path / "out" / "adapter" / "adapter_config.json").read_text()
    # whoever resumes the run starts from the same
    assert (
        f'"input.mnli": "{read(mnli).digest}"' in (tmp_path / "out" / "charges.jsonl").read_text()
    )


def test_a_source_that_is_added_later_is_composed_too(tmp_path: Path) -> None:
    mnli = prompt(tmp_path / "mnli")
    model: Any = adapters.add(build(), attempt(num_random_sources=1))
    model.add_source(mnli, public=True)  # a certificate is stronger than a word
    result = fit(model)
    assert result.certificate == read(mnli).with_release(result.run)


def test_a_source_that_was_removed_again_is_still_composed(tmp_path: Path) -> None:
    mnli = prompt(tmp_path / "mnli")
    model: Any = adapters.add(build(), attempt(mnli, num_random_sources=1, init="source"))
    model.remove_source("mnli")  # the target began as a copy of it
    assert len(fit(model).certificate.runs) == 2


def test_two_sources_that_bore_one_name_are_both_composed(tmp_path: Path) -> None:
    one, two = prompt(tmp_path / "a" / "mnli"), prompt(tmp_path / "b" / "mnli")
    model: Any = adapters.add(build(), attempt(one, num_random_sources=1, init="source"))
    model.remove_source("mnli")
    model.add_source(two)
    assert len(fit(model).certificate.runs) == 3
    other: Any = adapters.add(build(), attempt(one, num_random_sources=1))
    other.remove_source("mnli")
    other.add_source(torch.ones(LENGTH, 16), "mnli")  # of which nobody knows anything
    with pytest.raises(ConfigurationError, match="sources=mnli to be public"):
        fit(other)


@pytest.mark.parametrize(
    "lose",
    [
        lambda run: (run / "certificate.json").unlink(),
        lambda run: (run / "adapter" / "certificate.json").unlink(),
        lambda run: (run / "adapter" / "certificate.json").write_text("{}"),
    ],
)
def test_a_source_without_its_certificate_is_refused(tmp_path: Path, lose: Any) -> None:
    mnli = prompt(tmp_path / "mnli")
    lose(mnli)
    with pytest.raises((ConfigurationError, BrokenGuaranteeError)):
        fit(adapter=attempt(mnli))


def test_a_source_that_was_edited_is_refused(tmp_path: Path) -> None:
    mnli = prompt(tmp_path / "mnli")
    path = mnli / "adapter" / "adapter_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(BrokenGuaranteeError, match="tensors: NOT as certified"):
        fit(adapter=attempt(mnli))


def test_a_source_that_promises_nothing_is_refused_for_a_private_run(tmp_path: Path) -> None:
    naked = {"mode": PrivacyMode.NOT_PRIVATE, "noise_multiplier": None}
    mnli = prompt(tmp_path / "mnli", **naked)
    with pytest.raises(BrokenGuaranteeError, match="finite epsilon"):
        fit(adapter=attempt(mnli))
    assert len(fit(adapter=attempt(mnli), privacy=naked).certificate.runs) == 2


def test_sources_of_a_loaded_adapter_are_unknown_unless_named(tmp_path: Path) -> None:
    mnli = prompt(tmp_path / "mnli")
    fit(adapter=attempt(mnli), out=tmp_path / "out")
    loaded = PeftModel.from_pretrained(build(), tmp_path / "out" / "adapter", is_trainable=True)
    with pytest.raises(ConfigurationError, match="sources=mnli to be public"):
        fit(loaded)


def test_an_adapter_that_the_user_names_is_composed(tmp_path: Path) -> None:
    first = fit(adapter="bitfit", out=tmp_path / "first")
    loaded = PeftModel.from_pretrained(build(), tmp_path / "first" / "adapter", is_trainable=True)
    options = FitOptions(started_from=(tmp_path / "first",))
    second = fit(loaded, options=options)
    assert second.certificate == first.certificate.with_release(second.run)


def test_a_base_model_with_a_certificate_is_composed(tmp_path: Path) -> None:
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    first = fit(model, out=tmp_path / "first")
    folder = tmp_path / "copied"
    shutil.copytree(tmp_path / "first" / "adapter", folder)
    base = BertForSequenceClassification.from_pretrained(folder)
    second = fit(base, adapter="bitfit")
    assert second.certificate == first.certificate.with_release(second.run)
    assert [each.name for each in second.run.inputs] == ["copied"]


@pytest.mark.parametrize("lose", ["certificate", "match"])
def test_a_base_model_that_lost_its_certificate_is_refused(tmp_path: Path, lose: str) -> None:
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    fit(model, out=tmp_path / "first")
    folder = tmp_path / "first" / "adapter"
    base = BertForSequenceClassification.from_pretrained(folder)
    if lose == "certificate":
        (folder / "certificate.json").unlink()
    else:
        fields = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
        fields["runs"][0]["dataset_id"] = "others"
        (folder / "certificate.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(BrokenGuaranteeError, match="hold tensors and their certificate"):
        fit(base, adapter="bitfit")


def test_a_base_model_of_the_hub_is_looked_at_where_its_copy_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    first = fit(model, out=tmp_path / "first")
    folder = tmp_path / "first" / "adapter"
    base = BertForSequenceClassification.from_pretrained(folder)
    base.config._name_or_path = "somebody/private-bert"
    (public,) = inherited(base).inputs  # never downloaded
    assert public.status.value == "public"
    config = str(folder / "config.json")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: config)
    found = inherited(base)
    assert found.runs == first.certificate.runs
    (folder / "certificate.json").unlink()  # what transformers downloads has none
    with pytest.raises(BrokenGuaranteeError, match="hold tensors and their certificate"):
        inherited(base)


def test_a_name_that_is_no_folder_is_public() -> None:
    model = build()
    model.config._name_or_path = "/folder/of/another machine"
    (found,) = inherited(model).inputs
    assert found.name == "another machine"


def test_all_runs_behind_an_input_come_along() -> None:
    first = fit(adapter="bitfit").certificate
    (run,) = first.runs
    inputs = (first.as_input("first", InputRole.ADAPTER),)
    whole = first.with_release(dataclasses.replace(run, run_id="later", inputs=inputs))
    assert Inheritance().and_also("second", InputRole.ADAPTER, whole).runs == whole.runs
    assert len(whole.runs) == 2


def test_what_cannot_be_composed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    certificate = fit(adapter="bitfit").certificate
    found = Inheritance((), certificate.runs)
    mechanism = PoissonGaussian(1.0, 0.1, 3)
    with pytest.raises(ConfigurationError, match="1/num_records"):
        found.require_composable(mechanism, 0.5)
    found.require_composable(mechanism, 1e-3)
    found.require_composable(None, 0.5)
    with pytest.raises(ConfigurationError, match="unit='user' to be record"):
        found.require_composable(UserPoissonGaussian(1.0, 0.1, 3, 2), 1e-3)
    secret = Inheritance((), (_with_secret_number(certificate),))
    secret.require_composable(mechanism, 1e-3)
    zeroed = PoissonGaussian(1.0, 0.1, 3, Adjacency.ZERO_OUT)
    with pytest.raises(ConfigurationError, match="num_records"):
        secret.require_composable(zeroed, 1e-3)


def _with_secret_number(certificate: Certificate) -> RunRecord:
    (run,) = certificate.runs
    mechanism = PoissonGaussian(1.0, 0.1, 3)
    return dataclasses.replace(
        run, num_records=None, mechanism=mechanism, adjacency=mechanism.adjacency
    )
