"""What a saved vector was made of: `expression.json`, the linear form in public words and numbers.

It holds no privacy statement: that stands in `certificate.json` beside it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpft.accounting.bounded_files import bounded_text
from dpft.accounting.canonical_json import exactly, parsed
from dpft.adapters.algebra import Delta, Family, Part
from dpft.errors import ConfigurationError
from dpft.taskvectors.bases import BaseIdentity
from dpft.taskvectors.stored_parts import Form, layouts_of
from dpft.taskvectors.terms import Term

__all__ = ["EXPRESSION", "Expression"]

EXPRESSION = "expression.json"
_FORMAT = "dpft-task-vector/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expression:
    """The linear form behind saved tensors.

    Args:
        form: How the tensors are stored.
        family: Kind of adapter.
        base: The model that they belong to.
        heads: Places of heads.
        settings: Settings of the kind.
        labels: Digest of the labels, or None.
        task_type: As peft has it, or None.
        layouts: Of the own form: kind and layout of the part at each place.
        terms: Leaves by id, with coefficients as fractions, run ids and history.
        made_by: What was done beside adding up: method, parameters, seed, error of compression.

    Privacy:
        Nothing, no data touched: public numbers, and digests of released tensors.
    """

    form: Form
    family: Family
    base: BaseIdentity
    heads: tuple[str, ...]
    settings: Mapping[str, str]
    labels: str | None
    task_type: str | None
    layouts: Mapping[str, str]
    terms: Sequence[Mapping[str, object]]
    made_by: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        terms: Sequence[Term],
        delta: Delta,
        form: Form,
        made_by: Mapping[str, object],
    ) -> "Expression":
        """Describe a linear form.

        Args:
            terms: At least one.
            delta: What is stored.
            form: How it is stored.
            made_by: What was done beside adding up, in public words and numbers.

        Privacy:
            Nothing, no data touched.
        """
        return cls(
            form=form,
            family=delta.family,
            base=terms[0].leaf.base.published(),
            heads=tuple(sorted(delta.heads)),
            settings=dict(delta.settings),
            labels=delta.labels,
            task_type=None if delta.task_type is None else str(delta.task_type),
            layouts=layouts_of(delta) if form is Form.DELTA else {},
            terms=[_described(term) for term in terms],
            made_by=dict(made_by),
        )

    def shell(self, parts: Mapping[str, Part]) -> Delta:
        """Return the delta of parts that were stored in the own form.

        Args:
            parts: By place.

        Privacy:
            Nothing, no data touched.
        """
        return Delta(
            family=self.family,
            parts=parts,
            heads=frozenset(self.heads),
            settings=self.settings,
            labels=self.labels,
            task_type=self.task_type,
        )

    def write(self, folder: Path) -> None:
        """Write `expression.json` into a folder.

        Args:
            folder: The folder.

        Privacy:
            Nothing, no data touched.
        """
        fields = dataclasses.asdict(self) | {"format": _FORMAT}
        text = json.dumps(fields, indent=1, sort_keys=True) + "\n"
        (folder / EXPRESSION).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Expression | None":
        """Read `expression.json`, None where there is none.

        Args:
            folder: The folder.

        Raises:
            ConfigurationError: If the file is damaged.

        Privacy:
            Nothing, no data touched.
        """
        path = folder / EXPRESSION
        if not path.is_file():
            return None
        names = [field.name for field in dataclasses.fields(cls)]
        fields = parsed("expression", bounded_text(path))
        values = exactly("expression", fields, [*names, "format"])
        del values["format"]
        base = exactly("base", values["base"], ["name", "digest"])
        try:
            _refuse_ill_typed(values | {f"base.{name}": each for name, each in base.items()})
            values["form"], values["family"] = Form(values["form"]), Family(values["family"])
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"Expected {path} to describe a vector ({error}). What the tensors mean would not "
                "be known. Take the folder as it was saved."
            ) from error
        values["base"], values["heads"] = BaseIdentity(**base), tuple(values["heads"])
        return cls(**values)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "base.digest": (str, type(None)),
    "base.name": (str,),
    "heads": (list,),
    "labels": (str, type(None)),
    "layouts": (dict,),
    "settings": (dict,),
    "task_type": (str, type(None)),
    "terms": (list,),
}


def _refuse_ill_typed(values: Mapping[str, object]) -> None:
    for name, types in _TYPES.items():
        if not isinstance(values[name], types):
            raise TypeError(f"{name}={values[name]!r}")


def _described(term: Term) -> dict[str, object]:
    return {
        "leaf": term.leaf.id,
        "coefficient": str(term.coefficient),
        "runs": sorted(term.leaf.run_ids),
        "history": dict(term.leaf.history),
    }
