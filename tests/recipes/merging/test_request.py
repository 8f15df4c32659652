"""Names and folders of an expression: none is lost, none is taken for another."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpft.errors import ConfigurationError
from dpft.recipes.merging.request import published_names, request_of_expression

PATHS = st.lists(st.sampled_from(["a", "p/a", "q/a (2)", "a (2)", "a (3)", "r/a (2) (2)", "."]))


@given(PATHS)
def test_published_names_are_told_apart(paths: list[str]) -> None:
    names = published_names(paths)
    assert len(set(names)) == len(names) == len(paths)
    assert not any("/" in name for name in names)


def test_no_path_takes_the_name_of_another() -> None:
    request = request_of_expression("'p/a (2)' + 2*'p/a' - 'q/a'", [])
    terms = {request.folders[name]: number for name, number in request.coefficients.items()}
    assert terms == {Path("p/a (2)"): 1, Path("p/a"): 2, Path("q/a"): -1}


def test_a_quoted_path_is_no_name() -> None:
    request = request_of_expression("a - 'a'", ["a=runs/one"])
    terms = {request.folders[name]: number for name, number in request.coefficients.items()}
    assert terms == {Path("runs/one"): Fraction(1), Path("a"): Fraction(-1)}


def test_a_name_is_compared_as_the_expression_reads_it() -> None:
    assert request_of_expression("\ufb01 + x", ["\ufb01=one", "x=two"]).folders["fi"] == Path("one")
    with pytest.raises(ConfigurationError, match="each name once"):
        request_of_expression("fi", ["\ufb01=one", "fi=two"])
