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
from dpft.accounting.auditing.exposure import exposure_chance, secret_exposure
from dpft.accounting.auditing.final_sum import final_epsilon
from dpft.accounting.auditing.game import Game, Played
from dpft.accounting.auditing.membership import (
    Attacked,
    RatePoint,
    likelihood_scores,
    loss_scores,
    rates_above_limit,
    roc,
)
from dpft.accounting.auditing.one_run import one_run_ceiling, one_run_epsilon
from dpft.accounting.auditing.trade_off import gaussian_epsilon, rates_epsilon

__all__ = [
    "Attacked",
    "Finding",
    "Game",
    "Played",
    "RatePoint",
    "distribution",
    "exposure_chance",
    "final_epsilon",
    "gaussian_epsilon",
    "independence",
    "likelihood_scores",
    "loss_scores",
    "one_run_ceiling",
    "one_run_epsilon",
    "participation",
    "rates_above_limit",
    "rates_epsilon",
    "roc",
    "same_law",
    "secret_exposure",
    "share",
    "spread",
]
