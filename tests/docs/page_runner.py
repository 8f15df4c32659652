"""Run the examples of one page in the order of the page; started in a process that has it all.

Arguments: a JSON file with the blocks, and where to write what each of them printed.
"""

import contextlib
import io
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from dpft.recipes import cli

_PATIENCE = 300  # seconds until a run that is to be interrupted must have taken its steps


def _dpft_or_python(words: list[str]) -> int:
    if words[0] == "dpft":
        return cli.main(words[1:])
    sys.argv = words[1:]
    runpy.run_path(words[1], run_name="__main__")
    return 0


def _in_child(words: list[str], printed: Path) -> int:
    """Run in a fork, whose output goes into a file, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        for number in (1, 2):
            os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        code = _dpft_or_python(words)
    except Exception:  # noqa: BLE001 - whoever reads of a failed test wants to see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interrupt(child: int, steps: int) -> None:
    """Do what Ctrl-C does, once as many steps are charged."""
    for _ in range(_PATIENCE * 100):
        charged = [path.read_text() for path in Path().glob("runs/**/charges.jsonl")]
        if any(text.count('"intend"') >= steps for text in charged):
            os.kill(child, signal.SIGINT)
            return
        time.sleep(0.01)
    raise TimeoutError("the run took no steps")


def _command(line: str, interrupted_after: int | None) -> tuple[int, str]:
    words = shlex.split(line, comments=True)
    if words[0] not in {"dpft", "python"}:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)  # noqa: S607
        return done.returncode, done.stdout + done.stderr
    printed = Path("printed")
    child = _in_child(words, printed)
    if interrupted_after is not None:
        _interrupt(child, interrupted_after)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = printed.read_text(encoding="utf-8")
    printed.unlink()
    return code, text


def _commands(block: dict[str, Any]) -> str:
    said = []
    for line in block["code"].replace("\\\n", " ").splitlines():
        if not shlex.split(line, comments=True):
            continue
        code, text = _command(line, block["interrupted_after"])
        if code != block["exit_code"]:
            raise AssertionError(f"{line}\nended with exit code {code}:\n{text}")
        said.append(text)
    return "".join(said)


def _python(block: dict[str, Any], namespace: dict[str, Any]) -> str:
    if block["file"]:
        Path(block["file"]).write_text(block["code"], encoding="utf-8")
        return ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block["code"], "<page>", "exec"), namespace)  # noqa: S102 - our own pages
    return printed.getvalue()


def _main() -> None:
    blocks, out = (Path(name) for name in sys.argv[1:])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    said = {}
    for block in json.loads(blocks.read_text(encoding="utf-8")):
        sys.stderr.write(f"line {block['line']} of the page\n")
        shell = block["language"] == "bash"
        said[block["line"]] = _commands(block) if shell else _python(block, namespace)
    out.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    os.environ.pop("DPFT_ASSETS", None)
    os.environ["COLUMNS"] = "100"
    _main()
