"""Presets: the settings of a published analysis under a name.

A preset is plain data: values of settings, each with its source. Presets only replace settings
that were not specified on the command line.
"""

from collections.abc import Iterator, Mapping

from bids_sr.config.values import SettingError, suggest_name
from bids_sr.frozen import frozen

Values = Mapping[str, Mapping[str, object]]
"""Values of settings by group and name."""
Setting = tuple[str, str]
"""Group and name of a setting, such as ``("activation", "kinds")``."""


@frozen
class Choice:
    """Value of a setting in a preset.

    Parameters
    ----------
    setting : Setting
        Group and name of the setting.
    value : object
        Value of the setting.
    option : str
        Equivalent command-line option.
    source : str
        Source in the published text, or the reason for the choice if the text does not state it.
    needs : Setting | None, optional
        Setting that must have a value; otherwise, the next choice for `setting` applies. None if
        the choice always applies.
    """

    setting: Setting
    value: object
    option: str
    source: str
    needs: Setting | None = None


@frozen
class AnalysisPreset:
    """Settings of a published analysis.

    Parameters
    ----------
    name : str
        Value of ``--preset``.
    title : str
        Reproduced analysis, with its reference.
    choices : tuple[Choice, ...]
        Values of the preset. Among several choices for a setting, the first one whose needs are
        met applies.
    yours : tuple[str, ...]
        Choices that the preset leaves to the user, with reasons.
    cost : str
        Computational cost of the preset, and an option that reduces the cost.
    """

    name: str
    title: str
    choices: tuple[Choice, ...]
    yours: tuple[str, ...]
    cost: str


OTA2022 = AnalysisPreset(
    name="ota2022",
    title="size and overlap of the activated regions of two conditions, as in Ota et al. 2022",
    choices=(
        Choice(
            setting=("superres", "methods"),
            value=("srgan",),
            option="--sr-method srgan",
            source="SRGAN trained on the T2*w pair of the same participant",
        ),
        Choice(
            setting=("superres", "recipe"),
            value="paper",
            option="--recipe paper",
            source="training as published, with VGG-19 features in the loss (if --vgg-weights is"
            " specified)",
            needs=("superres", "vgg_weights"),
        ),
        Choice(
            setting=("superres", "recipe"),
            value="paper-mse",
            option="--recipe paper-mse",
            source=(
                "training as published, but with the mean squared error in the loss. To use"
                " VGG-19 weights installed with bids-sr-models vgg19, specify --recipe paper"
            ),
        ),
        Choice(
            setting=("preprocessing", "dummy_scans"),
            value=60,
            option="--dummy-scans 60",
            source="the first 60 volumes are excluded (30 s at the repetition time of the paper)",
        ),
        Choice(
            setting=("preprocessing", "ignore"),
            value=("slicetiming",),
            option="--ignore slicetiming",
            source="the paper does not mention slice-timing correction",
        ),
        Choice(
            setting=("activation", "kinds"),
            value=("cc",),
            option="--activation cc",
            source="equation 1 after linear detrending. The paper does not mention confounds",
        ),
        Choice(
            setting=("activation", "low_pass"),
            value=0.1,
            option="--low-pass 0.1",
            source="the paper describes a low-pass filter without its cutoff frequency; 0.1 Hz"
            " is our choice",
        ),
        Choice(
            setting=("activation", "smoothing"),
            value=(0.0, 3.5, 13.2),
            option="--smoothing 0 paper",
            source=(
                "no smoothing, and sigma = 1.5 interpreted as mm (3.5 mm FWHM) or as pixels"
                " (13.2 mm FWHM)"
            ),
        ),
        Choice(
            setting=("activation", "roi"),
            value="motor",
            option="--roi motor",
            source=(
                "motor area of the AAL atlas. The paper does not list the labels, which are our"
                " choice"
            ),
        ),
        Choice(
            setting=("activation", "thresholds"),
            value=("quarter",),
            option="--threshold quarter",
            source="equation 2: upper quarter of the range of CC in the region of interest",
        ),
        Choice(
            setting=("activation", "overlap"),
            value=("auto",),
            option="--overlap auto",
            source="Figure 6, for runs with exactly two conditions",
        ),
    ),
    yours=(
        "--dummy-scans if the repetition time differs from the paper",
        "--roi if the task is not a motor task",
        "--overlap A B if there are more than two conditions",
        "--roi-grow if the region of interest is misregistered",
    ),
    cost=(
        "Training as published takes several days per participant on a CPU. With --preset"
        " ota2022 --recipe fast, a smaller network is trained within minutes."
    ),
)

PRESETS: Mapping[str, AnalysisPreset] = {preset.name: preset for preset in (OTA2022,)}
"""Presets by name."""


def find_preset(name: str) -> AnalysisPreset:
    """Return a preset by name; raise `SettingError` with all names if it is unknown."""
    if name in PRESETS:
        return PRESETS[name]
    available = ", ".join(PRESETS)
    fix = suggest_name(name, PRESETS) or (
        f"choose one of the available presets, or omit --preset: {available}"
    )
    raise SettingError("run.preset", name, f"available presets: {available}", fix)


def choose_settings(preset: AnalysisPreset, values: Values) -> Iterator[Choice]:
    """Yield the first choice per setting of a preset whose needs are met by `values`."""
    decided: set[Setting] = set()
    for choice in preset.choices:
        if choice.setting not in decided and (
            choice.needs is None or _is_set(values, choice.needs)
        ):
            decided.add(choice.setting)
            yield choice


def _is_set(values: Values, setting: Setting) -> bool:
    """Return whether a setting has a value."""
    group, name = setting
    return values.get(group, {}).get(name) is not None


def with_preset(
    preset: AnalysisPreset, values: Values, command_line: Values
) -> dict[str, dict[str, object]]:
    """Return values in which a preset replaces all settings that were not specified as options.

    Parameters
    ----------
    preset : AnalysisPreset
        Preset whose choices are filled in.
    values : Values
        All values so far, for example from an earlier settings file.
    command_line : Values
        Values from the command line, which take precedence over the preset.

    Returns
    -------
    dict[str, dict[str, object]]
        Values by group and name; the arguments are not modified.
    """
    completed = {group: dict(names) for group, names in values.items()}
    for choice in choose_settings(preset, values):
        group, name = choice.setting
        if name not in command_line.get(group, {}):
            completed.setdefault(group, {})[name] = choice.value
    return completed
