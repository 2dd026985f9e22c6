"""Console output about ``--config-file``: files, and their settings that are not used."""

from collections.abc import Iterator

from bids_sr.cli.console import format_item
from bids_sr.config import Settings
from bids_sr.config.presets import find_config_file, preset_names
from bids_sr.config.settings import list_ignored_settings, read_toml


def make_config_lines(settings: Settings) -> Iterator[str]:
    """Yield the settings files of a call, with settings that are not used.

    These are settings that only the command line sets, and settings of presets that others
    replaced.
    """
    is_group = settings.selection.analysis_level == "group"
    for name in settings.run.config_file:
        if name not in preset_names():
            yield format_item("settings", name)
            for setting, flag in list_ignored_settings(find_config_file(name)).items():
                text = (
                    f"{setting} of this file is not used, because the file may be from others. To"
                    f" use the value, give {flag}"
                )
                yield format_item("", text)
        elif is_group:
            text = (
                f"The preset {name} has no effect at the group level, which only reads tables of"
                " metrics"
            )
            yield format_item("settings", text)
        else:
            yield from _describe_preset(name, settings)


def _describe_preset(name: str, settings: Settings) -> Iterator[str]:
    """Yield the file of a preset, and its settings that have another value in this call."""
    file = find_config_file(name)
    yield format_item(
        "settings", f"{name}, with the source of each value in the comments of {file}"
    )
    changed = []
    for group, values in read_toml(file).items():
        section = getattr(settings, group)
        preset = type(section)(**values)
        changed += [
            f"{group}.{key}" for key in values if getattr(section, key) != getattr(preset, key)
        ]
    if changed:
        text = f"Options or other files replace these settings of {name}: {', '.join(changed)}"
        yield format_item("", text)
