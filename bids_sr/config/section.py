"""Options of all commands as fields: default, flags, help, effect on results, and check.

The effect states whether the field decides the results.
"""

import operator
from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any, TypeVar, get_type_hints

from bids_sr.config.values import SettingError, as_annotated
from bids_sr.frozen import frozen

_T = TypeVar("_T")


@frozen
class _Option:
    """What is known of a setting besides its default and its type."""

    # with the name of the value, as they stand in the help; the name alone is a positional
    # argument; none: no option fills it
    flags: str = ""
    help: str = ""
    common: bool = False  # whether --help shows it; --help-all shows all
    decides: bool = True  # whether a result depends on it
    # whether it belongs to one call, and is not taken from an older settings file
    once: bool = False
    # the heading under which it stands in the help, where that is not its group's
    among: str = ""
    # bounds of a number, or of each of several
    above: float | None = None
    least: float | None = None
    most: float | None = None
    # to `argparse`, beyond what the type of the setting tells
    how: Mapping[str, object] = field(default_factory=dict)


def _documented(help: str) -> dict[str, object]:
    """The metadata by which a help text stands in the docstring of its class."""
    return {"doc": f"{help[0].upper()}{help[1:]}."} if help else {}


def option(
    default: _T,
    flags: str = "",
    help: str = "",
    *,
    common: bool = False,
    decides: bool = True,
    once: bool = False,
    among: str = "",
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    **how: object,
) -> _T:
    """A field of a group of settings: its default, and what `_Option` says of it.

    Parameters
    ----------
    default : T
        Value where the user gives none.
    flags : str, optional
        Flags with the name of the value; empty for no option.
    help : str, optional
        Text of the help for the option.
    common : bool, optional
        Whether ``--help`` shows it, and not ``--help-all`` alone.
    decides : bool, optional
        Whether a result depends on it.
    once : bool, optional
        Whether it is of one call, and never taken from older settings.
    among : str, optional
        Group of options it stands with in the help; empty for its own.
    above : float | None, optional
        Bound that a number has to exceed; None for none.
    least : float | None, optional
        Smallest number that is allowed; None for any.
    most : float | None, optional
        Largest number that is allowed; None for any.
    **how : object
        Further arguments for the option's declaration in argparse.

    Returns
    -------
    T
        Field of a dataclass, with all this in its metadata.
    """
    metadata = _Option(
        flags=flags,
        help=help,
        common=common,
        decides=decides,
        once=once,
        among=among,
        above=above,
        least=least,
        most=most,
        how=how,
    )
    return field(default=default, metadata={"option": metadata} | _documented(help))


def argument(flags: str, help: str, **how: object) -> Any:
    """A field without a default: a positional argument, or an option that has to be given."""
    return field(
        metadata={"option": _Option(flags=flags, help=help, decides=False, once=True, how=how)}
        | _documented(help)
    )


def option_of(item: "Field[Any]") -> _Option:
    """What `option` said of a field."""
    found: _Option = item.metadata["option"]
    return found


class Checked:
    """Base class of options, which converts values to their annotated types and checks them."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            self._set(name, as_annotated(getattr(self, name), hint, self._where(name)))
        for item in fields(self):  # type: ignore[arg-type]  # all are dataclasses
            if "option" in item.metadata:
                self._check_bounds(item.name, option_of(item))
        self._check()

    def _where(self, name: str) -> str:
        """A setting as messages name it."""
        return f"{type(self).__name__.lower()}.{name}"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # only while the object is being made

    def _check(self) -> None:
        """Refuse values that have the right type and still cannot hold."""

    def _need(self, holds: bool, name: str, why: str) -> None:
        if not holds:
            value = getattr(self, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            known = option_of(next(item for item in fields(self) if item.name == name))  # type: ignore[arg-type]
            fix = "change that value"
            if known.flags:
                fix = (
                    f"change the value. {known.flags} accepts: {known.help}. See also bids-sr"
                    " --help-all"
                )
            raise SettingError(self._where(name), shown, why, fix)

    def _check_bounds(self, name: str, known: _Option) -> None:
        value = getattr(self, name)
        numbers = value if isinstance(value, tuple) else (value,)
        for word, bound, holds in (
            ("a value above", known.above, operator.gt),
            ("at least", known.least, operator.ge),
            ("at most", known.most, operator.le),
        ):
            if bound is not None and value is not None:
                within = all(holds(number, bound) for number in numbers)
                self._need(within, name, f"expected {word} {bound}")

    def _each_once(self, *names: str) -> None:
        for name in names:
            self._set(name, tuple(dict.fromkeys(getattr(self, name))))


def is_label(text: str) -> bool:
    """Whether a text is a label of BIDS: letters, digits and ``+``.

    False also for an empty text.
    """
    return text.isascii() and text.replace("+", "0").isalnum()
