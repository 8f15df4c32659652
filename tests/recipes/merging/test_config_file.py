"""The configuration file is a subset of mergekit's, and what is not understood is refused."""

from fractions import Fraction
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.merging.config_file import read
from dpft.recipes.merging.request import OutputType, Uncertain

FULL = """
merge_method: ties
base_model: some/base
models:
  - model: runs/a
    parameters: {weight: 0.5, density: 0.2}
  - model: other/a
    parameters: {weight: -1, density: 0.2}
parameters: {lambda: 0.4, normalize: false, seed: 7}
dtype: bfloat16
privacy: {on_uncertified: mark}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "merge.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_is_read(tmp_path: Path) -> None:
    request = read(written(tmp_path, FULL))
    assert request.folders == {"a": Path("runs/a"), "a (2)": Path("other/a")}
    assert request.coefficients == {"a": Fraction(1, 2), "a (2)": Fraction(-1)}
    assert (request.method, request.density, request.scaling, request.seed) == ("ties", 0.2, 0.4, 7)
    assert request.base == "some/base"
    assert request.dtype is OutputType.BFLOAT16
    assert request.on_uncertified is Uncertain.MARK


def test_the_least_file_is_the_plain_sum(tmp_path: Path) -> None:
    request = read(written(tmp_path, "models: [{model: a}, {model: b}]"))
    assert request.coefficients == {"a": 1, "b": 1}
    assert (request.method, request.normalize, request.on_uncertified) == (
        "linear",
        False,
        Uncertain.REFUSE,
    )


def test_a_name_of_mergekit_is_understood(tmp_path: Path) -> None:
    text = "{models: [{model: a}], merge_method: task_arithmetic}"
    assert read(written(tmp_path, text)).method == "linear"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [{modle: a}]", "Did you mean model"),
        ("{models: [{model: a}], parameters: {lamda: 1}}", "Did you mean lambda"),
        ("{models: [{model: a, parameters: {wieght: 1}}]}", "Did you mean weight"),
        ("{models: [{model: a}], privacy: {on_uncertain: mark}}", "Did you mean on_uncertified"),
        ("{models: [{model: a}], slices: []}", "slices to be a known setting"),
        ("{models: [{model: a}], dtype: float8}", "Expected dtype='float8'"),
        ("{models: [{model: a, parameters: {weight: [0, 1]}}]}", "models.0.parameters.weight"),
        ("{models: [{model: a}], parameters: {density: 0}}", "parameters.density=0"),
        ("{models: [{model: a}], parameters: {normalize: 1}}", "parameters.normalize=1"),
        ("models: []", "models="),
        ("merge_method: ties", "models to be given"),
        ("- a", "a mapping"),
        ("models: [", "to be YAML"),
        ("models: [{model: a}]\nmodels: [{model: b}]", "repeated keys"),
        (
            "{models: [{model: a, parameters: {density: .2}}, {model: b}]}",
            "to be one for all models",
        ),
        ("models: [{model: a, parameters: {weight: 0}}]", "Everything cancelled"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(written(tmp_path, text))


def test_all_problems_are_named_together(tmp_path: Path) -> None:
    text = "{models: [{modle: a}], parameters: {lamda: 1}, dtype: float8}"
    with pytest.raises(ConfigurationError) as caught:
        read(written(tmp_path, text))
    assert len(caught.value.messages) == 4  # the model itself is missing as well


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to be a file of text"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("disjoint", "no matter of assertion"),
        ("forgotten", "refunds nothing"),
        ("unlearned", "refunds nothing"),
        ("member_hashes", "who is a member"),
        ("data", "a release of its own"),
    ],
)
def test_what_nothing_can_grant_is_refused_with_its_reason(
    tmp_path: Path, key: str, why: str
) -> None:
    text = f"{{models: [{{model: a}}], privacy: {{{key}: true}}}}"
    with pytest.raises(ConfigurationError, match=why):
        read(written(tmp_path, text))


def test_no_model_takes_the_name_of_another(tmp_path: Path) -> None:
    text = "{models: [{model: p/a}, {model: q/a}, {model: 'p/a (2)'}]}"
    folders = read(written(tmp_path, text)).folders
    assert list(folders.values()) == [Path("p/a"), Path("q/a"), Path("p/a (2)")]
