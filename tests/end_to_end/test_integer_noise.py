"""A run with integer noise, from its settings to a certificate that verifies."""

from pathlib import Path

import pytest

from dpft.accounting import Certificate, DiscreteGaussian
from dpft.recipes import cli


@pytest.mark.slow
def test_a_run_with_integer_noise_meets_its_target_and_verifies(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    settings = [
        "privacy.noise=discrete_gaussian",
        "privacy.accountant=rdp",
        "privacy.epsilon=8",
        "privacy.expected_batch_size=2000",
        "privacy.epochs=null",
        "privacy.steps=3",
    ]
    assert cli.main(["train", *settings, f"hydra.run.dir={run}"]) == 0
    certificate = Certificate.from_json((run / "certificate.json").read_text(encoding="utf-8"))
    assert isinstance(certificate.runs[0].mechanism, DiscreteGaussian)
    assert 7.9 < certificate.epsilon() <= 8
    assert cli.main(["certificate", "verify", str(run)]) == 0


def test_integer_noise_by_another_accountant_is_a_wrong_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"hydra.run.dir={tmp_path / 'runs' / 'run'}"
    assert cli.main(["train", "privacy.noise=discrete_gaussian", run]) == 2
    assert "accountant=pld to be rdp" in capsys.readouterr().err
