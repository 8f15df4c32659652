"""What the tests of the ledger share: a ledger in a fresh folder, runs, and records."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpft.accounting import PoissonGaussian
from dpft.accounting.ledger import DigestKey, Ledger, RecordDigests, Reservation, Use

KEY = DigestKey(b"k" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dpft-ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


@pytest.fixture
def gaussian() -> Callable[..., PoissonGaussian]:
    """Make a mechanism of full batches, whose cost has a closed form: (noise, steps)."""

    def make(noise_multiplier: float = 10.0, steps: int = 10) -> PoissonGaussian:
        return PoissonGaussian(noise_multiplier, 1.0, steps)

    return make


@pytest.fixture
def digests() -> Callable[..., RecordDigests]:
    """Digest texts under one key for all: (*texts) -> digests."""

    def make(*texts: str) -> RecordDigests:
        return KEY.digests({"text": text} for text in texts)

    return make


@pytest.fixture
def plan(gaussian: Callable[..., PoissonGaussian]) -> Callable[..., Reservation]:
    """Plan a run: (run_id, dataset, records, noise_multiplier, steps, stop_rule)."""

    def make(
        run_id: str,
        dataset: str = "mail",
        records: RecordDigests | None = None,
        noise_multiplier: float = 10.0,
        steps: int = 10,
        stop_rule: str | None = None,
    ) -> Reservation:
        mechanism = gaussian(noise_multiplier, steps)
        use = Use(dataset=dataset, mechanism=mechanism, records=records)
        return Reservation(run_id=run_id, uses=(use,), steps=steps, stop_rule=stop_rule)

    return make
