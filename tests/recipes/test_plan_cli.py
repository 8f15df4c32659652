"""`dpft plan` prints a run, what it assumed, and a command that can be carried out."""

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from dpft.accounting import PoissonGaussian, epsilon
from dpft.errors import ConfigurationError
from dpft.recipes.cli.plan import main
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.embedded import MODEL_DIR

SMALL = "--records 4000 --epsilon 2 --task sst2".split()


def test_the_last_line_is_a_command_that_composes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    *_, last = capsys.readouterr().out.splitlines()
    program, verb, *overrides = shlex.split(last)
    assert (program, verb) == ("dpft", "train")
    assert compose_settings(overrides).privacy.epsilon == 2


def test_json_holds_the_same_plan_as_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--json"])
    fields = json.loads(capsys.readouterr().out)
    main(SMALL)
    said = capsys.readouterr().out
    plan = fields["plan"]
    (marked,) = [line.split() for line in said.splitlines() if line.startswith("* ")]
    assert marked[1:5] == [
        str(plan["expected_batch_size"]),
        f"{plan['epochs']:.3g}",
        str(plan["steps"]),
        f"{plan['noise_multiplier']:.4f}",
    ]
    assert shlex.join(fields["command"]) in said
    assert all(sentence in said for sentence in fields["assumptions"])
    rate = plan["expected_batch_size"] / 4000
    run = PoissonGaussian(plan["noise_multiplier"], rate, plan["steps"])
    assert epsilon(run, plan["delta"]) <= 2


def test_the_weights_of_a_folder_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--model", str(MODEL_DIR), "--memory", "2"])
    said = capsys.readouterr().out
    assert "size was not given" not in said
    assert f"model={MODEL_DIR}" in said
    assert "physical batch" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--records many --epsilon 1", "Expected num_records=many to be a whole number"),
        ("--records 100 --epsilon x", "Expected epsilon=x to be a number"),
        ("--records 100 --epsilon -1", "Expected epsilon=-1"),
        ("--records 100 --epsilon 1 --delta 0.01", "Expected delta=0.01 < 1/num_records"),
        ("--records 100 --epsilon 1 --hours 1", "Expected records_per_second to be given"),
        ("--records 100 --epsilon 1 --adapter prompt", "Expected adapter=prompt to be one of"),
        (
            "--records 9999 --epsilon 1 --hours 0.001 --records-per-second 1",
            "Expected hours=0.001 >=",
        ),
    ],
)
def test_an_impossible_demand_is_refused(line: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        main(line.split())


def test_a_plan_takes_no_torch(beside_hydra: Callable[..., Any]) -> None:
    code = (
        "import sys; from dpft.recipes.cli import main; "
        "assert main(['plan', *sys.argv[1:]]) == 0; assert 'torch' not in sys.modules"
    )
    done = beside_hydra(code, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "dpft train task=sst2" in done.stdout
