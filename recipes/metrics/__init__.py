"""Metrics of held-out records, and what each of them costs.

`metric` and `glue_metric` compute without noise, hence for public records only;
`dpft.recipes.metrics.accuracy` releases with noise. Nothing heavy is imported before it is needed.
"""

from dpft.recipes.metrics.registry import glue_metric, glue_tasks, metric, metrics, register

__all__ = ["glue_metric", "glue_tasks", "metric", "metrics", "register"]
