import re
from collections.abc import Iterable

import matplotlib as mpl
import pytest

from dpft.rendering import rounded_up
from dpft.reporting.facts import Facts
from dpft.reporting.figures import Drawing, inlined
from dpft.reporting.plots import draw_run


def svgs(drawings: Iterable[Drawing]) -> dict[str, str]:
    return {drawing.name: drawing.svg for drawing in drawings}


@pytest.fixture(scope="module")
def drawn(facts: Facts) -> dict[str, str]:
    return svgs(draw_run(facts))


def test_figures_are_the_same_bytes_each_time(facts: Facts, drawn: dict[str, str]) -> None:
    assert set(drawn) == {"by_step", "by_delta", "trade_off"}
    with mpl.rc_context({"lines.linewidth": 9, "svg.hashsalt": None}):  # a user's own settings
        assert svgs(draw_run(facts)) == drawn


def test_figures_are_small_and_hold_no_date(drawn: dict[str, str]) -> None:
    for svg in drawn.values():
        assert len(svg) < 30_000
        assert "<metadata" not in svg
        assert not re.search(r"20\d\d-\d\d", svg)


def test_no_figure_cuts_a_number_that_it_states(facts: Facts, drawn: dict[str, str]) -> None:
    stated = rounded_up(facts.epsilon)
    assert len(stated.partition(".")[2]) > 2
    assert f">epsilon = {stated}<" in drawn["by_delta"]
    assert f">{stated}<" in drawn["by_step"]


def test_ids_of_two_figures_never_meet(drawn: dict[str, str]) -> None:
    found = [set(re.findall(r'id="([^"]*)"', svg)) for svg in drawn.values()]
    assert all(found)
    assert len(set.union(*found)) == sum(map(len, found))


def test_every_id_that_a_figure_names_is_in_it(drawn: dict[str, str]) -> None:
    for svg in drawn.values():
        element = inlined(Drawing("name", "what it shows", svg))
        named = set(re.findall(r'(?:href="#|url\(#)([^")]*)', element))
        assert named <= set(re.findall(r' id="([^"]*)"', element))
        assert element.startswith('<svg role="img" aria-label="what it shows"')
