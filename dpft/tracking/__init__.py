"""Trackers by accelerate's: TensorBoard, MLflow and W&B, off unless asked for.

A tracker is given public numbers alone: the plan, the optimiser's settings, the number of the step
and, at the end, metrics that are public or already noisy. It never sees a model, a batch, a loss
or a clock. accelerate and torch are imported when a tracker starts, not before.
"""

from dpft.tracking.names import TrackerName, tracker_problems
from dpft.tracking.session import Tracking

__all__ = ["TrackerName", "Tracking", "tracker_problems"]
