"""The results of the editing experiments in Markdown: means over repetitions with 95% intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.reporting import markdown
from dpft.recipes.editing.spread import mean_and_interval

__all__ = ["tables"]

_Cell = Mapping[str, Any]


def tables(found: Mapping[str, Any]) -> str:
    """Return all tables.

    Args:
        found: The results file.

    Privacy:
        Measurements on public records, and public numbers of the runs.
    """
    cells = found["cells"]
    refused = [[cell["name"], cell["refused"]] for cell in cells if "refused" in cell]
    parts = [
        ("Addition", _addition(_of(cells, "addition"))),
        ("The same sums by other tools", _others(_of(cells, "addition"))),
        ("Addition of ordinary LoRA", _others(_of(cells, "addition_of_lora"))),
        ("Forgetting", _forgetting(_of(cells, "forgetting"))),
        ("Analogy", _analogy(_of(cells, "analogy"))),
        ("Refused by the library", markdown(["cell", "why"], refused)),
        ("Trials, on rows kept back", _trials(found["trials"])),
        ("Runs", _runs(found["runs"])),
    ]
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts)


def _addition(cells: Sequence[_Cell]) -> str:
    header = ["epsilon", "task", "n", "zero-shot", "own", "sum", "normalised", "seeds"]
    rows = []
    for epsilon, group in _by_epsilon(cells):
        for task, records in group[0]["records"].items():
            each = [[cell[kind][task] for cell in group] for kind in ("zero_shot", "own", "sum")]
            ratios = [cell["sum"][task] / cell["own"][task] for cell in group]
            shown = [mean_and_interval(values) for values in (*each, ratios)]
            rows.append([epsilon, task, str(records), *shown, str(len(group))])
        mean = mean_and_interval([cell["normalised"] for cell in group])
        total = str(sum(group[0]["records"].values()))
        rows.append([epsilon, "**mean**", total, "", "", "", f"**{mean}**", str(len(group))])
    text = markdown(header, rows)
    return f"{text}\n\n{_owed(cells)}"


def _owed(cells: Sequence[_Cell]) -> str:
    """Return what edited artefacts owe: runs of unknown overlap compose."""
    header = ["epsilon of each run", "epsilon of the edit", "runs that bind", "if kept apart"]
    rows = []
    for epsilon, group in _by_epsilon(cells):
        owed = group[0]["certificate"]
        numbers = [_epsilon(owed["epsilon"]), str(owed["binding"]), _epsilon(owed["largest"])]
        rows.append([epsilon, *numbers])
    return markdown(header, rows)


def _others(cells: Sequence[_Cell]) -> str:
    header = ["epsilon", "sum by", "normalised", "n", "coefficients", "seeds"]
    rows = []
    for epsilon, group in _by_epsilon(cells):
        records = str(sum(group[0]["records"].values()))
        ours = [cell["normalised"] for cell in group]
        used = ", ".join(f"{cell['coefficient']:g}" for cell in group)
        rows.append([epsilon, "dpft", mean_and_interval(ours), records, used, str(len(group))])
        for tool in sorted({tool for cell in group for tool in cell["others"]}):
            theirs = [cell["others"][tool] for cell in group if tool in cell["others"]]
            shown = mean_and_interval([each["normalised"] for each in theirs])
            rows.append([epsilon, tool, shown, records, used, str(len(theirs))])
    return markdown(header, rows)


def _forgetting(cells: Sequence[_Cell]) -> str:
    header = [
        "epsilon",
        "target (chance)",
        "edit",
        "n",
        "before",
        "after",
        "distance from chance",
        "control kept (n)",
        "coefficients",
        "seeds",
    ]
    rows = []
    for target in sorted({cell["target"] for cell in cells}):
        mine = [cell for cell in cells if cell["target"] == target]
        for epsilon, group in _by_epsilon(mine):
            edits = group[0]["edits"]
            rows += [[epsilon, *_forgotten(target, edit, group)] for edit in edits]
    return f"{markdown(header, rows)}\n\n{_owed(cells)}"


def _forgotten(target: str, edit: str, group: Sequence[_Cell]) -> list[str]:
    found = [cell["edits"][edit] for cell in group]
    first = found[0]
    values = {
        name: mean_and_interval([each[name] for each in found])
        for name in ("target_before", "target_after", "from_chance", "control")
    }
    return [
        f"{target} ({first['chance']:.3f})",
        edit,
        str(first["records"]),
        values["target_before"],
        values["target_after"],
        values["from_chance"],
        f"{values['control']} ({first['control_records']})",
        ", ".join(f"{each['coefficient']:g}" for each in found),
        str(len(group)),
    ]


def _analogy(cells: Sequence[_Cell]) -> str:
    header = [
        "epsilon",
        "n",
        "zero-shot",
        "auxiliary",
        "analogy",
        "gain",
        "own",
        "coefficients",
        "vectors admitted",
        "seeds",
    ]
    rows = []
    for epsilon, group in _by_epsilon(cells):
        kinds = ("zero_shot", "auxiliary", "analogy")
        shown = [mean_and_interval([cell[kind] for cell in group]) for kind in kinds]
        gain = mean_and_interval([cell["analogy"] - cell["auxiliary"] for cell in group])
        own = mean_and_interval([cell["own"] for cell in group])
        used = ", ".join(f"{cell['coefficient']:g}" for cell in group)
        admitted = str(sum(cell["admitted"] for cell in group))
        about = [gain, own, used, admitted, str(len(group))]
        rows.append([epsilon, str(group[0]["records"]), *shown, *about])
    return f"{markdown(header, rows)}\n\n{_owed(cells)}"


def _trials(trials: Sequence[_Cell]) -> str:
    header = ["run", "batch", "steps", "learning rate", "n", "accuracy"]
    rows = [
        [
            f"{trial['corpus']}, {'epsilon 8' if trial['private'] else 'not private'}",
            str(trial["batch"]),
            str(trial["steps"]),
            f"{trial['learning_rate']:g}",
            str(trial["records"]),
            f"{trial['accuracy']:.3f}",
        ]
        for trial in trials
    ]
    return markdown(header, rows)


def _runs(runs: Sequence[_Cell]) -> str:
    header = ["run", "N", "batch", "steps", "learning rate", "noise", "epsilon", "seconds"]
    rows = [
        [
            run["name"],
            str(run["num_records"]),
            str(run["batch"]),
            str(run["steps"]),
            f"{run['learning_rate']:g}",
            f"{run['noise_multiplier']:.3f}",
            _epsilon(run["epsilon_spent"]),
            "resumed" if run["cpu_seconds"] is None else str(run["cpu_seconds"]),
        ]
        for run in runs
    ]
    return markdown(header, rows)


def _of(cells: Iterable[_Cell], experiment: str) -> list[_Cell]:
    mine = (cell for cell in cells if cell["experiment"] == experiment)
    return [cell for cell in mine if "refused" not in cell]


def _by_epsilon(cells: Sequence[_Cell]) -> Iterable[tuple[str, list[_Cell]]]:
    """Yield the cells of each epsilon, without privacy first, then from the largest down."""
    known = sorted({cell["epsilon"] for cell in cells if cell["epsilon"]}, reverse=True)
    for epsilon in (None, *known):
        group = [cell for cell in cells if cell["epsilon"] == epsilon]
        if group:
            yield _epsilon(epsilon), group


def _epsilon(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4g}"
