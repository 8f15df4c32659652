"""Task vectors: arithmetic on what fine-tuning added to a model, with certificates that compose.

What a delta means for each kind of adapter stands in `dpft.adapters.algebra`, how runs compose in
`dpft.accounting`; here they are joined. Imports torch and peft.
"""

from dpft.taskvectors.certification import Uncertified
from dpft.taskvectors.compression import Compression
from dpft.taskvectors.merging import (
    DataAccess,
    MergeOptions,
    Private,
    PrivateForm,
    Public,
    merge,
    merge_method,
)
from dpft.taskvectors.mixing import mixture
from dpft.taskvectors.reading import Reading
from dpft.taskvectors.stored_parts import Form
from dpft.taskvectors.vector import TaskVector, analogy

__all__ = [
    "Compression",
    "DataAccess",
    "Form",
    "MergeOptions",
    "Private",
    "PrivateForm",
    "Public",
    "Reading",
    "TaskVector",
    "Uncertified",
    "analogy",
    "merge",
    "merge_method",
    "mixture",
]
