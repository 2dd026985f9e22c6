"""Figures of the report, one function each; see `bids_sr.report.figure_step`.

A function declares name, section, title and caption of its figures. Longer drawings are in
`bids_sr.report.figures`; figures of wings are in their wings.
"""

from importlib import import_module
from pkgutil import iter_modules

from bids_sr.report.figure_step import FigureStep
from bids_sr.report.sections import FigureSpec


def figure_declarations() -> list[FigureSpec]:
    """Return the declarations of all figures, in the order of their modules and lines."""
    from bids_sr.group.combination import COMBINATION_FIGURES
    from bids_sr.structural import STRUCTURAL_FIGURES

    module_names = sorted(module.name for module in iter_modules(__path__, f"{__name__}."))
    members = (member for name in module_names for member in vars(import_module(name)).values())
    # a dictionary keeps one entry per figure, in order
    figure_steps = dict.fromkeys(member for member in members if isinstance(member, FigureStep))
    figure_steps |= dict.fromkeys((*COMBINATION_FIGURES, *STRUCTURAL_FIGURES))
    return [spec for figure_step in figure_steps for spec in figure_step.declarations]
