from pathlib import Path
from types import SimpleNamespace

import pytest

from dpft.accounting import ConfigurationError
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.declarations import declared_inputs, taken_as_public
from dpft.errors import BrokenGuaranteeError
from dpft.privacy import EvaluationStatus, Privacy
from dpft.recipes.config.schema import Architecture

MODEL = SimpleNamespace(config=SimpleNamespace(_name_or_path="org/base"))


def tokenizer(name: str) -> SimpleNamespace:
    return SimpleNamespace(name_or_path=name)


def vocabulary(name: str, status: InputStatus = InputStatus.PUBLIC) -> Input:
    return Input(name=name, role=InputRole.VOCABULARY, status=status)


@pytest.mark.parametrize("given", [None, tokenizer("org/base")])
def test_the_tokenizer_of_the_base_model_needs_no_word(given: object) -> None:
    assert declared_inputs(MODEL, given, ()) == ()


def test_a_vocabulary_that_was_learnt_anew_keeps_its_name_and_is_found() -> None:
    from dpft.recipes.models import load

    base = load("embedded", Architecture(pretrained=False), ["no", "yes"], 0)
    own = base.tokenizer
    assert declared_inputs(base.model, own, ()) == ()
    learnt = own.train_new_from_iterator(["Ada has a secret", "Ada and Bob"], vocab_size=300)
    learnt.name_or_path = own.name_or_path
    with pytest.raises(BrokenGuaranteeError, match="tokenizer=embedded to be the base model's"):
        declared_inputs(base.model, learnt, ())
    assert declared_inputs(base.model, learnt, (vocabulary("embedded"),))
    own.add_tokens(["Ada"])
    with pytest.raises(BrokenGuaranteeError, match="tokenizer=embedded"):
        declared_inputs(base.model, own, ())


def test_a_vocabulary_that_is_not_stored_vouches_for_nothing(tmp_path: Path) -> None:
    class Lost(SimpleNamespace):
        def get_vocab(self) -> dict[str, int]:
            return {"Ada": 0}

        @classmethod
        def from_pretrained(cls, name: str, **_: object) -> "Lost":
            raise OSError(name)

    model = SimpleNamespace(config=SimpleNamespace(_name_or_path=str(tmp_path)))
    with pytest.raises(BrokenGuaranteeError, match="to be the base model's"):
        declared_inputs(model, Lost(name_or_path=str(tmp_path)), ())


def test_the_same_folder_by_another_path_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = SimpleNamespace(config=SimpleNamespace(_name_or_path=str(tmp_path / "base")))
    assert declared_inputs(model, tokenizer("./base"), ()) == ()


@pytest.mark.parametrize(
    ("name", "short"),
    [("org/other", "other"), ("/home/me/base", "base"), ("", "unnamed tokenizer")],
)
def test_a_tokenizer_of_other_origin_is_declared_or_refused(name: str, short: str) -> None:
    with pytest.raises(BrokenGuaranteeError, match=f"tokenizer={short} to be the base model's"):
        declared_inputs(MODEL, tokenizer(name), (vocabulary("another"),))
    other_role = Input(name=short, role=InputRole.OTHER, status=InputStatus.PUBLIC)
    with pytest.raises(BrokenGuaranteeError):
        declared_inputs(MODEL, tokenizer(name), (other_role,))
    assert declared_inputs(MODEL, tokenizer(name), (vocabulary(short),)) == (vocabulary(short),)


def test_a_model_without_a_name_vouches_for_no_tokenizer() -> None:
    for model in (object(), SimpleNamespace(config=SimpleNamespace(_name_or_path=""))):
        with pytest.raises(BrokenGuaranteeError):
            declared_inputs(model, tokenizer(""), ())


def test_what_leaves_no_trace_is_listed_as_declared() -> None:
    weights = Input(name="class weights", role=InputRole.OTHER, status=InputStatus.UNKNOWN)
    assert declared_inputs(MODEL, None, (weights,)) == (weights,)


def test_something_certified_is_named_by_its_folder() -> None:
    certified = Input(
        name="earlier",
        role=InputRole.OTHER,
        status=InputStatus.CERTIFIED,
        certificate="0" * 64,
        runs=("a",),
    )
    with pytest.raises(ConfigurationError, match="started_from"):
        declared_inputs(MODEL, None, (certified,))


def sentences(**fields: object) -> str:
    given: dict[str, object] = {"noise_multiplier": 1.0, "delta": 1e-4, "steps": 1}
    privacy = Privacy(**(given | {"expected_batch_size": 10} | fields))
    return "\n".join(taken_as_public(privacy.plan(1000)))


def test_what_was_declared_public_is_listed() -> None:
    noisy = {"evaluation": EvaluationStatus.NOISY, "evaluation_epsilon": 1.0}
    assert "number of training records" in sentences()
    assert "number of training records" not in sentences(num_records=1000)
    assert "on which metrics were taken" in sentences(evaluation=EvaluationStatus.PUBLIC)
    assert "on which metrics were taken" not in sentences(**noisy)
    assert "number of held-out records" in sentences(**noisy)
    assert "number of held-out records" not in sentences(**noisy, evaluation_records=100)
    assert "settings" in sentences()
