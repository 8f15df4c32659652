import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = {  # a stand-in for peft, and a package whose modules peft's import brings along
    "peft.py": "",
    "trial/__init__.py": """
        from dpft.adapters.import_order import import_peft_first
        from dpft.adapters.registration import when_peft_is_imported

        def everything():
            import trial.second

        when_peft_is_imported(everything)
        import_peft_first("trial", ["light"])
    """,
    "trial/light.py": "",
    "trial/first.py": """
        import peft

        class First:
            pass
    """,
    "trial/second.py": "from trial.first import First",
}


@pytest.fixture
def run(tmp_path: Path) -> "Run":
    (tmp_path / "trial").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    return Run(tmp_path)


class Run:
    """Runs code in a fresh interpreter that finds the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self._start = (
            f"import sys; sys.path.insert(0, {str(folder)!r}); import dpft.adapters\n"
            "ours = [each for each in sys.meta_path if 'dpft' in type(each).__module__]\n"
            "assert len(ours) == 2; [sys.meta_path.remove(each) for each in ours]\n"  # for the real
        )

    def __call__(self, code: str) -> None:
        subprocess.run([sys.executable, "-c", self._start + code], check=True)


@pytest.mark.parametrize("code", ["import trial.first", "import peft", "import trial.second"])
def test_either_order_of_import_brings_every_module_along_once(run: Run, code: str) -> None:
    check = "trial.second.First is trial.first.First is sys.modules['trial.first'].First"
    run(f"import trial\n{code}\nimport trial.first, trial.second\nassert {check}")


def test_a_module_keeps_what_its_import_gave_it(run: Run) -> None:
    run("import trial.first\nassert trial.first.__spec__.origin.endswith('first.py')")


def test_a_module_that_does_without_peft_does_not_import_it(run: Run) -> None:
    run("import trial.light\nassert 'peft' not in sys.modules")


def test_a_half_made_module_is_what_is_prevented(run: Run) -> None:
    undo = "import dpft.adapters.import_order as o; o.import_peft_first = lambda *a: None\n"
    with pytest.raises(subprocess.CalledProcessError):
        run(f"{undo}import trial.first")
