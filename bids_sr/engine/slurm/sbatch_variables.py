"""Variables ``SBATCH_*`` of the environment, which override the options in job scripts.

Jobs only inherit the account, the partition and similar choices. Other variables, such as a time
limit or an array, would override the resources that the program requests and prints.
"""

import os
import shlex
from collections.abc import Collection, Iterable

_PREFIX = "SBATCH_"
_INHERITED_OPTIONS = ("account", "partition", "qos", "reservation", "constraint")
_SHORT_OPTIONS = {"-A": "account", "-p": "partition", "-q": "qos", "-C": "constraint"}


def find_ignored_variables(options: Collection[str]) -> list[str]:
    """Return the names of all other variables, see `find_inherited_variables`."""
    variables = {name for name in os.environ if name.startswith(_PREFIX)}
    return sorted(variables - find_inherited_variables(options).keys())


def find_inherited_variables(options: Collection[str]) -> dict[str, str]:
    """Return the variables that jobs inherit, by name.

    `options` are the options of ``sbatch`` that the user specified, without hyphens; their
    variables are not inherited. Empty variables are not inherited either.
    """
    variables = {name: f"{_PREFIX}{name.upper()}" for name in _INHERITED_OPTIONS}
    return {
        variable: os.environ[variable]
        for name, variable in variables.items()
        if name not in options and os.environ.get(variable)
    }


def list_options(arguments: Iterable[str]) -> set[str]:
    """Return the options in arguments of ``sbatch`` that have an inherited variable.

    >>> sorted(list_options(["-plong", "--constraint=a100", "--mem=2G"]))
    ['constraint', 'partition']
    """
    options = set()
    for argument in arguments:
        if not argument.startswith("--"):
            options.add(_SHORT_OPTIONS.get(argument[:2], ""))
        elif word := argument.removeprefix("--").partition("=")[0]:
            # sbatch accepts abbreviations of long options
            options |= {name for name in _INHERITED_OPTIONS if name.startswith(word)}
    return options - {""}


def list_script_arguments(script: str) -> list[str]:
    """Return the arguments of ``sbatch`` in the lines ``#SBATCH`` of a script."""
    arguments = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            text = line.removeprefix("#SBATCH")
            try:
                arguments += shlex.split(text, comments=True)
            except ValueError:  # an open quote
                arguments += text.split()
    return arguments
