"""The command line: one verb per module, each with `main(argv) -> int`.

Nothing heavy is imported before a verb runs, so that help and `dpft account` answer at once.
Exit codes: 2 configuration, 3 budget refused, 4 broken guarantee, 1 anything unexpected.
"""

import difflib
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from dpft.errors import DpftError
from dpft.processes_launcher import refuse_several_processes
from dpft.recipes.cli.console import plain

__all__ = ["VERBS", "main"]

_UNEXPECTED = 1
_USAGE = 2
_TRAINING = {"audit", "demo", "evaluate", "train", "tune"}
VERBS: dict[str, str] = {
    "account": "relate epsilon, noise, batch size and length, without training",
    "audit": "try to prove the guarantee of a configuration wrong",
    "certificate": "show, verify or explain what an artefact may claim",
    "demo": "train with and without privacy on the embedded task, and compare",
    "doctor": "check versions, devices, data and the clipping engine",
    "evaluate": "evaluate the adapter of a finished run again",
    "ledger": "budgets of data sets: show, set and check what runs were charged",
    "merge": "add, subtract and merge adapters, with the certificate of the result",
    "plan": "turn records, epsilon and hardware into batch, steps, noise and learning rate",
    "report": "write the report of a finished run as HTML, Markdown and JSON",
    "train": "train an adapter privately (without arguments: the embedded task)",
    "tune": "choose settings by the results of trials, with one guarantee for all",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb of the command line.

    Args:
        argv: Arguments without the program's name; unset: those of the process.

    Returns:
        The exit code.

    Privacy:
        Whatever a verb releases. Errors go to the operator's console and into no file
        (`tests/recipes/test_cli.py`).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_help())
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(_unknown(verb), file=sys.stderr)
        return _USAGE
    return _guarded(verb, rest)


def _guarded(verb: str, arguments: list[str]) -> int:
    try:
        if verb in _TRAINING:
            refuse_several_processes(f"dpft {verb}")
        return _verb(verb)(arguments)
    except DpftError as error:
        print(plain(str(error)), file=sys.stderr)
        return error.exit_code
    except SystemExit as leaving:  # argparse and Hydra leave this way, also after --help
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception:  # noqa: BLE001 - the console is the only place a traceback may go to
        traceback.print_exc()
        return _UNEXPECTED


def _verb(verb: str) -> Callable[[Sequence[str]], int]:
    return cast("Callable[[Sequence[str]], int]", import_module(f"{__name__}.{verb}").main)


def _help() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {meaning}" for verb, meaning in VERBS.items()]
    return "\n".join(
        [
            "Differentially private, parameter-efficient fine-tuning.",
            "",
            "usage: dpft VERB [arguments]      dpft VERB --help",
            "",
            *lines,
        ]
    )


def _unknown(verb: str) -> str:
    nearest = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"Did you mean dpft {nearest[0]}?" if nearest else "Run dpft --help."
    return f"Expected verb={verb} to be one of {', '.join(VERBS)}. {hint}"
