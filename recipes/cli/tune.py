"""`dpft tune`: choose settings by the results of trials, with one guarantee for all of them."""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpft.run_folder import RunFolder

if TYPE_CHECKING:
    from dpft.booking import Booking
    from dpft.recipes.candidates import PreparedTuning

__all__ = ["main"]

_EXAMPLE = "dpft tune --trials 10 privacy.epsilon=8 optim.learning_rate=1e-3,5e-3 adapter.r=4,16"
_CAVEAT = (
    "Nothing is shown until the choice is made. Trials are random in number, nothing tells how "
    "many there are but the time they take, and they cannot be resumed."
)


def main(argv: Sequence[str]) -> int:
    """Run a private selection and write the folder of the chosen model.

    Args:
        argv: Flags, and overrides of which at least one lists several values.

    Returns:
        0, also if no trial was drawn; every failure is raised.

    Raises:
        ConfigurationError: If a setting is wrong; nothing is charged or written.
        BudgetError: If the selection would exceed a budget; nothing has run.

    Privacy:
        As `dpft.recipes.tuning.tune`. What is printed before the choice is public; what is
        printed afterwards is of the chosen model (`tests/end_to_end/test_tune.py`).
    """
    arguments = _parser().parse_args(argv)
    from dpft.accounting.selection import TrialCount
    from dpft.recipes.candidates import prepare_tuning

    count = TrialCount(arguments.trials, _shape(arguments.shape))
    if arguments.out is not None:
        RunFolder(arguments.out).refuse_another_run()
    prepared = prepare_tuning(_overrides(arguments), count)
    folder = arguments.out or _folder(prepared)
    _print_plan(prepared)
    with _charged(prepared, folder) as booking:
        return _chosen(prepared, booking, folder)


def _charged(prepared: "PreparedTuning", folder: Path) -> "Booking":
    from dpft.ledger_place import ledger_place
    from dpft.recipes.cli.ledger_output import booked
    from dpft.tuning import charge

    first = prepared.trials[0]
    path = ledger_place(first.privacy, folder)
    assert path is not None, "there is a folder"
    booking = charge(prepared.plan, path, first.intake.charged, first.held_out)
    print(booked(booking))
    print(_CAVEAT)
    return booking


def _chosen(prepared: "PreparedTuning", booking: "Booking", folder: Path) -> int:
    """Run what was charged; torch is imported no sooner."""
    from dpft.recipes.cli.training_output import summary
    from dpft.recipes.tuning import tune

    try:
        outcome = tune(prepared, booking, folder)
    except BaseException:
        print("The selection did not end. It stays charged as a whole.", file=sys.stderr)
        raise
    if outcome is None:
        print("outcome    no model: no trial was drawn. The selection is charged all the same.")
    else:
        print(summary(outcome))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dpft tune", description=__doc__, epilog=_EXAMPLE)
    parser.add_argument(
        "--trials", type=float, default=10.0, metavar="MEAN", help="expected number of trials (10)"
    )
    parser.add_argument(
        "--shape",
        default="0",
        help="distribution of their number: 0 logarithmic (default), 1 geometric, any other shape "
        "of a truncated negative binomial, or poisson, which may give no trial and no model",
    )
    parser.add_argument(
        "--epsilon", metavar="E", help="target of the whole selection, as privacy.epsilon=E"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the chosen model, absent or empty (runs/TASK/tune_...)"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="SETTING=VALUE[,VALUE...]",
        help="settings as for dpft train; those with several values make the grid",
    )
    return parser


def _shape(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _overrides(arguments: argparse.Namespace) -> list[str]:
    given: list[str] = arguments.overrides
    if arguments.epsilon is None:
        return given
    return [*given, f"privacy.epsilon={arguments.epsilon}"]


def _folder(prepared: "PreparedTuning") -> Path:
    """Return a new folder; its name holds no time of day, which would tell how long it took."""
    name = f"tune_{time.strftime('%Y-%m-%d')}_{secrets.token_hex(4)}"
    return Path("runs") / prepared.trials[0].task.name / name


def _print_plan(prepared: "PreparedTuning") -> None:
    from dpft.rendering import rounded_up

    plan = prepared.plan
    count, trial = plan.count, plan.trial
    print(f"candidates {len(prepared.candidates)}, one drawn at random for each trial")
    print(
        f"trials     {count.mean:g} on average, with probability 0.99 at most "
        f"{count.quantile(0.99)}"
    )
    print(
        f"guarantee  epsilon {rounded_up(plan.epsilon)} at delta {trial.privacy.delta:.3g} for all "
        "trials and the choice together, accounted in RDP"
    )
    print(
        f"each trial noise multiplier {trial.noise_multiplier:.6g}, {trial.length.steps} steps, "
        f"sample rate {trial.length.sample_rate:.6g}"
    )
