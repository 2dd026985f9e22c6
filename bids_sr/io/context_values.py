"""Values of context variables within a ``with`` statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def set_value(variable: ContextVar[_T], value: _T) -> Iterator[None]:
    """Set a context variable within the context, and restore its earlier value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
