"""Decorator of immutable dataclasses with named fields."""

from dataclasses import dataclass, field, fields
from inspect import cleandoc, formatannotation
from typing import Any, TypeVar, cast, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass with keyword-only fields.

    There are no slots, so that a record can extend several others.

    The ``doc`` entries of the fields' metadata are added to the parameters in the docstring.

    >>> @frozen
    ... class Pose:
    ...     shift_mm: float
    ...     turn_deg: float = 0.0
    >>> Pose(shift_mm=1.0)
    Pose(shift_mm=1.0, turn_deg=0.0)
    """
    frozen_class = dataclass(frozen=True, kw_only=True)(cls)
    entries = [
        f"{class_field.name} : {formatannotation(class_field.type)}\n   "
        f" {class_field.metadata['doc']}"
        for class_field in fields(cast(Any, frozen_class))
        if "doc" in class_field.metadata
    ]
    if entries:
        title = "\n\nParameters\n----------"
        frozen_class.__doc__ = "\n".join((cleandoc(frozen_class.__doc__ or "") + title, *entries))
    return frozen_class
