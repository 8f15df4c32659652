"""Privacy accounting: mechanisms, accountants, calibration and certificates.

Imported as ``dpft.accounting``, although the folder stands at the top of the repository. It
imports no other folder of ours and never torch; everything of ours may import it. dp-accounting
takes a second to import and is therefore imported when an epsilon is first asked for.
"""

if __name__ == "accounting":  # the root of a checkout on sys.path shadows a foreign distribution
    raise ImportError(
        "Expected import=dpft.accounting instead of accounting. The folder is a part of dpft. "
        "Write 'import dpft.accounting'."
    )

from dpft.accounting.accountants import Accountant, epsilon
from dpft.accounting.calibration import (
    PrivacyTarget,
    calibrate,
    calibrate_batch_size,
    calibrate_noise_multiplier,
    calibrate_steps,
)
from dpft.accounting.certificate import Certificate, RunRecord
from dpft.accounting.errors import (
    AccountantError,
    BudgetError,
    ConfigurationError,
    DpftError,
    LedgerError,
)
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.mechanisms import Adjacency, PoissonGaussian, mechanism_from_json
from dpft.accounting.registry import accountant_names, register
from dpft.accounting.schedule import sample_rate_of, steps_from_epochs

__all__ = [
    "DEFAULT_GRID",
    "Accountant",
    "AccountantError",
    "Adjacency",
    "BudgetError",
    "Certificate",
    "ConfigurationError",
    "DpftError",
    "Grid",
    "LedgerError",
    "PoissonGaussian",
    "PrivacyTarget",
    "RunRecord",
    "accountant_names",
    "calibrate",
    "calibrate_batch_size",
    "calibrate_noise_multiplier",
    "calibrate_steps",
    "epsilon",
    "mechanism_from_json",
    "register",
    "sample_rate_of",
    "steps_from_epochs",
]
