"""The values of this program: dataclasses that nobody changes, with named fields."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A class as a dataclass of values: frozen, its fields given by keyword, with slots.

    Examples
    --------
    >>> @frozen
    ... class Pose:
    ...     shift_mm: float
    ...     turn_deg: float = 0.0
    >>> Pose(shift_mm=1.0)
    Pose(shift_mm=1.0, turn_deg=0.0)
    """
    return dataclass(frozen=True, kw_only=True, slots=True)(cls)
