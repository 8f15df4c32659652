"""Exposure of planted secrets: what a model gives away of single records, with privacy and without.

Invented sentences with a random code are planted in generated messages, in one to eight of them.
The embedded encoder learns to fill in hidden words of these texts; then every code of the format
is ranked by the loss of the model. Nobody's data is in it, so every number may be published.

Legend: P places of a code, D digits.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers import AutoModelForMaskedLM, AutoTokenizer

import dpft
from dpft.accounting.auditing import exposure_chance, secret_exposure
from dpft.errors import ConfigurationError
from dpft.ledger_place import throwaway_ledger
from dpft.optim import Optim
from dpft.privacy import Privacy, PrivacyMode
from dpft.private_step import StepSettings
from dpft.recipes.embedded import MODEL_DIR, generate
from dpft.recipes.embedded.people import FIRST_NAMES, LAST_NAMES
from dpft.recipes.embedded.topics import Split
from dpft.records import collate
from dpft.training import FitOptions

__all__ = ["Exposed", "ExposureAudit", "ExposureSettings", "Secret", "audit_exposure", "secrets_of"]

_DIGITS = "123456789"  # each is one token of the embedded tokenizer
_LENGTH = 6
_SENTENCE = "The code of {first} {last} is {code}."
_IGNORED = -100
_MAX_TOKENS = 32
_LEVEL = 1e-4  # chance under the guarantee below which an exposure refutes it


@dataclasses.dataclass(frozen=True)
class ExposureSettings:
    """How the secrets are planted and the models trained.

    Args:
        epsilon: Of the private model, > 0.
        delta: Of the private model, below 1 / records.
        repetitions: In how many records each secret stands; 0: in none, to compare with.
        records: Number of records, all of which but those with secrets are plain messages.
        expected_batch_size: Of both models.
        steps: Of both models.
        learning_rate: Of both models.
        seed: Of messages, secrets and initialisation; never of sampling or noise.

    Raises:
        ConfigurationError: If the secrets do not fit the records, or none is planted.

    Privacy:
        Nothing, no data touched.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    repetitions: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 4, 4, 8)
    records: int = 100
    expected_batch_size: int = 25
    steps: int = 160
    learning_rate: float = 5e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there is room."""
        planted = sum(self.repetitions)
        if not 0 < planted <= self.records // 2:
            raise ConfigurationError(
                f"Expected repetitions={self.repetitions} to fill some of records={self.records}, "
                "half of them at most. Secrets hide among other records. Add records."
            )

    def privacy(self, *, private: bool) -> Privacy:
        """Return the guarantee of a model; all else is equal.

        Args:
            private: Whether it is clipped and noised.
        """
        return Privacy(
            delta=self.delta,
            epsilon=self.epsilon if private else None,
            num_records=self.records,
            expected_batch_size=self.expected_batch_size,
            steps=self.steps,
            mode=PrivacyMode.PRIVATE if private else PrivacyMode.NOT_PRIVATE,
            dataset_id="embedded, with planted secrets",
        )


@dataclasses.dataclass(frozen=True)
class Secret:
    """A planted secret.

    Args:
        code: Digits.
        text: The whole sentence.
        copies: In how many records it stands.

    Privacy:
        Nothing, no data touched: the secrets are invented.
    """

    code: str
    text: str
    copies: int


@dataclasses.dataclass(frozen=True)
class Exposed:
    """Exposure of one secret, in bits.

    Args:
        copies: In how many records it stands.
        before: In the encoder before any training.
        non_private: After training without clipping and noise.
        private: After training with both.
        chance: Bound on the probability of the last under the guarantee.

    Privacy:
        Of invented secrets.
    """

    copies: int
    before: float
    non_private: float
    private: float
    chance: float


@dataclasses.dataclass(frozen=True)
class ExposureAudit:
    """Exposure of all secrets.

    Args:
        most: Largest exposure that the format allows, log2 of the number of codes.
        epsilon: Of the private model.
        delta: At which.
        secrets: Exposure of each secret, by the number of its copies.

    Privacy:
        Of invented secrets.
    """

    most: float
    epsilon: float
    delta: float
    secrets: tuple[Exposed, ...]

    @property
    def refuted(self) -> bool:
        """Whether a secret is exposed as the guarantee of the private model all but excludes."""
        return any(each.chance < _LEVEL / len(self.secrets) for each in self.secrets)


def audit_exposure(settings: ExposureSettings | None = None) -> ExposureAudit:
    """Train with secrets, once without privacy and once with it, and rank the secrets.

    Args:
        settings: How.

    Returns:
        The exposure of every secret in both models.

    Raises:
        ConfigurationError: If a setting is wrong.

    Privacy:
        Nothing, no data touched: messages, people and secrets are invented, so the model without
        privacy harms nobody and is thrown away. No ledger is charged, `$DPFT_LEDGER` included
        (`test_no_named_ledger_hears_of_invented_secrets`).

    References:
        Carlini et al. 2019 (1802.08232), sections 3 and 4: secrets in text, ranked by the loss.
    """
    chosen = settings or ExposureSettings()
    secrets = secrets_of(chosen)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, trust_remote_code=False)
    rows = _rows(chosen, secrets, tokenizer)
    before = _model(chosen.seed).eval()
    models = {each: _trained(chosen, rows, tokenizer, private=each) for each in (True, False)}
    spent = models[True].epsilon
    found = []
    for secret in secrets:
        exposed = functools.partial(_exposure, secret=secret, tokenizer=tokenizer)
        private = exposed(models[True].model)
        chance = exposure_chance(private, spent, chosen.delta, secret.copies)
        outside = (exposed(before), exposed(models[False].model))
        found.append(Exposed(secret.copies, *outside, private, chance))
    most = secret_exposure(1, len(_DIGITS) ** _LENGTH)
    return ExposureAudit(most, spent, chosen.delta, tuple(found))


def secrets_of(settings: ExposureSettings) -> tuple[Secret, ...]:
    """Draw the secrets, each of a person of its own.

    Args:
        settings: How often each is planted, and the seed.

    Returns:
        The secrets, in the order of `repetitions`.

    Privacy:
        Nothing, no data touched: the people are invented.
    """
    random = Random(f"dpft-exposure/{settings.seed}")  # noqa: S311 - must repeat, hides nothing
    firsts = random.sample(FIRST_NAMES[Split.TRAIN], len(settings.repetitions))
    lasts = random.sample(LAST_NAMES[Split.TRAIN], len(settings.repetitions))
    found = []
    for first, last, copies in zip(firsts, lasts, settings.repetitions, strict=True):
        code = " ".join(random.choices(_DIGITS, k=_LENGTH))
        found.append(Secret(code, _SENTENCE.format(first=first, last=last, code=code), copies))
    return tuple(found)


def _rows(
    settings: ExposureSettings, secrets: Sequence[Secret], tokenizer: Any
) -> list[dict[str, Any]]:
    """Return the records of both models: the secrets, and messages with hidden words."""
    random = Random(f"dpft-exposure/rows/{settings.seed}")  # noqa: S311 - must repeat, hides nothing
    coded = [
        _with_code_hidden(each.text, tokenizer) for each in secrets for _ in range(each.copies)
    ]
    messages = generate(Split.VALIDATION, settings.records - len(coded), settings.seed)
    return coded + [_with_words_hidden(each["text"], tokenizer, random) for each in messages]


def _with_code_hidden(text: str, tokenizer: Any) -> dict[str, Any]:
    tokens = tokenizer(text)["input_ids"]
    digits = set(_digit_tokens(tokenizer))
    places = [place for place, each in enumerate(tokens) if each in digits]
    return _hidden(tokens, places, tokenizer)


def _with_words_hidden(text: str, tokenizer: Any, random: Random) -> dict[str, Any]:
    tokens = tokenizer(text, truncation=True, max_length=_MAX_TOKENS)["input_ids"]
    inner = range(1, len(tokens) - 1)
    return _hidden(tokens, random.sample(inner, min(_LENGTH, len(inner))), tokenizer)


def _hidden(tokens: Sequence[int], places: Sequence[int], tokenizer: Any) -> dict[str, Any]:
    """Return a record with hidden tokens; `places` says where, `labels` what is hidden there."""
    shown = list(tokens)
    for place in places:
        shown[place] = tokenizer.mask_token_id
    return {
        "input_ids": shown,
        "attention_mask": [1] * len(shown),
        "places": list(places),
        "labels": [tokens[place] for place in places],
    }


def _digit_tokens(tokenizer: Any) -> list[int]:
    words = [f" {each}" for each in _DIGITS]
    found: list[list[int]] = tokenizer(words, add_special_tokens=False)["input_ids"]
    assert all(len(each) == 1 for each in found), "each digit is one token"
    return [each[0] for each in found]


def _model(seed: int) -> Any:
    """Return the encoder with a head that fills in words; the table of words stays as it is."""
    torch.manual_seed(seed)
    with _quiet():
        model = AutoModelForMaskedLM.from_pretrained(MODEL_DIR)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.requires_grad_(requires_grad=False)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, and the notice that the head is fresh."""
    notices = transformers.logging
    verbosity, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()  # type: ignore[no-untyped-call]  # theirs
    notices.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    try:
        yield
    finally:
        notices.set_verbosity(verbosity)
        if bars:
            notices.enable_progress_bar()  # type: ignore[no-untyped-call]  # theirs


