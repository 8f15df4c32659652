"""A folder that changes while it is read is refused: no certificate is put on other tensors."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError
from dpft.taskvectors import TaskVector, reading

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize("files", ["adapter_model.safetensors", "*"])
@pytest.mark.parametrize("step", ["stated", "_saved_adapter", "certified_leaf"])
def test_a_folder_that_is_replaced_while_it_is_read_is_refused(
    vector: Callable[..., TaskVector],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    files: str,
    tmp_path: Path,
) -> None:
    for seed in (3, 4):
        vector("lora", seed).without_heads().save(tmp_path / str(seed))
    called = getattr(reading, step)

    def replaced(*arguments: Any) -> Any:
        result = called(*arguments)
        for path in (tmp_path / "4").glob(files):
            shutil.copy(path, tmp_path / "3")
        return result

    monkeypatch.setattr(reading, step, replaced)
    with pytest.raises(BrokenGuaranteeError):
        TaskVector.load(tmp_path / "3")
