"""Options of all commands, as fields of frozen dataclasses that convert and check their values."""

import operator
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields
from functools import partial
from typing import Any, TypeVar, get_type_hints

from bids_sr.config.values import SettingError, as_annotated
from bids_sr.io.frozen import frozen

WHICH_DATA, HOW_IT_RUNS = "which data", "how it runs"
"""Headings of help sections that contain options of several groups."""
_T = TypeVar("_T")


@frozen
class _Option:
    """Properties of a setting other than its default and type, as described in `option`.

    `flags` without a dash are the name of a positional argument. Bounds of a tuple apply to all of
    its numbers.
    """

    flags: str = ""
    help: str = ""
    common: str = ""
    affects_results: bool = True
    per_call: bool = False
    command_line_only: bool = False
    is_internal: bool = False
    among: str = ""
    above: float | None = None
    least: float | None = None
    most: float | None = None
    parser_settings: Mapping[str, object] = field(default_factory=dict)


def option(
    default: _T,
    flags: str = "",
    help: str = "",
    *,
    common: str = "",
    affects_results: bool = True,
    per_call: bool = False,
    command_line_only: bool = False,
    is_internal: bool = False,
    among: str = "",
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    **parser_settings: object,
) -> _T:
    """Return a field of a group of settings, with its option.

    Parameters
    ----------
    default : T
        Default value.
    flags : str, optional
        Flags with the name of the value; "" if the option of ``bids-sr`` has no flag and is set
        by ``--set``.
    help : str, optional
        Help text of the option.
    common : str, optional
        Short help text for ``--help``; "" for options that only ``--help-all`` lists.
    affects_results : bool, optional
        Whether a result depends on the option.
    per_call : bool, optional
        Whether the option applies to a single call and is never read from earlier settings.
    command_line_only : bool, optional
        Whether the option is neither recorded nor read from settings files, which may be from
        others, because it runs commands or writes outside the directories of the call.
    is_internal : bool, optional
        Whether the program determines the value, so that neither a flag nor ``--set`` exists.
    among : str, optional
        Group of options in the help; "" for the group of the setting.
    above : float | None, optional
        Lower bound that a number must exceed; None if unbounded.
    least : float | None, optional
        Smallest valid number; None if unbounded.
    most : float | None, optional
        Largest valid number; None if unbounded.
    **parser_settings : object
        Further arguments for the option's declaration in argparse.

    Returns
    -------
    T
        Field of a dataclass with these properties in its metadata.
    """
    properties = _Option(
        flags=flags,
        help=help,
        common=common,
        affects_results=affects_results,
        per_call=per_call,
        command_line_only=command_line_only,
        is_internal=is_internal,
        among=among,
        above=above,
        least=least,
        most=most,
        parser_settings=parser_settings,
    )
    # a help text is added to the docstring of the class
    document = {"doc": f"{help[0].upper()}{help[1:]}."} if help else {}
    return field(default=default, metadata={"option": properties, **document})


execution_option = partial(option, affects_results=False)
"""Option that no result depends on; see `option`."""


def argument(flags: str, help: str, **parser_settings: Any) -> Any:
    """Return a field without a default: a positional argument or a required option."""
    return option(MISSING, flags, help, affects_results=False, per_call=True, **parser_settings)


class OptionSection:
    """Base class of options that converts values to their annotated types and checks them."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            self._set(name, as_annotated(getattr(self, name), hint, self._where(name)))
        for item in fields(self):  # type: ignore[arg-type]  # all are dataclasses
            if "option" in item.metadata:
                self._check_bounds(item.name, get_option(item))
        self._check()

    def _check_bounds(self, name: str, properties: _Option) -> None:
        """Raise `SettingError` if a number is out of bounds."""
        value = getattr(self, name)
        if value is None:
            return
        numbers = value if isinstance(value, tuple) else (value,)
        for relation, bound, is_within in (
            ("a value above", properties.above, operator.gt),
            ("at least", properties.least, operator.ge),
            ("at most", properties.most, operator.le),
        ):
            if bound is not None:
                are_within = all(is_within(number, bound) for number in numbers)
                self._need(are_within, name, f"expected {relation} {bound}")

    def _need(self, condition: bool, name: str, reason: str) -> None:
        """Raise `SettingError` for a setting unless a condition holds."""
        if not condition:
            value = getattr(self, name)
            text = " ".join(map(str, value)) if isinstance(value, tuple) else value
            properties = get_option(next(item for item in fields(self) if item.name == name))  # type: ignore[arg-type]
            fix = f"change the value. Description: {properties.help}"
            raise SettingError(self._where(name), text, reason, fix)

    def _where(self, name: str) -> str:
        """Return the name of a setting in messages."""
        return f"{type(self).__name__.lower()}.{name}"

    def _check(self) -> None:
        """Raise `SettingError` for invalid values of the right type; subclasses override it."""

    def _remove_duplicates(self, *names: str) -> None:
        """Remove duplicates from settings with several values."""
        for name in names:
            self._set(name, tuple(dict.fromkeys(getattr(self, name))))

    def _set(self, name: str, value: object) -> None:
        """Set a field of the frozen object, during initialization only."""
        object.__setattr__(self, name, value)


def get_option(item: "Field[Any]") -> _Option:
    """Return the properties with which a field was declared as an option."""
    properties: _Option = item.metadata["option"]
    return properties


def is_label(text: str) -> bool:
    """Return whether a text is a BIDS label: letters, digits and ``+``, at least one of them."""
    return text.isascii() and text.replace("+", "0").isalnum()
