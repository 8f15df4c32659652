"""Task vectors: a symbolic linear form over deltas, and the certificate of what is in it."""

import dataclasses
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from dpft.accounting import Certificate, RunRecord
from dpft.adapters.algebra import BaseModel, Delta
from dpft.errors import ConfigurationError
from dpft.taskvectors import applying, multiplying
from dpft.taskvectors.bases import BaseIdentity, refuse_other_base
from dpft.taskvectors.certification import composed
from dpft.taskvectors.checks import refuse_unaddable
from dpft.taskvectors.coefficients import exact
from dpft.taskvectors.compression import Compression, compressed
from dpft.taskvectors.leaf import Leaf
from dpft.taskvectors.materialising import materialised
from dpft.taskvectors.reading import Reading, certified_leaf, leaf_of_adapter, leaf_of_folder
from dpft.taskvectors.stored_parts import Form
from dpft.taskvectors.storing import store
from dpft.taskvectors.streaming import difference
from dpft.taskvectors.terms import Term, collected

__all__ = ["TaskVector", "analogy", "derived"]

_AS_USUAL = Reading()


@dataclasses.dataclass(frozen=True)
class TaskVector:
    """A sum of deltas with coefficients: `a + b - 0.5 * c`.

    The arithmetic is symbolic: what cancels is gone from the tensors and from the certificate, so
    that (a + b) - b is a, bit for bit. Tensors are computed when the vector is used.

    Args:
        terms: Deltas with their coefficients, by id; made by the constructors and operators below.

    Privacy:
        A function of released weights, so nothing is spent by any of it. What is in the vector
        keeps its certificate: `certificate` is the union of the runs of all terms, whatever their
        signs and sizes (`tests/dpft/taskvectors/test_certification.py`).

    References:
        Ilharco et al. 2023 (2212.04089), section 2.
    """

    terms: tuple[Term, ...] = ()

    @classmethod
    def from_peft(
        cls,
        model: nn.Module,
        adapter_name: str = "default",
        *,
        certificate: Certificate | None = None,
        options: Reading = _AS_USUAL,
    ) -> "TaskVector":
        """Read an adapter of a model in memory.

        Args:
            model: A model with adapters of peft.
            adapter_name: Which of them.
            certificate: Its certificate; unset: that of the run of this process that trained it.
            options: Base model, recorded start, and what to do without a certificate.

        Returns:
            The vector, with copies of all tensors.

        Raises:
            ConfigurationError: If the adapter cannot be read exactly.
            BrokenGuaranteeError: If nobody knows its certificate.

        Privacy:
            Nothing, no data touched: released weights.
        """
        return cls._of(leaf_of_adapter(model, adapter_name, certificate, options))

    @classmethod
    def from_models(
        cls,
        base: nn.Module | Path | str,
        finetuned: nn.Module | Path | str,
        *,
        certificate: Certificate | None = None,
        options: Reading = _AS_USUAL,
    ) -> "TaskVector":
        """Take the difference of two models, one tensor at a time.

        Args:
            base: The model before, in memory or a folder.
            finetuned: The model after, likewise.
            certificate: That of the fine-tuned model.
            options: What to do without a certificate.

        Returns:
            The vector. Nothing is copied: both models are read again when it is used, and refused
            if they changed.

        Raises:
            ConfigurationError: If the models differ in names or shapes.
            BrokenGuaranteeError: If nobody knows the certificate.

        Privacy:
            Nothing, no data touched: weights.
        """
        delta, identity = difference(base, finetuned)
        return cls._of(certified_leaf(delta, certificate, identity, options))

    @classmethod
    def load(cls, folder: Path | str, *, options: Reading = _AS_USUAL) -> "TaskVector":
        """Read a folder of an adapter, of a run, or of a saved vector.

        Args:
            folder: The folder; its certificate must be that of its tensors.
            options: Base model, recorded start, and what to do without a certificate.

        Raises:
            ConfigurationError: If the adapter cannot be read exactly.
            BrokenGuaranteeError: If the certificate is missing or of other tensors.

        Privacy:
            Nothing, no data touched: released weights.
        """
        return cls._of(leaf_of_folder(Path(folder), options))

    @classmethod
    def _of(cls, leaf: Leaf) -> "TaskVector":
        return cls((Term(leaf, Fraction(1)),))

    @property
    def is_empty(self) -> bool:
        """Whether everything cancelled, or there never was anything."""
        return not self.terms

    @property
    def base(self) -> BaseIdentity | None:
        """The model that the vector belongs to; None for the empty one."""
        return self.terms[0].leaf.base if self.terms else None

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """Runs behind the vector; none for the empty one."""
        return self.certificate.runs if self.certificate else ()

    @cached_property
    def certificate(self) -> Certificate | None:
        """The union of the runs of all terms; None for the empty vector, made of no data.

        Privacy:
            Nothing, no data touched (`test_the_certificate_is_the_union_of_runs`).
        """
        return composed(leaf.certificate for leaf in self.leaves)

    @property
    def delta(self) -> Delta:
        """What the vector adds to the model, by place; parts are computed when asked for.

        Raises:
            ConfigurationError: If the vector is empty.

        Privacy:
            Nothing, no data touched: released weights.
        """
        return materialised(self.terms)

    @property
    def leaves(self) -> list[Leaf]:
        """The deltas that are left, by id."""
        return [term.leaf for term in self.terms]

    def __add__(self, other: object) -> "TaskVector":
        if isinstance(other, int) and other == 0:  # the start of sum()
            return self
        if not isinstance(other, TaskVector):
            return NotImplemented
        terms = collected([*self.terms, *other.terms])
        ours, theirs = self.leaves, other.leaves
        refuse_unaddable(ours, [leaf for leaf in theirs if leaf not in ours])
        return TaskVector(terms)

    __radd__ = __add__

    def __neg__(self) -> "TaskVector":
        return self * -1

    def __sub__(self, other: object) -> "TaskVector":
        return self + -other if isinstance(other, TaskVector) else NotImplemented

    def __mul__(self, number: object) -> "TaskVector":
        if isinstance(number, TaskVector):
            return NotImplemented
        factor = exact(number)
        return TaskVector(
            collected(Term(term.leaf, factor * term.coefficient) for term in self.terms)
        )

    __rmul__ = __mul__

    def compose(self, other: "TaskVector", *, power: float = 1.0) -> "TaskVector":
        """Apply one (IA)³ after another: the product of their factors.

        Args:
            other: Another vector of the kind.
            power: To which its factors are raised; -1 undoes it.

        Returns:
            A new vector. Unlike `+`, this is not symbolic.

        Raises:
            ConfigurationError: If the kind has no product, or a factor is not positive.

        Privacy:
            Post-processing: the runs of both.
        """
        _refuse_empty(self, other)
        refuse_unaddable(self.leaves, [leaf for leaf in other.leaves if leaf not in self.leaves])
        made = multiplying.product(self.delta, other.delta, power)
        return derived([self, other], made, {"method": "compose", "power": power})

    def compress(self, rank: int | None = None, *, tol: float | None = None) -> Compression:
        """Lower the rank of every matrix, and report the exact error of each.

        Args:
            rank: Rank of every matrix whose own is larger.
            tol: Instead of it, the relative Frobenius error allowed for each matrix, in [0, 1).

        Returns:
            The new vector with its errors.

        Raises:
            ConfigurationError: If not exactly one of both is given and in range, or the rank is
                larger than that of any matrix.

        Privacy:
            Post-processing: the same runs.
        """
        delta, errors, error = compressed(self.delta, rank, tol)
        history = {"method": "compress", "rank": rank, "tol": tol, "error": error}
        return Compression(derived([self], delta, history), errors, error)

    def with_release(self, run: RunRecord) -> "TaskVector":
        """Return the vector after one more release that it depends on, as a choice made on records.

        Args:
            run: The release.

        Returns:
            A new vector of the same tensors.

        Raises:
            ConfigurationError: If the vector is empty, or the run's name stands for another run.

        Privacy:
            The runs of the vector and this one (`test_a_private_method_is_charged_and_certified`).
        """
        _refuse_empty(self)
        assert self.certificate is not None
        leaf = Leaf.of(self.delta, self.certificate.with_release(run), self.leaves[0].base)
        return TaskVector._of(dataclasses.replace(leaf, history={"method": "with_release"}))

    def without_heads(self) -> "TaskVector":
        """Return the vector without heads and other modules that were trained whole.

        Returns:
            A new vector; the same one if it has none.

        Privacy:
            Post-processing: the same runs.
        """
        if self.is_empty or not self.delta.heads:
            return self
        terms = []
        for term in self.terms:
            leaf = term.leaf
            if leaf.delta.heads:
                made = Leaf.of(_headless(leaf.delta), leaf.certificate, leaf.base)
                leaf = dataclasses.replace(made, history={"method": "without_heads"})
            terms.append(Term(leaf, term.coefficient))
        return TaskVector(collected(terms))

    def apply_to(self, model: nn.Module, scaling_coef: float = 1.0) -> nn.Module:
        """Return a copy of the base model with the vector in it.

        Args:
            model: The base model without adapters; it stays as it is.
            scaling_coef: What to multiply the vector with.

        Returns:
            The copy; with an adapter where the kind is no change of weights.

        Raises:
            ConfigurationError: If it is not the model that the vector was made on, or the vector
                is empty.

        Privacy:
            Nothing, no data touched. The copy owes what `certificate` says.
        """
        scaled = self * scaling_coef
        _refuse_other_model(scaled.base, model)
        return applying.applied(scaled.delta, model)

    def to_peft(self, model: nn.Module, adapter_name: str = "default") -> Any:
        """Put the vector into its base model as an adapter of peft.

        Args:
            model: The base model, changed in place as peft does.
            adapter_name: A new name.

        Returns:
            The model with the adapter, active and not trainable.

        Raises:
            ConfigurationError: If it is not the model that the vector was made on, or no adapter
                of peft holds the vector.

        Privacy:
            Nothing, no data touched. The model owes what `certificate` says.
        """
        _refuse_other_model(self.base, model)
        return applying.as_adapter(self.delta, model, adapter_name)

    def save(self, folder: Path | str, *, form: Form | str = Form.PEFT) -> None:
        """Write tensors, certificate and expression into a new folder.

        Args:
            folder: A new folder.
            form: "peft": an adapter that peft loads; "delta": the parts as they are.

        Raises:
            ConfigurationError: If the folder exists, the vector is empty, or no adapter of peft
                holds it.

        Privacy:
            Released weights and public numbers (`test_what_was_saved_verifies`).
        """
        _refuse_empty(self)
        assert self.certificate is not None
        store(self.terms, self.certificate, Path(folder), Form(form))


