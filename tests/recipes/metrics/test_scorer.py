import numpy as np
import pytest

from dpft.recipes.metrics.labels import accuracy_scorer, matthews_scorer
from dpft.recipes.metrics.perplexity import perplexity_scorer
from dpft.recipes.metrics.scorer import Kind, Scorer, together

_LABELS = ([1, 0, 1], [1, 1, 1])


def test_together_gives_what_each_gives_alone() -> None:
    parts = accuracy_scorer(), matthews_scorer()
    both = together(*parts)
    rows = both.statistics(*_LABELS)
    alone = [part.score(part.statistics(*_LABELS)) for part in parts]
    assert both.score(rows) == alone[0] | alone[1]
    assert both.figures == ("accuracy", "matthews_correlation")
    assert rows.shape == (3, both.columns)


def test_each_part_sees_its_own_columns() -> None:
    def part(figure: str, columns: int) -> Scorer:
        return Scorer(
            figures=(figure,),
            kind=Kind.LABELS,
            columns=columns,
            statistics=lambda predictions, _: np.full((len(predictions), columns), float(columns)),
            score=lambda rows: {figure: float(rows.sum())},
            signature=lambda _: figure,
        )

    both = together(part("one", 1), part("two", 2), part("three", 3))
    rows = both.statistics(*_LABELS)
    assert both.score(rows) == {"one": 3 * 1, "two": 3 * 4, "three": 3 * 9}


def test_parts_that_do_not_belong_together_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="share a figure"):
        together(accuracy_scorer(), accuracy_scorer())
    with pytest.raises(AssertionError, match="different records"):
        together(accuracy_scorer(), perplexity_scorer())
