"""`dpft account` answers on standard output, and refuses in one go."""

import json
import subprocess
import sys

import pytest

from dpft.accounting import ConfigurationError, PoissonGaussian, epsilon
from dpft.recipes.cli.account import main

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


def test_all_bad_fields_are_named_together() -> None:
    argv = "--records x --batch-size 0 --epochs 1.5 --epsilon -1 --delta 2 --accountant pdl".split()
    with pytest.raises(ConfigurationError) as refusal:
        main([*argv, "--adjacency", "none"])
    named = [message.split("=")[0] for message in refusal.value.messages]
    assert named == [
        f"Expected {name}"
        for name in (
            "num_records",
            "expected_batch_size",
            "epochs",
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
