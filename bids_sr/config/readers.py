"""Conversion of option text to values, refusing invalid text with the valid forms."""

import argparse
import re
from pathlib import Path

from bids_sr.config.values import split_named

# sigma 1.5, read as mm or as 3.75 mm pixels, as full width at half maximum
_PAPER_SMOOTHING_MM = (3.5, 13.2)
_GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str) -> float:
    """Read a size of memory in GB.

    Examples are ``8``, ``8G``, ``1.5 GB``, ``512M`` and ``2000MiB``; a bare number is in GB.

    >>> gigabytes("512M")
    0.5

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    float
        Memory in GB, of 1024 MB each.

    Raises
    ------
    argparse.ArgumentTypeError
        The text is no size of memory.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a memory size; write it as 8, 8G or 512M"
        )
    return float(match[1]) * _GIGABYTES[match[2] or "g"]


def path(text: str) -> Path:
    """Read a path, refusing an empty one.

    An empty path, as from an unset shell variable, would mean the current directory.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    Path
        Path as it is written.

    Raises
    ------
    argparse.ArgumentTypeError
        The text is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def folder(text: str) -> str:
    """Read a folder, or a word such as ``auto``, as it is written.

    ``./auto`` is a folder and not the word.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    str
        Same text, not empty.
    """
    path(text)
    return text


def named_file(text: str) -> str:
    """Read ``NAME=FILE`` or ``NAME=DIR``; both are needed.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    str
        The same text, unchanged.

    Raises
    ------
    ArgumentTypeError
        The name or the file is missing.
    """
    name, where = split_named(text)
    if not name or not where.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no series; write it as NORDIC=PATH")
    return text


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    int
        Number from 0 up.

    Raises
    ------
    argparse.ArgumentTypeError
        The text is no whole number.
    """
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a run number; write it as 1 or run-1")
    return int(digits)


def _number(text: str, otherwise: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {otherwise}") from None


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    tuple[float, ...]
        One width, or two for ``paper`` (FWHM, mm).
    """
    return (
        _PAPER_SMOOTHING_MM
        if text == "paper"
        else (_number(text, "number of mm; give the FWHM, or paper"),)
    )


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off.

    Parameters
    ----------
    text : str
        Text of the option.

    Returns
    -------
    float | None
        Frequency (Hz); None for no filter.
    """
    return None if text == "none" else _number(text, "number of Hz; give a frequency, or none")
