"""Conversion of option text to values, refusing invalid text with the valid forms."""

import argparse
import re
from pathlib import Path

from bids_sr.config.values import split_named

# sigma 1.5, read as mm or as 3.75 mm pixels, as full width at half maximum
_PAPER_SMOOTHING_MM = (3.5, 13.2)
_GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str, unit: str = "g") -> float:
    """Read a size of memory in GB.

    Examples are ``8``, ``8G``, ``1.5 GB``, ``512M`` and ``2000MiB``.

    >>> gigabytes("512M"), gigabytes("512", "m"), gigabytes("8G", "m")
    (0.5, 0.5, 8.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a memory size. Specify for example 8, 8G or 512M."
        )
    size = float(match[1]) * _GIGABYTES[match[2] or unit]
    if size > 2000 and not match[2]:  # such a number is one of MB
        raise argparse.ArgumentTypeError(
            f"{text} would be interpreted as {size:g} GB. Specify {text}M or {text}G instead."
        )
    return size


class Memory(argparse.Action):
    """Store a size of memory in GB; the option's name tells the unit of a bare number."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        unit = "m" if option_string == "--mem-mb" else "g"
        try:
            setattr(namespace, self.dest, gigabytes(str(values), unit))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def labels(text: str) -> tuple[str, ...]:
    """Read labels that are separated by commas or spaces; ``@FILE`` is read from a file.

    Of a table, such as ``participants.tsv``, the first column counts.

    >>> labels("sub-01,sub-02"), labels("01 02")
    (('sub-01', 'sub-02'), ('01', '02'))
    """
    listed = text
    if text.startswith("@"):
        try:
            table = Path(text[1:]).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(
                f"the file {text[1:]} cannot be read: {error}"
            ) from error
        mark = "," if table.startswith("participant_id,") else "\t"
        listed = " ".join(line.partition(mark)[0] for line in table.splitlines())
    found = re.findall(r"[^\s,]+", listed.removeprefix("participant_id"))
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not contain any labels. To process all participants, omit the option."
        )
    return tuple(found)


def path(text: str) -> Path:
    """Read a path, refusing an empty one.

    An empty path, as from an unset shell variable, would mean the current directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path must not be empty")
    return Path(text)


def folder(text: str) -> str:
    """Read a folder, or a word such as ``auto``, as it is written.

    ``./auto`` is a folder and not the word.

    Same text, not empty.
    """
    path(text)
    return text


def named_file(text: str) -> str:
    """Read ``NAME=FILE`` or ``NAME=DIR``; both are needed."""
    name, where = split_named(text)
    if not name or not where.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} does not have the form NAME=PATH, such as NORDIC=PATH"
        )
    return text


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a run number. Specify for example 1 or run-1."
        )
    return int(digits)


def _number(text: str, otherwise: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {otherwise}") from None


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma."""
    return (
        _PAPER_SMOOTHING_MM
        if text == "paper"
        else (_number(text, "number of millimeters (FWHM) or the word paper"),)
    )


def fraction(text: str) -> float:
    """Read a fraction, or ``start`` or ``middle``."""
    words = {"start": 0.0, "middle": 0.5}
    return (
        words[text] if text in words else _number(text, "number, and is neither start nor middle")
    )


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off."""
    return None if text == "none" else _number(text, "frequency in Hz or the word none")
