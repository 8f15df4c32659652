"""Ways to make one vector of several, one file each, registered with the data that they look at.

Methods that look at tensors alone are post-processing and keep the certificate. Those that look at
records have to be told whose they are. `normalize` is off everywhere, and a negative weight means
negation.
"""

from dpft.taskvectors.merging.data import Private, Public
from dpft.taskvectors.merging.merge import merge
from dpft.taskvectors.merging.options import MergeOptions
from dpft.taskvectors.merging.registry import (
    DataAccess,
    PrivateForm,
    merge_method,
    merge_method_names,
)

__all__ = [
    "DataAccess",
    "MergeOptions",
    "Private",
    "PrivateForm",
    "Public",
    "merge",
    "merge_method",
    "merge_method_names",
]
