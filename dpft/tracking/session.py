"""One run's trackers: started before its first step, and stopped rather than in its way."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dpft.errors import ConfigurationError
from dpft.optim import Optim
from dpft.privacy import PrivacyPlan
from dpft.progress import Progress
from dpft.tracking.backends import BACKENDS, Backend
from dpft.tracking.content import Setting, released_metrics, run_settings, step_values
from dpft.tracking.names import TrackerName, tracker_problems

if TYPE_CHECKING:
    from dpft.loop import Observer, Standing

__all__ = ["Tracking"]

_LOG = logging.getLogger(__name__)


class Tracking:
    """The trackers of one run, as a context: they are closed when it ends.

    Args:
        names: Which ones; none by default.
        settings: Further public settings to send before the first step.

    Raises:
        ConfigurationError: If a tracker is unknown, or its package is not installed.

    Privacy:
        Public numbers and released metrics alone are sent (`dpft.tracking.content`): no loss, no
        gradient norm, no size of a sample, no memory, no time of a step. A tracker that fails
        changes nothing else (`test_a_tracker_that_fails_changes_nothing_but_itself`).

    Example:
        >>> Tracking(["tensorbord"])
        Traceback (most recent call last):
        ...
        dpft.accounting.errors.ConfigurationError: Expected tracker=tensorbord to be one of ...
    """

    def __init__(
        self,
        names: Sequence[TrackerName | str] = (),
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        """Check the names; nothing is started or imported yet."""
        problems = tracker_problems(names)
        if problems:
            raise ConfigurationError(problems)
        self._names = tuple(dict.fromkeys(map(TrackerName, names)))
        self._settings = dict(settings or {})
        self._relays: list[_Relay] = []
        self._stack = ExitStack()
        self._plan: PrivacyPlan | None = None
        self._optim: Optim | None = None

    @property
    def names(self) -> tuple[TrackerName, ...]:
        """Which trackers there are."""
        return self._names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # trackers are not told why the run ends: an error may name a record
        self._stack.close()

    def start(self, folder: Path, plan: PrivacyPlan, optim: Optim | None) -> None:
        """Start every tracker and send the settings of the run.

        Args:
            folder: The run folder.
            plan: The plan of the run.
            optim: Settings that fix the learning rate of every step; None if something else does,
                and then none is sent.

        Raises:
            ConfigurationError: If a tracker cannot start, or others have been started here.

        Privacy:
            Before the first step; nothing that is sent depends on a record.
        """
        if self._plan is not None:
            raise ConfigurationError(
                "Expected trackers to be used for one run. The values of two would be mixed. Make "
                "another Tracking."
            )
        self._plan, self._optim = plan, optim
        if self._names:
            self._stack.enter_context(_state_of_accelerate())
        settings = {**run_settings(plan, optim), **self._settings}
        for name in self._names:
            self._begin(name, folder / "trackers", settings)

    def followed_by(self, observer: "Observer | None") -> "Observer | None":
        """Return an observer that tells the trackers of every step, then the given observer.

        Privacy:
            Hands on public numbers.
        """
        return _Observed(self.after_step, observer) if self._names else observer

    def after_step(self, progress: Progress) -> None:
        """Send where the run stands.

        Args:
            progress: After a step.

        Privacy:
            A function of the plan and the number of the step.
        """
        assert self._plan is not None, "started before the first step"
        self._send(step_values(self._plan, self._optim, progress), progress.step)

    def after_training(self, epsilon: float, delta: float) -> None:
        """Send what the run spent.

        Args:
            epsilon: That of its certificate.
            delta: At which.

        Privacy:
            Public numbers; an infinite epsilon is left out, the settings say NOT PRIVATE.
        """
        spent = {"epsilon": {"status": "public"}, "delta": {"status": "public"}}
        self._send_at_end(released_metrics({"epsilon": epsilon, "delta": delta}, spent))

    def after_evaluation(
        self, values: Mapping[str, float], status: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Send metrics that were released.

        Args:
            values: Metric by name.
            status: What each of them cost, as in metrics.json; others than public or noisy ones
                are left out.

        Privacy:
            What metrics.json publishes, and nothing else.
        """
        self._send_at_end(released_metrics(values, status))

    def _begin(self, name: TrackerName, folder: Path, settings: Mapping[str, Setting]) -> None:
        try:
            relay = _Relay(name.value, BACKENDS[name](folder))
            self._stack.callback(relay.finish)
            relay.start(settings)
        except Exception as error:
            raise ConfigurationError(
                f"Expected tracker={name.value} to start. It raised {type(error).__name__}: "
                f"{error}. A run that was to be tracked would not be. Mend it, or leave the "
                "tracker out."
            ) from error
        self._relays.append(relay)

    def _send_at_end(self, values: Mapping[str, float]) -> None:
        if self._plan is not None:
            self._send(values, self._plan.length.steps)

    def _send(self, values: Mapping[str, float], step: int) -> None:
        for relay in self._relays:
            relay.send(values, step)


@dataclasses.dataclass(frozen=True)
class _Observed:
    tell: Callable[[Progress], None]
    then: "Observer | None"

    def begin(self, standing: "Standing") -> None:
        if self.then is not None:
            self.then.begin(standing)

    def before_step(self) -> None:
        if self.then is not None:
            self.then.before_step()

    def after_step(self, progress: Progress) -> bool:
        self.tell(progress)
        return self.then is None or self.then.after_step(progress)


class _Relay:
    """A tracker that may fail once: the operator is told, and it gets nothing more."""

    def __init__(self, name: str, backend: Backend) -> None:
        self._name = name
        self._backend = backend
        self._is_on = False

    def start(self, settings: Mapping[str, Setting]) -> None:
        self._backend.start(settings)
        self._is_on = True

    def send(self, values: Mapping[str, float], step: int) -> None:
        if self._is_on:
            with self._guarded():
                self._backend.log(values, step)

    def finish(self) -> None:
        with self._guarded() if self._is_on else suppress(Exception):
            self._backend.finish()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            self._is_on = False
            said = "Tracker %s failed (%s) and is told nothing more. The run goes on."
            _LOG.warning(said, self._name, type(error).__name__)  # no text: paths, server, user


@contextmanager
def _state_of_accelerate() -> Iterator[None]:
    """Give accelerate the state that its trackers ask for, and take it back if it is ours.

    Left behind, it would tie a user's own Accelerator to the processor.
    """
    from accelerate.state import PartialState  # type: ignore[import-untyped]  # no stubs

    is_ours = not PartialState._shared_state  # noqa: SLF001 - accelerate asks in the same way
    if is_ours:
        PartialState(cpu=True)
    try:
        yield
    finally:
        if is_ours:
            PartialState._reset_state()  # noqa: SLF001 - as transformers does
