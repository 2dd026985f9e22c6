"""Figures of the report, a function each; see `bids_sr.pipeline.step`."""

from importlib import import_module
from pkgutil import iter_modules

from bids_sr.pipeline.figure import FigureStep
from bids_sr.report.sections import Shown


def declared() -> list[Shown]:
    """Return declarations of all figures, in the order of their modules and lines."""
    modules = sorted(each.name for each in iter_modules(__path__, f"{__name__}."))
    found = (value for name in modules for value in vars(import_module(name)).values())
    steps = dict.fromkeys(each for each in found if isinstance(each, FigureStep))
    return [shown for each in steps for shown in each.shown]
