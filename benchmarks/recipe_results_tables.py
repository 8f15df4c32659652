"""Tables of the recipes' results in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.recipe_results_cells import ADAPTERS, DECODER_TASKS, ENCODER_TASKS
from benchmarks.reporting import machine_line, markdown

__all__ = ["tables"]

_EPSILONS = (None, 8.0, 3.0, 1.0)
_FIGURES = {
    "cola": ("matthews_correlation",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearmanr"),
}
_TEXT_FIGURES = {"bleu": 1, "rouge_l": 100, "nist": 1}  # as the papers scale them
_CORRELATIONS = ("cola", "stsb")
_NOT_BETTER = "*"
_SST2_RECORDS, _SST2_CONSTANT = 872, 444 / 872  # of the validation file, and those that are good
_LEGEND = (
    f"`{_NOT_BETTER}`: less than two standard errors better than the constant predictor (the "
    "commonest training label; without correlation), by the first figure. There training led to "
    "nothing that could be told from knowing the commonest label. `-`: not run. One run a cell; "
    "epsilon at delta 1e-5 is that of the run and does not cover trials. SST-2: LoRA of "
    "sst2.json, three passes, one without privacy; others of adapters.json, one pass."
)
_Found = Mapping[str, Any]


def tables(found: _Found, sst2: _Found, adapters: _Found) -> str:
    """Return everything that was found.

    Args:
        found: The results of this benchmark.
        sst2: Those of `benchmarks.utility`.
        adapters: Those of `benchmarks.adapter_utility`.

    Privacy:
        Released metrics of public held-out records.
    """
    parts = [
        _labels(found, [*_of_sst2(sst2, "lora"), *_of_sst2(adapters, None)]),
        _LEGEND,
        _texts(found),
        _settings(found["cells"]),
        markdown(
            ["trial", "score"],
            [[trial["name"], f"{trial['score']:.4f}"] for trial in found["trials"]],
        ),
        machine_line(found["machine"]),
    ]
    return "\n\n".join(parts)


def _labels(found: _Found, sst2: Sequence[_Found]) -> str:
    constants = {
        "sst2": {"records": _SST2_RECORDS, "accuracy": _SST2_CONSTANT},
        **found["constants"],
    }
    rows = []
    for task in ("sst2", *ENCODER_TASKS):
        for adapter in ADAPTERS:
            mine = [
                cell
                for cell in (*found["cells"], *sst2)
                if (cell["task"], cell["adapter"]) == (task, adapter)
            ]
            if mine:
                shown = [_shown(mine, epsilon, constants[task]) for epsilon in _EPSILONS]
                rows.append([task, adapter, *shown, _figures(task, constants[task])])
    columns = ["task", "adapter", "infinite", "8", "3", "1", "constant"]
    return markdown(columns, rows)


def _shown(mine: Sequence[_Found], epsilon: float | None, constant: _Found) -> str:
    cell = next((cell for cell in mine if cell["target_epsilon"] == epsilon), None)
    if cell is None:
        return "-"
    mark = "" if _is_better(cell, constant) else f" {_NOT_BETTER}"
    return _figures(cell["task"], cell) + mark


def _is_better(cell: _Found, constant: _Found) -> bool:
    """Return whether the first figure is two standard errors above that of the constant."""
    figure, records = _figures_of(cell["task"])[0], constant["records"]
    level = constant.get(figure, 0.0)
    spread = 1.0 if cell["task"] in _CORRELATIONS else level * (1 - level)
    return bool(cell[figure] > level + 2 * (spread / records) ** 0.5)


def _figures_of(task: str) -> tuple[str, ...]:
    return _FIGURES.get(task, ("accuracy",))


def _figures(task: str, found: _Found) -> str:
    return " / ".join(
        f"{found[name]:.3f}" if name in found else "undefined" for name in _figures_of(task)
    )


def _texts(found: _Found) -> str:
    rows = [
        [
            cell["task"],
            _guarantee(cell),
            *(f"{scale * cell[name]:.2f}" for name, scale in _TEXT_FIGURES.items()),
            str(cell["tables"]),
        ]
        for cell in found["cells"]
        if cell["task"] in DECODER_TASKS
    ]
    return markdown(["task", "epsilon", "BLEU", "ROUGE-L", "NIST", "tables"], rows)


def _settings(cells: Sequence[_Found]) -> str:
    rows = [
        [
            cell["task"],
            cell["adapter"],
            _guarantee(cell),
            str(cell["expected_batch_size"]),
            str(cell["steps"]),
            f"{cell['noise_multiplier']:g}",
            f"{cell['learning_rate']:g}",
            cell["head"] or "-",
        ]
        for cell in cells
        if not cell["untrained"]
    ]
    columns = ["task", "adapter", "epsilon", "batch", "steps", "noise", "learning rate", "head"]
    return markdown(columns, rows)


def _guarantee(cell: _Found) -> str:
    if cell["untrained"]:
        return "not trained"
    return "infinite" if cell["epsilon"] is None else f"{cell['epsilon']:.3f}"


def _of_sst2(found: _Found, adapter: str | None) -> list[dict[str, Any]]:
    """Return cells of another benchmark; LoRA's of several adapters are shown by the first."""
    return [
        {"adapter": adapter, "target_epsilon": 8.0, **cell, "task": "sst2"}
        for cell in found["cells"]
        if adapter is not None or cell["adapter"] != "lora"
    ]
