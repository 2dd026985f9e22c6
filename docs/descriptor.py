"""The Boutiques descriptor of bids-sr: its options are those of the parser, their bounds those of
the fields that hold them.

`python docs/options_page.py` writes it to docs/recipes/nipoppy/descriptor.json, as Nipoppy wants
all files of a pipeline in one folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, get_type_hints

from bids_sr import RELEASE
from bids_sr.cli import parser
from bids_sr.cli.exit_codes import FAILED, LEFT_OUT, REFUSED
from bids_sr.cli.interrupts import INTERRUPTED
from bids_sr.config import Settings
from bids_sr.config.readers import parse_path
from bids_sr.config.section import get_option

DESCRIPTOR = Path(__file__).parent / "recipes" / "nipoppy" / "descriptor.json"
MADE = ("output_dir", "work_dir", "bids_database_dir")
"""Folders that the program makes: whoever mounts the inputs of type File would miss them."""
OF_ARGPARSE = ("help", "version", "help_all")
EXIT_CODES = {
    FAILED: "A step crashed, an output is missing, or a disk ran full",
    REFUSED: "The command line or the data cannot be used; nothing was written",
    LEFT_OUT: "Done, but for runs that cannot be used",
    os.EX_SOFTWARE: "An unexpected error",
    INTERRUPTED: "Interrupted; the same command resumes",
}


def options() -> list[argparse.Action]:
    """All that --help-all lists, positional arguments first."""
    found = [
        each
        for each in parser.build_parser(show_all=True)._actions
        if each.help != argparse.SUPPRESS and each.dest not in OF_ARGPARSE
    ]
    return sorted(found, key=lambda each: bool(each.option_strings))


def name_of(action: argparse.Action) -> str:
    """The name under which an invocation gives a value."""
    spelled = [flag for flag in action.option_strings if flag.startswith("--")]
    if spelled:
        return spelled[0].removeprefix("--").replace("-", "_")
    return action.dest.partition(".")[2] or action.dest


def kind_of(action: argparse.Action) -> dict[str, Any]:
    """Type and choices of an input."""
    if isinstance(action, argparse._CountAction):  # it stands for its own flag, once or twice
        flag = action.option_strings[0]
        return {"type": "String", "value-choices": [flag, f"{flag}{flag[-1]}"]}
    if action.nargs == 0:
        return {"type": "Flag"}
    if action.choices:
        return {"type": "String", "value-choices": list(action.choices)}
    if action.type in (int, float):
        return {"type": "Number", "integer": action.type is int}
    is_file = action.type is parse_path and name_of(action) not in MADE
    return {"type": "File" if is_file else "String"}


def bounds() -> dict[str, dict[str, Any]]:
    """Bounds of every setting, by the name that the parser gives to it."""
    found = {}
    for kind in get_type_hints(Settings).values():
        for item in dataclasses.fields(kind):
            known = get_option(item)
            least = {"minimum": known.least} if known.least is not None else {}
            above = {"minimum": known.above, "exclusive-minimum": True}
            most = {"maximum": known.most} if known.most is not None else {}
            lowest = least if known.above is None else above
            found[f"{kind.__name__.lower()}.{item.name}"] = lowest | most
    return found


def described(action: argparse.Action, limits: dict[str, Any]) -> dict[str, Any]:
    """An option as an input of the descriptor."""
    name, kind = name_of(action), kind_of(action)
    told = " ".join(((action.help or "") % {**vars(action), "prog": ""}).split())
    found = {
        "id": name,
        "name": name.replace("_", " "),
        "description": told,
        "optional": bool(action.option_strings),
        "value-key": f"[{name.upper()}]",
        **kind,
    }
    if action.option_strings and not isinstance(action, argparse._CountAction):
        found["command-line-flag"] = f"--{name.replace('_', '-')}"
    if action.nargs in ("+", "*"):
        found["list"] = True
    return found | (limits if kind["type"] == "Number" else {})


def descriptor() -> dict[str, Any]:
    """The whole descriptor."""
    limits = bounds()
    inputs = [described(each, limits.get(each.dest, {})) for each in options()]
    return {
        "name": "bids-sr",
        "description": " ".join(parser._DESCRIPTION.split()),
        "tool-version": RELEASE,
        "schema-version": "0.5",
        "command-line": " ".join(["bids-sr", *(each["value-key"] for each in inputs)]),
        # a login shell, which is the default, would forget the PATH of the image
        "shell": "/bin/bash",
        "container-image": {"type": "docker", "image": "bids-sr"},
        "inputs": inputs,
        "output-files": [
            {
                "id": "results",
                "name": "results",
                "description": "Series, maps, tables and logs; only what stops early makes none",
                "path-template": "[OUTPUT_DIR]",
                "optional": True,
            },
            {
                "id": "reports",
                "name": "reports",
                "description": "A page for each participant, and for the group",
                "path-template": "[OUTPUT_DIR]/*.html",
                "list": True,
                "optional": True,
            },
        ],
        "error-codes": [
            {"code": code, "description": meaning} for code, meaning in EXIT_CODES.items()
        ],
        "tags": {"domain": ["neuroimaging", "fMRI"], "bids-app": True},
    }


def text() -> str:
    """The descriptor as it is stored."""
    return json.dumps(descriptor(), indent=2, ensure_ascii=False) + "\n"
