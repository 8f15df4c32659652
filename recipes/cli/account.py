"""`dpft account`: what a run would cost, or what it needs to stay within a budget.

Of noise multiplier, batch size, length and epsilon any three give the fourth. Nothing is trained
and no data is read; torch is imported for `--accountant prv` and `--compare` alone.
"""

from collections.abc import Sequence

from dpft.recipes.cli.account_answer import (
    answer_of,
    as_json,
    as_table,
    comparison_of,
    profile_of,
)
from dpft.recipes.cli.account_question import asked, parser, run_of

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Answer one question about the cost of a run, on standard output.

    Args:
        argv: The arguments after ``dpft account``.

    Returns:
        The exit code, 0.

    Raises:
        ConfigurationError: If arguments are missing, out of range or contradict each other; all
            of them are named together.
        AccountantError: If the accountant fails numerically.

    Privacy:
        Nothing, no data touched: all arguments are public numbers.

    Example:
        >>> main(
        ...     "--records 1000 --batch-size 100 --epochs 30 --noise-multiplier 2".split()
        ...     + ["--delta", "1e-4"]
        ... )
        epsilon              3.5965...
        delta                0.0001
        noise_multiplier     2.0
        num_records          1000
        expected_batch_size  100
        sample_rate          0.1
        steps                300
        unit                 record
        accountant           pld
        adjacency            add_or_remove
        grid                 0.0001
        numerical_error      ...e-05
        0
    """
    arguments = parser().parse_args(argv)
    question = asked(arguments)
    mechanism, batch_size = run_of(question)
    answer = answer_of(question, mechanism, batch_size)
    comparison = comparison_of(mechanism, question.delta) if arguments.compare else {}
    profile = profile_of(question, mechanism) if arguments.curve else None
    print((as_json if arguments.json else as_table)(answer, comparison, profile))
    return 0