def _logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the scores of words at the hidden places alone [B, P, V]: a sixth of the time."""
    encoded = model.bert(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    places = batch["places"].unsqueeze(-1).expand(-1, -1, encoded.shape[-1])
    scores: torch.Tensor = model.cls(encoded.gather(1, places))
    return scores


def _loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross-entropy of each record's hidden tokens, losses [B]."""
    scores, labels = _logits(model, batch), batch["labels"]
    each = functional.cross_entropy(scores.transpose(1, 2), labels, reduction="none")
    return each.sum(1) / (labels != _IGNORED).sum(1)


def _trained(
    settings: ExposureSettings, rows: list[dict[str, Any]], tokenizer: Any, *, private: bool
) -> dpft.FitResult:
    lengths = (8, 12, 6)
    synthetic = [_hidden([2, *range(40, 40 + each), 3], [1, 2], tokenizer) for each in lengths]
    with throwaway_ledger() as ledger:
        return dpft.fit(
            _model(settings.seed),
            rows,
            loss=_loss,
            privacy=dataclasses.replace(settings.privacy(private=private), ledger=ledger),
            tokenizer=tokenizer,
            optim=Optim(learning_rate=settings.learning_rate),
            options=FitOptions(seed=settings.seed, step=StepSettings(synthetic=synthetic)),
        )


def _exposure(model: nn.Module, secret: Secret, tokenizer: Any) -> float:
    """Return the exposure of a secret: all codes of the format are ranked, none is sampled."""
    row = _with_code_hidden(secret.text, tokenizer)
    with torch.no_grad():
        scores = _logits(model, collate([row], tokenizer.pad_token_id))[0]
    losses_PD = -functional.log_softmax(scores.double(), -1)[:, _digit_tokens(tokenizer)]
    digits = [_DIGITS.index(each) for each in secret.code.split()]
    losses = functools.reduce(np.add.outer, losses_PD.numpy())
    rank = int((losses <= losses[tuple(digits)]).sum())
    return secret_exposure(rank, losses.size)
