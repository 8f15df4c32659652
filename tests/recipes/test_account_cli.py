"""`dpft account` answers on standard output, and refuses in one go."""

import json
import subprocess
import sys
from typing import Any

import pytest

from dpft.accounting import (
    AccountantError,
    ConfigurationError,
    PoissonGaussian,
    UserPoissonGaussian,
    attack_tpr,
    curve,
    epsilon,
    gdp_mu,
    numerical_error,
)
from dpft.recipes.cli import account_answer
from dpft.recipes.cli.account import main

REPLACED = "--records 99 --delta 1e-4 --group-size 2 --adjacency replace_one"
SMALL = ["--records", "1000", "--delta", "1e-4"]


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert main([*SMALL, *argv, "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert isinstance(fields, dict)
    return fields


def test_json_holds_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    fields = answer(capsys, "--batch-size", "100", "--epochs", "30", "--noise-multiplier", "2")
    assert {"epsilon", "delta", "noise_multiplier", "sample_rate", "steps", "accountant"} <= set(
        fields
    )
    assert fields["epsilon"] == epsilon(PoissonGaussian(2.0, 0.1, 300), 1e-4)
    assert (fields["sample_rate"], fields["steps"], fields["accountant"]) == (0.1, 300, "pld")


def test_noise_is_computed_from_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    fields = answer(capsys, "--batch-size", "100", "--epochs", "30", "--epsilon", "1")
    assert fields["noise_multiplier"] == pytest.approx(5.6335, rel=2e-3)
    assert 0.99 < float(str(fields["epsilon"])) <= 1
    assert fields["target_epsilon"] == 1


def test_steps_are_computed_from_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    fields = answer(capsys, "--batch-size", "100", "--noise-multiplier", "2", "--epsilon", "3.597")
    assert fields["steps"] == pytest.approx(300, abs=1)


def test_the_batch_size_is_computed_from_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    fields = answer(capsys, "--steps", "300", "--noise-multiplier", "2", "--epsilon", "3.6")
    assert fields["expected_batch_size"] == 100


def test_the_table_shows_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--epochs", "30", "--noise-multiplier", "2"]
    fields = answer(capsys, *run)
    main([*SMALL, *run])
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert rows == {name: str(value) for name, value in fields.items() if value is not None}


def test_comparison_shows_every_accountant(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--epochs", "30", "--noise-multiplier", "2", "--compare"]
    compared = answer(capsys, *run)["compare"]
    assert compared == {
        "pld": pytest.approx(3.597, abs=1e-3),
        "rdp": pytest.approx(3.992, abs=1e-3),
        "prv": pytest.approx(3.607, abs=1e-3),
    }


def test_comparison_says_which_accountant_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--steps", "3", "--noise-multiplier", "2", "--compare"]
    compared = answer(capsys, *run, "--adjacency", "replace_one")["compare"]
    assert isinstance(compared, dict)
    assert compared["pld"] > 0
    assert compared["rdp"] is compared["prv"] is None


def test_whole_users_are_covered_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--epochs", "3", "--noise-multiplier", "2"]
    user = answer(capsys, *run, "--group-size", "3")
    assert (user["unit"], user["records_per_user"]) == ("user", 3)
    assert user["epsilon"] == epsilon(UserPoissonGaussian(2.0, 0.1, 30, 3), 1e-4)
    record = answer(capsys, *run)
    assert (record["unit"], record["records_per_user"]) == ("record", None)
    assert record["epsilon"] == epsilon(PoissonGaussian(2.0, 0.1, 30), 1e-4)


def test_noise_for_whole_users_meets_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--epochs", "3", "--epsilon", "2", "--group-size", "2"]
    noise = float(str(answer(capsys, *run)["noise_multiplier"]))
    spent = [
        epsilon(UserPoissonGaussian(value, 0.1, 30, 2), 1e-4) for value in (noise, noise - 2e-4)
    ]
    assert spent[0] <= 2 < spent[1]


def test_comparison_for_users_says_who_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--steps", "3", "--noise-multiplier", "2", "--compare"]
    compared = answer(capsys, *run, "--group-size", "2")["compare"]
    assert isinstance(compared, dict)
    assert compared["pld"] > 0
    assert compared["rdp"] is compared["prv"] is None


def test_the_central_limit_theorem_is_not_offered() -> None:
    argv = "--records 1000 --batch-size 100 --steps 3 --noise-multiplier 2 --delta 1e-4".split()
    with pytest.raises(ConfigurationError, match="accountant=gdp to be one of pld, prv, rdp"):
        main([*argv, "--accountant", "gdp"])


def test_the_curve_leaves_out_deltas_that_the_accountant_cannot_vouch_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(mechanism: PoissonGaussian, deltas: list[float], **given: Any) -> object:
        if deltas[0] < 1e-6:
            raise AccountantError("Expected a larger delta.")
        return curve(mechanism, deltas, **given)

    monkeypatch.setattr(account_answer, "curve", failing)
    run = ["--batch-size", "100", "--steps", "30", "--noise-multiplier", "2", "--curve"]
    fields = answer(capsys, *run, "--accountant", "rdp")
    assert [point["delta"] for point in fields["curve"]] == [1e-4, 1e-5, 1e-6]  # type: ignore[attr-defined]  # JSON


def test_the_curve_stays_below_one_over_records(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--steps", "30", "--noise-multiplier", "2", "--curve"]
    fields = answer(capsys, *run)
    mechanism = PoissonGaussian(2.0, 0.1, 30)
    deltas = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10]
    assert fields["curve"] == [
        {"delta": delta, "epsilon": epsilon(mechanism, delta)} for delta in deltas
    ]
    assert fields["gdp_mu_estimate"] == gdp_mu(mechanism)
    assert fields["attack_tpr"] == {"fpr": 1e-3, "tpr": attack_tpr(mechanism)}
    main([*SMALL, *run])
    table = capsys.readouterr().out
    assert "epsilon (delta 1e-10)" in table
    assert "gdp_mu (estimate)" in table
    assert "attack_tpr (fpr 1e-03)" in table


def test_the_numerical_error_is_stated(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--batch-size", "100", "--steps", "30", "--noise-multiplier", "2"]
    fields = answer(capsys, *run)
    mechanism = PoissonGaussian(2.0, 0.1, 30)
    assert fields["numerical_error"] == numerical_error(mechanism, 1e-4)
    assert answer(capsys, *run, "--accountant", "rdp")["numerical_error"] is None


def test_all_bad_fields_are_named_together() -> None:
    argv = "--records x --batch-size 0 --epochs 1.5 --epsilon -1 --delta 2 --accountant pdl".split()
    with pytest.raises(ConfigurationError) as refusal:
        main([*argv, "--adjacency", "none", "--group-size", "0"])
    named = [message.split("=")[0] for message in refusal.value.messages]
    assert named == [
        f"Expected {name}"
        for name in (
            "num_records",
            "expected_batch_size",
            "epochs",
            "records_per_user",
            "epsilon",
            "delta",
            "accountant",
            "adjacency",
        )
    ]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--delta 1e-4 --batch-size 9 --steps 1 --epsilon 1", "num_records to be given"),
        ("--records 99 --batch-size 9 --steps 1 --epsilon 1", "delta to be given"),
        ("--records 99 --delta 1e-4 --batch-size 9 --epsilon 1", "Leave out exactly one"),
        (
            "--records 99 --delta 1e-4 --batch-size 9 --steps 1 --epsilon 1 --noise-multiplier 1",
            "Leave out exactly one",
        ),
        (
            "--records 99 --delta 1e-4 --batch-size 9 --steps 1 --epochs 1 --epsilon 1",
            "one of epochs and steps",
        ),
        ("--records 99 --delta 1e-4 --epochs 1 --epsilon 1 --noise-multiplier 1", "Set --steps"),
        ("--records 99 --delta 1e-4 --batch-size 100 --steps 1 --epsilon 1", "Lower"),
        ("--records 10000 --delta 1e-4 --batch-size 9 --steps 1 --epsilon 1", "1/num_records"),
        (f"{REPLACED} --batch-size 9 --steps 1 --noise-multiplier 1", "exchanging one user"),
        ("--records 99 --delta nan --batch-size 9 --steps 1 --epsilon 1", "delta=nan"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(argv: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        main(argv.split())


def test_an_answer_by_pld_never_imports_torch() -> None:
    code = (
        "import sys; from dpft.recipes.cli.account import main; "
        "main('--records 1000 --batch-size 100 --steps 3 --epsilon 1 --delta 1e-4'.split()); "
        "assert not {'torch', 'opacus', 'transformers', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