def analogy(a: TaskVector, b: TaskVector, c: TaskVector) -> TaskVector:
    """Return c + (b - a): a is to b as c is to the result.

    Args:
        a: A vector.
        b: Another one.
        c: A third one.

    Privacy:
        The runs of all three that are left after cancelling.

    References:
        Ilharco et al. 2023 (2212.04089), section 5.
    """
    return c + (b - a)


def derived(
    vectors: Iterable[TaskVector], delta: Delta, history: Mapping[str, object]
) -> TaskVector:
    """Return the vector of a delta that was computed from others in some way.

    Args:
        vectors: What it was computed from, at least one that is not empty.
        delta: The result.
        history: How, in public words and numbers.

    Privacy:
        Post-processing: the union of all runs (`test_what_is_computed_keeps_all_runs`).
    """
    leaves = [leaf for vector in vectors for leaf in vector.leaves]
    certificate = composed(leaf.certificate for leaf in leaves)
    assert certificate is not None, "there is at least one term"
    of = {"of": sorted({leaf.id for leaf in leaves})}
    leaf = Leaf.of(delta, certificate, leaves[0].base)
    return TaskVector((Term(dataclasses.replace(leaf, history={**history, **of}), Fraction(1)),))


def _headless(delta: Delta) -> Delta:
    parts = {place: delta.parts[place] for place in delta.parts if place not in delta.heads}
    return dataclasses.replace(delta, parts=parts, heads=frozenset())


def _refuse_other_model(base: BaseIdentity | None, model: nn.Module) -> None:
    if base is None:
        raise ConfigurationError(_EMPTY)
    given = BaseModel(model)
    refuse_other_base(BaseIdentity(given.name, given.digest), base)


def _refuse_empty(*vectors: TaskVector) -> None:
    if any(vector.is_empty for vector in vectors):
        raise ConfigurationError(_EMPTY)


_EMPTY = (
    "Expected at least one term. The empty vector changes nothing and has no kind. Use the base "
    "model as it is."
)
