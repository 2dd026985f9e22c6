"""Console output about ``--preset``: settings of the preset and settings of the user."""

from collections.abc import Iterator

from bids_sr.cli.console import make_progress_notice
from bids_sr.config import Settings
from bids_sr.config.presets import Setting, choose_settings, find_preset, has_vgg19
from bids_sr.notices import Notice


def make_preset_notices(settings: Settings) -> Iterator[Notice]:
    """Yield the options that a preset has set, overrides, and options that it leaves open.

    Nothing is yielded without ``--preset``.
    """
    if not settings.run.preset:
        return
    preset = find_preset(settings.run.preset)
    if settings.selection.analysis_level == "group":
        text = (
            f"The {preset.name} preset has no effect at the group level, which only reads"
            " tables of metrics"
        )
        yield make_progress_notice("preset", text)
        return
    yield make_progress_notice(
        "preset",
        f"{preset.name}: {preset.title}. Options on the command line override the preset.",
    )
    vgg = has_vgg19(settings.superres.vgg_weights)
    overridden = []
    for choice in choose_settings(preset, vgg=vgg):
        if _get_value(settings, choice.setting) == choice.value:
            yield make_progress_notice("", f"{choice.option}: {choice.source}")
        else:
            overridden.append(choice.option)
    if overridden:
        yield make_progress_notice(
            "",
            "Options on the command line override these options of the preset:"
            f" {', '.join(overridden)}",
        )
    yield make_progress_notice(
        "", f"The preset does not set these options: {'; '.join(preset.user_choices)}"
    )
    if settings.superres.recipe != "fast":
        yield make_progress_notice("", preset.cost)


def _get_value(settings: Settings, setting: Setting) -> object:
    """Return the value of a setting."""
    group, name = setting
    return getattr(getattr(settings, group), name)
