"""Statistics of an audit: what observations say of a claimed guarantee. No torch, no data."""

from dpft.accounting.auditing.conformity import (
    Finding,
    distribution,
    independence,
    participation,
    same_law,
    share,
    spread,
)
from dpft.accounting.auditing.game import Game, Played
from dpft.accounting.auditing.one_run import one_run_ceiling, one_run_epsilon
from dpft.accounting.auditing.trade_off import gaussian_epsilon, rates_epsilon

__all__ = [
    "Finding",
    "Game",
    "Played",
    "distribution",
    "gaussian_epsilon",
    "independence",
    "one_run_ceiling",
    "one_run_epsilon",
    "participation",
    "rates_epsilon",
    "same_law",
    "share",
    "spread",
]
