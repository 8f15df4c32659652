"""What is published loads with plain peft, bit for bit, and carries its certificate along."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from transformers import BertConfig, BertForSequenceClassification

import dpft
from dpft.artefact_digest import NOTE
from dpft.losses import Classification
from dpft.verification import Artefact, trusted, verify

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30,
    "num_labels": 2,
}
LOADING = """
import json, sys, torch
from peft import PeftModel
from transformers import BertForSequenceClassification
base = BertForSequenceClassification.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
ids = torch.tensor([[3, 7, 9], [4, 8, 8]])
with torch.no_grad():
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
assert not [name for name in sys.modules if name.split(".")[0] == "dpft"]
print(json.dumps(logits.tolist()))
"""


def lora() -> LoraConfig:
    return LoraConfig(
        task_type="SEQ_CLS", target_modules=["query"], r=2, modules_to_save=["classifier"]
    )


def fit(base: Any, out: Path, adapter: Any = None) -> dpft.FitResult:
    rows = [
        {"input_ids": [3 + i % 2, 7], "attention_mask": [1, 1], "labels": i % 2} for i in range(60)
    ]
    privacy = dpft.Privacy(
        noise_multiplier=2.0, delta=1e-3, expected_batch_size=15, steps=2, accountant="rdp"
    )
    return dpft.fit(base, rows, loss=Classification(), privacy=privacy, adapter=adapter, out=out)


def build() -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**CONFIG))


@pytest.mark.slow
def test_plain_peft_loads_what_is_published_bit_for_bit(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "base")
    base = BertForSequenceClassification.from_pretrained(tmp_path / "base")
    result = fit(base, tmp_path / "run", lora())
    assert result.adapter_dir is not None
    command = [sys.executable, "-c", LOADING, str(tmp_path / "base"), str(result.adapter_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ids = torch.tensor([[3, 7, 9], [4, 8, 8]])
    with torch.no_grad():
        expected = result.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.equal(torch.tensor(json.loads(done.stdout.splitlines()[-1])), expected)


def test_an_adapter_copied_alone_keeps_its_certificate(tmp_path: Path) -> None:
    result = fit(build(), tmp_path / "run", lora())
    run, adapter = tmp_path / "run", tmp_path / "run" / "adapter"
    text = (run / "certificate.json").read_bytes()
    assert (adapter / "certificate.json").read_bytes() == text
    published = trusted(Artefact.of(adapter))
    assert published.certificate == result.certificate
    assert published.claims[0].epsilon == result.epsilon
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as stored:
        assert stored.metadata() == {"format": "pt", NOTE: published.digest}
    assert all(finding.passed for finding in verify(run))


def test_a_whole_model_is_published_with_its_certificate_too(tmp_path: Path) -> None:
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    fit(model, tmp_path / "run")
    assert all(finding.passed for finding in verify(tmp_path / "run"))
    BertForSequenceClassification.from_pretrained(tmp_path / "run" / "adapter")


def test_the_record_names_divisor_versions_and_what_is_not_covered(tmp_path: Path) -> None:
    run = fit(build(), tmp_path / "run", lora()).run
    assert run.divisor == run.expected_batch_size == 15
    assert run.versions["torch"] == torch.__version__
    assert run.selection.value == "not_accounted"
    assert any("base model" in sentence for sentence in run.excluded)
    assert str(tmp_path) not in (tmp_path / "run" / "certificate.json").read_text()
