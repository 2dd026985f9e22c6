"""Declarations of all figures that workflows draw, for pages and documentation."""

from importlib import import_module
from pkgutil import iter_modules

from bids_sr.group.combination.steps import figures as combination_figures
from bids_sr.report import figure_steps
from bids_sr.report.figure_step import FigureStep
from bids_sr.report.sections import FigureSpec
from bids_sr.structural.steps import figures as structural_figures


def figure_declarations() -> list[FigureSpec]:
    """Return the declarations of all figures, in the order of their modules and lines."""
    names = sorted(module.name for module in iter_modules(figure_steps.__path__))
    modules = [import_module(f"{figure_steps.__name__}.{name}") for name in names]
    modules += [combination_figures, structural_figures]
    members = (member for module in modules for member in vars(module).values())
    # a dictionary keeps one entry per figure, in order
    steps = dict.fromkeys(member for member in members if isinstance(member, FigureStep))
    return [spec for figure_step in steps for spec in figure_step.declarations]
