"""Conversion of option text to values; invalid text is rejected with the valid forms."""

import argparse
import csv
import re
from itertools import chain
from pathlib import Path

# mm, possible full widths at half maximum of the filter in the paper, which states a sigma of 1.5
# without a unit: mm, or pixels of 3.75 mm
_PAPER_SMOOTHING_MM = (3.5, 13.2)
# prefix of a unit of memory → its size in GB
_GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}
_ID = "participant_id"  # column of the labels in a table of participants
_MAX_BARE_GB = 2000  # a larger number without a unit is probably in MB


class StoreMemory(argparse.Action):
    """Action that stores a memory size in GB; ``--mem-mb`` takes bare numbers as MB."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        unit = "m" if option_string == "--mem-mb" else "g"
        try:
            setattr(namespace, self.dest, parse_gigabytes(str(values), unit))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def parse_gigabytes(text: str, unit: str = "g") -> float:
    """Return a memory size in GB.

    Examples are ``8``, ``8G``, ``1.5 GB``, ``512M`` and ``2000MiB``. `unit` applies to numbers
    without a unit.

    >>> parse_gigabytes("512M"), parse_gigabytes("512", "m"), parse_gigabytes("8G", "m")
    (0.5, 0.5, 8.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a memory size. Specify for example 8, 8G or 512M."
        )
    size = float(match[1]) * _GIGABYTES[match[2] or unit]
    if size > _MAX_BARE_GB and not match[2]:
        raise argparse.ArgumentTypeError(
            f"{text} would be interpreted as {size:g} GB. Specify {text}M or {text}G instead."
        )
    return size


def parse_labels(text: str) -> tuple[str, ...]:
    """Return labels separated by commas or spaces, or read from ``@FILE``.

    In a table, such as ``participants.tsv``, the column participant_id is used. Other files are
    lists of labels; of columns separated by tabs, the first is used.

    >>> parse_labels("sub-01,sub-02"), parse_labels("01 02")
    (('sub-01', 'sub-02'), ('01', '02'))
    """
    content = _read_label_file(text[1:]) if text.startswith("@") else text
    names = re.findall(r"[^\s,]+", content)
    if not names:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not contain any labels. To process all participants, omit the option."
        )
    return tuple(names)


def _read_label_file(file: str) -> str:
    """Return the labels in a text file or table, separated by spaces."""
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
        rows = (
            [line.split("\t") for line in lines]
            if lines and "\t" in lines[0]
            else list(csv.reader(lines, strict=True))
        )
    except (OSError, csv.Error) as error:
        raise argparse.ArgumentTypeError(f"the file {file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"the file {file} is not encoded in UTF-8 ({error}). Save the file as UTF-8 text."
        ) from error
    columns = [cell.strip(' "') for cell in rows[0]] if rows else []
    if _ID not in columns:
        return " ".join(line.partition("\t")[0] for line in lines)
    column = columns.index(_ID)
    return " ".join(row[column].strip(' "') for row in rows[1:] if len(row) > column)


def parse_path(text: str) -> Path:
    """Return a path; an empty path is an error.

    An empty path, for example from an unset shell variable, would mean the current directory.
    """
    return Path(check_path(text))


def check_path(text: str) -> str:
    """Return the text of a path; an empty path is an error.

    Unlike a path, the text distinguishes the folder ``./auto`` from the word ``auto``.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path must not be empty")
    return text


def parse_run_number(text: str) -> int:
    """Return the number of a run, written as ``1``, ``01`` or ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a run number. Specify for example 1 or run-1."
        )
    return int(digits)


def parse_counts(text: str) -> tuple[int, ...]:
    """Return numbers that are separated by commas, such as ``40,11,10``."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers. Specify for example 40,11,10."
        ) from None


def parse_widths(text: str) -> tuple[float, ...]:
    """Return smoothing widths (mm FWHM); ``paper`` gives both possible widths."""
    if text == "paper":
        return _PAPER_SMOOTHING_MM
    return (_parse_number(text, "number of millimeters (FWHM) or the word paper"),)


class StoreWidths(argparse.Action):
    """Action that stores smoothing widths in ascending order, always with 0 (no smoothing)."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option_string: str | None = None,
    ) -> None:
        assert isinstance(values, list)  # of the results of `parse_widths`
        earlier_widths = getattr(namespace, self.dest, ())
        widths = {0.0, *earlier_widths, *chain.from_iterable(values)}
        setattr(namespace, self.dest, sorted(widths))


def parse_fraction(text: str) -> float:
    """Return a fraction, also written as ``start`` or ``middle``."""
    named_fractions = {"start": 0.0, "middle": 0.5}
    return (
        named_fractions[text]
        if text in named_fractions
        else _parse_number(text, "number, and is neither start nor middle")
    )


def parse_frequency(text: str) -> float | None:
    """Return a cutoff frequency in Hz; ``none`` switches the filter off."""
    return None if text == "none" else _parse_number(text, "frequency in Hz or the word none")


def _parse_number(text: str, expected: str) -> float:
    """Return a number, or raise `ArgumentTypeError` with a description of the valid forms."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {expected}") from None
