"""Secrets are planted as stated and ranked exactly; models that remember them give them away."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from dpft.errors import ConfigurationError
from dpft.recipes import exposure
from dpft.recipes.embedded import MODEL_DIR
from dpft.recipes.exposure import (
    Exposed,
    ExposureAudit,
    ExposureSettings,
    audit_exposure,
    secrets_of,
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL_DIR)


def test_secrets_differ_in_person_and_repeat_from_their_seed() -> None:
    secrets = secrets_of(ExposureSettings())

    assert len({each.text.split(" is ")[0] for each in secrets}) == len(secrets)
    assert [each.copies for each in secrets] == list(ExposureSettings().repetitions)
    assert secrets == secrets_of(ExposureSettings())
    assert secrets[0].code != secrets_of(ExposureSettings(seed=1))[0].code


def test_secrets_are_planted_as_often_as_stated_and_nothing_else_is(tokenizer: Any) -> None:
    settings = ExposureSettings()
    secrets = secrets_of(settings)

    rows = exposure._rows(settings, secrets, tokenizer)

    hidden = Counter(tokenizer.decode(row["labels"]).strip() for row in rows)
    assert len(rows) == settings.records
    for secret in secrets:
        assert hidden[secret.code] == secret.copies
    assert all(tokenizer.mask_token_id in row["input_ids"] for row in rows)
    shown = [tokenizer.decode(row["input_ids"]) for row in rows]
    assert not any(secret.code in text for secret in secrets for text in shown)


def scores_for(code: str, tokenizer: Any, *, sign: float) -> torch.Tensor:
    """Scores by which a code is the likeliest of all, or the least likely."""
    scores = torch.zeros(1, 6, len(tokenizer))
    tokens = exposure._digit_tokens(tokenizer)
    for place, digit in enumerate(code.split()):
        scores[0, place, tokens["123456789".index(digit)]] = sign
    return scores


@pytest.mark.parametrize(("sign", "bits"), [(1.0, 19.0196), (-1.0, 0.0)])
def test_a_code_is_ranked_among_all_of_its_format(
    sign: float, bits: float, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secrets_of(ExposureSettings())[0]
    scores = scores_for(secret.code, tokenizer, sign=sign)
    monkeypatch.setattr(exposure, "_logits", lambda *_: scores)

    assert exposure._exposure(torch.nn.Identity(), secret, tokenizer) == pytest.approx(
        bits, abs=1e-3
    )


def test_both_models_have_the_same_settings_but_for_privacy() -> None:
    settings = ExposureSettings()
    private, plain = (
        settings.privacy(private=each).plan(settings.records) for each in (True, False)
    )

    assert private.length.steps == plain.length.steps
    assert private.length.sample_rate == plain.length.sample_rate
    assert private.is_private
    assert not plain.is_private


@pytest.mark.parametrize("repetitions", [(0, 0), (40, 20)])
def test_secrets_that_do_not_hide_are_refused(repetitions: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="repetitions"):
        ExposureSettings(repetitions=repetitions)


def test_an_exposure_beyond_the_guarantee_refutes_it() -> None:
    fine, far = (Exposed(1, 1.0, 19.0, bits, chance) for bits, chance in ((1.0, 1.0), (19.0, 1e-7)))

    assert not ExposureAudit(19.0, 1.0, 1e-5, (fine,)).refuted
    assert ExposureAudit(19.0, 1.0, 1e-5, (fine, far)).refuted


@pytest.mark.slow
def test_a_model_without_privacy_gives_secrets_away_and_a_private_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = Random(7).randbytes  # the same models whenever they are made
    monkeypatch.setattr("dpft.randomness.secrets.token_bytes", keys)

    found = audit_exposure()

    often = [each for each in found.secrets if each.copies >= 4]
    assert min(each.non_private for each in often) > 0.6 * found.most
    assert max(each.private for each in found.secrets) < 0.6 * found.most
    never = [each.non_private for each in found.secrets if not each.copies]
    assert max(never) < 0.6 * found.most
    assert not found.refuted


def test_no_named_ledger_hears_of_invented_secrets(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.sqlite"
    monkeypatch.setenv("DPFT_LEDGER", str(mine))
    settings = ExposureSettings(repetitions=(1,), records=4, expected_batch_size=2, steps=1)
    rows = exposure._rows(settings, secrets_of(settings), tokenizer)

    exposure._trained(settings, rows, tokenizer, private=False)

    assert not mine.exists()
