"""A sketch has the shapes of the leaf, and none of its numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import BrokenGuaranteeError
from dpft.taskvectors import Form, TaskVector
from dpft.taskvectors.certification import Uncertified
from dpft.taskvectors.sketching import Hints, sketch

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("kind", ["lora", "ffa_lora", "ia3"])
def test_a_sketch_has_the_shapes_of_the_leaf(
    vector: Callable[..., TaskVector], kind: str, form: Form, tmp_path: Path
) -> None:
    vector(kind, 3).save(tmp_path / "saved", form=form)
    leaf = TaskVector.load(tmp_path / "saved").leaves[0]
    drawn = sketch(tmp_path / "saved", Hints())
    assert drawn.certificate == leaf.certificate
    assert drawn.base == leaf.base
    assert set(drawn.delta.parts) == set(leaf.delta.parts)
    assert (drawn.delta.family, drawn.delta.heads) == (leaf.delta.family, leaf.delta.heads)
    assert drawn.delta.labels == leaf.delta.labels
    for place, part in drawn.delta.parts.items():
        found = leaf.delta.parts[place].tensors()
        assert {name: each.shape for name, each in part.tensors().items()} == {
            name: each.shape for name, each in found.items()
        }
        assert all(each.is_meta for each in part.tensors().values())


def test_what_has_no_certificate_is_refused_or_marked(
    adapted: Callable[..., Any], tmp_path: Path
) -> None:
    adapted("lora", 3).save_pretrained(tmp_path / "plain", save_embedding_layers=False)
    with pytest.raises(BrokenGuaranteeError, match="certificate"):
        sketch(tmp_path / "plain", Hints())
    marked = sketch(tmp_path / "plain", Hints(on_uncertified=Uncertified.MARK))
    assert not marked.certificate.is_bounded
