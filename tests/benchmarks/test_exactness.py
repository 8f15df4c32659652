"""A fast step that is a wrong one is found."""

import pytest

from benchmarks.cases import CASES, Case, Family, Method, Problem
from benchmarks.engines import ENGINES, Builder, Settings
from benchmarks.exactness import refuse_inexact
from benchmarks.measuring import Action

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and opacus's, about themselves
_TINY = [pytest.param(case.shrunk(), id=case.name) for case in CASES if case.tokens == 128]


@pytest.mark.parametrize("case", _TINY)
def test_our_step_is_exact(case: Case) -> None:
    refuse_inexact(ENGINES["dpft"], case.problem("cpu"))


def test_a_step_that_does_not_clip_is_refused() -> None:
    problem = Case(Family.MINILM, Method.LORA, 32, 64).shrunk().problem("cpu")
    with pytest.raises(RuntimeError, match="not the sum of clipped gradients"):
        refuse_inexact(ENGINES["plain"], problem)


def test_a_step_that_clips_the_whole_batch_is_refused() -> None:
    problem = Case(Family.GPT2, Method.PROMPT, 16, 128).shrunk().problem("cpu")
    with pytest.raises(RuntimeError, match="not the sum of clipped gradients"):
        refuse_inexact(ENGINES["opacus ghost"], problem)


def test_a_step_that_leaves_a_parameter_is_refused() -> None:
    problem = Case(Family.MINILM, Method.LORA, 32, 64).shrunk().problem("cpu")
    with pytest.raises(RuntimeError, match="stand still"):
        refuse_inexact(_idle(ENGINES["dpft"]), problem)


def _idle(build: Builder) -> Builder:
    """Return an engine that puts one parameter back."""

    def built(problem: Problem, settings: Settings) -> Action:
        step = build(problem, settings)
        parameter = next(p for p in problem.model.parameters() if p.requires_grad)
        kept = parameter.detach().clone()

        def idle_step() -> int:
            units = step()
            parameter.data.copy_(kept)
            return units

        return idle_step

    return built
