"""Presets: settings of published analyses, stored in the package as settings files.

Comments in ``boilerplate/presets/NAME.toml`` state the analysis, the source of each value, the
choices left to the user, and the cost.
"""

import os
from pathlib import Path

from bids_sr import boilerplate
from bids_sr.config.values import SettingError, suggest_name

_PRESETS_DIR = boilerplate.HERE / "presets"


def find_config_file(name: str) -> Path:
    """Return the file of a preset, or the path of a settings file.

    Raises `SettingError` if neither a preset nor a file has this name.
    """
    names = preset_names()
    if name in names:
        return _PRESETS_DIR / f"{name}.toml"
    path = Path(os.path.expanduser(name))
    try:
        is_existing = bool(name) and path.exists()
    except PermissionError:  # `read_toml` reports it
        is_existing = True
    if is_existing:
        return path
    reason = f"neither a file nor a preset has this name (presets: {', '.join(names)})"
    fix = suggest_name(name, names) or "check the path of the file, or choose one of the presets"
    raise SettingError("run.config_file", name, reason, fix)


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets in alphabetical order."""
    return tuple(sorted(file.stem for file in _PRESETS_DIR.glob("*.toml")))
