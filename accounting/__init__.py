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
from dpft.accounting.dataset_use import DatasetUse, Partition
from dpft.accounting.errors import (
    AccountantError,
    BudgetError,
    ConfigurationError,
    DpftError,
    LedgerError,
)
from dpft.accounting.grid import DEFAULT_GRID, Grid
from dpft.accounting.inputs import Input, InputRole, InputStatus
from dpft.accounting.mechanisms import (
    Adjacency,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    FixedBatchGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    Opaque,
    PoissonGaussian,
    RepeatAndSelect,
    Selection,
    TruncatedPoissonGaussian,
    Unit,
    UserPoissonGaussian,
    first_steps,
    mechanism_from_json,
    steps_of,
    unit_of,
)
from dpft.accounting.profile import attack_tpr, curve, delta_of, gdp_mu, numerical_error
from dpft.accounting.publication import Publication
from dpft.accounting.registry import accountant_names, register
from dpft.accounting.run_record import LedgerReference, SelectionStatus
from dpft.accounting.schedule import sample_rate_of, steps_from_epochs

__all__ = [
    "DEFAULT_GRID",
    "Accountant",
    "AccountantError",
    "Adjacency",
    "BudgetError",
    "Certificate",
    "Composed",
    "ConfigurationError",
    "DatasetUse",
    "DiscreteGaussian",
    "DiscreteLaplace",
    "DpftError",
    "FixedBatchGaussian",
    "Gaussian",
    "Grid",
    "Input",
    "InputRole",
    "InputStatus",
    "Laplace",
    "LedgerError",
    "LedgerReference",
    "Mechanism",
    "Opaque",
    "Partition",
    "PoissonGaussian",
    "PrivacyTarget",
    "Publication",
    "RepeatAndSelect",
    "RunRecord",
    "Selection",
    "SelectionStatus",
    "TruncatedPoissonGaussian",
    "Unit",
    "UserPoissonGaussian",
    "accountant_names",
    "attack_tpr",
    "calibrate",
    "calibrate_batch_size",
    "calibrate_noise_multiplier",
    "calibrate_steps",
    "curve",
    "delta_of",
    "epsilon",
    "first_steps",
    "gdp_mu",
    "mechanism_from_json",
    "numerical_error",
    "register",
    "sample_rate_of",
    "steps_from_epochs",
    "steps_of",
    "unit_of",
]
