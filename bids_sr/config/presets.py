"""Presets: the settings of a published analysis under a name.

A preset is plain data: values of settings, each with its source. Presets only replace settings
that were not specified on the command line.
"""

from collections.abc import Iterator, Mapping

from bids_sr.config.values import SettingError, suggest_name
from bids_sr.config.vgg19_weights import installed_vgg19
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
    needs_vgg : bool, optional
        Whether the choice applies only if VGG-19 weights are specified or installed; otherwise,
        the next choice for `setting` applies.
    """

    setting: Setting
    value: object
    option: str
    source: str
    needs_vgg: bool = False


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
        Values of the preset. Among several choices for a setting, the first one that applies is
        used.
    user_choices : tuple[str, ...]
        Choices that the preset leaves to the user, with reasons.
    cost : str
        Computational cost of the preset, and an option that reduces the cost.
    """

    name: str
    title: str
    choices: tuple[Choice, ...]
    user_choices: tuple[str, ...]
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
            source="training as published, with VGG-19 features in the loss (if weights are"
            " installed or --vgg-weights is specified)",
            needs_vgg=True,
        ),
        Choice(
            setting=("superres", "recipe"),
            value="paper-mse",
            option="--recipe paper-mse",
            source=(
                "training as published, but with the mean squared error instead of VGG-19 features"
                " in the loss. To use these features, install weights with bids-sr-models vgg19"
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
            option="--set activation.kinds=cc",
            source="equation 1 after linear detrending. The paper does not mention confounds",
        ),
        Choice(
            setting=("activation", "low_pass"),
            value=0.1,
            option="--set activation.low_pass=0.1",
            source="the paper describes a low-pass filter without its cutoff frequency; 0.1 Hz"
            " is our choice",
        ),
        Choice(
            setting=("preprocessing", "input_smoothing"),
            value=13.2,
            option="--set preprocessing.input_smoothing=13.2",
            source=(
                "the series is smoothed before super-resolution, with sigma = 1.5 interpreted as"
                " pixels of 3.75 mm. The paper does not state the unit; 1.5 mm would hardly smooth"
                " (--set preprocessing.input_smoothing=3.5)"
            ),
        ),
        Choice(
            setting=("activation", "smoothing"),
            value=(0.0,),
            option="--smoothing 0",
            source="the maps are not smoothed again",
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
            option="--set activation.thresholds=quarter",
            source="equation 2: upper quarter of the range of CC in the region of interest",
        ),
        Choice(
            setting=("activation", "overlap"),
            value=("auto",),
            option="--overlap auto",
            source="Figure 6, for runs with exactly two conditions",
        ),
    ),
    user_choices=(
        "--dummy-scans if the repetition time differs from the paper",
        "--set preprocessing.input_smoothing=0 for the analysis without smoothing (Supplementary"
        " Figure 2)",
        "--roi if the task is not a motor task",
        "--overlap A B if there are more than two conditions",
        "--set evaluation.roi_grow=true if the region of interest is misregistered",
    ),
    cost=(
        "Training as published takes several days per participant on a CPU. With --preset"
        " ota2022 --recipe fast, a smaller network is trained within minutes."
    ),
)

PEREZBUENO2025 = AnalysisPreset(
    name="perezbueno2025",
    title="self-supervised network and seed-based connectivity as in Pérez-Bueno et al. 2025",
    choices=(
        Choice(
            setting=("superres", "methods"),
            value=("tv",),
            option="--sr-method tv",
            source="network with a total variation prior, trained without high-resolution images",
        ),
        Choice(
            setting=("superres", "recipe"),
            value="paper",
            option="--recipe paper",
            source="section 2.2 and, for settings that it does not state, the authors' code",
        ),
        Choice(
            setting=("superres", "factor"),
            value=(2.0, 2.0, 2.0),
            option="--sr-factor 2 2 2",
            source="factors of 1.25 and 2 along each axis in table 3",
        ),
        Choice(
            setting=("evaluation", "retrospective"),
            value="clean",
            option="--retrospective",
            source="section 3.2: the series is downsampled and compared with the original",
        ),
        Choice(
            setting=("preprocessing", "dummy_scans"),
            value=5,
            option="--dummy-scans 5",
            source="the first 5 volumes are excluded (authors' code)",
        ),
        Choice(
            setting=("preprocessing", "ignore"),
            value=("slicetiming",),
            option="--ignore slicetiming",
            source="neither the paper nor the code corrects slice timing",
        ),
        Choice(
            setting=("activation", "confounds"),
            value=("motion",),
            option="--confounds motion",
            source="section 3.3: motion parameters and their derivatives",
        ),
        Choice(
            setting=("activation", "drift"),
            value="legendre:4",
            option="--set activation.drift=legendre:4",
            source="section 3.3: Legendre polynomials of up to 4th order",
        ),
        Choice(
            setting=("activation", "band_pass"),
            value=(0.005, 0.2),
            option="--band-pass 0.005 0.2",
            source="0.005 to 0.2 Hz in the authors' code; the printed 2 Hz is a misprint",
        ),
        Choice(
            setting=("activation", "enorm_censor"),
            value=0.3,
            option="--enorm-censor 0.3",
            source="section 3.3: Euclidean norm of motion derivatives of at least 0.3",
        ),
        Choice(
            setting=("activation", "smoothing"),
            value=(3.0,),
            option="--smoothing 3",
            source="section 3.3: 3 mm FWHM",
        ),
        Choice(
            setting=("activation", "seeds"),
            value=("motor=-36,-25,57,3", "defaultMode=0,-53,26,3", "visual=-30,-88,0,3"),
            option=(
                '--set \'activation.seeds=["motor=-36,-25,57,3", "defaultMode=0,-53,26,3",'
                ' "visual=-30,-88,0,3"]\''
            ),
            source=(
                "seeds with a radius of 3 mm in three networks (table 3). The paper does not"
                " report their coordinates, which are our choice"
            ),
        ),
        Choice(
            setting=("activation", "seed_series"),
            value="own",
            option="--set activation.seed_series=own",
            source="section 3.3: the seed time series is computed from each series",
        ),
    ),
    user_choices=(
        "--sr-factor 1.25 1.25 1.25 for the other factor of table 3",
        "--ignore slicetiming events if the run has a task",
        "--set activation.seeds=SEED for other coordinates",
    ),
    cost=(
        "Training as published requires a GPU. With --preset perezbueno2025 --recipe fast, a"
        " smaller network is trained within minutes."
    ),
)

LI2022 = AnalysisPreset(
    name="li2022",
    title="super-resolution of structural scans as in Li et al. 2022",
    choices=(
        Choice(
            setting=("superres", "target"),
            value="anat",
            option="--sr-target anat",
            source="T1w, T2w and FLAIR scans as channels of one network",
        ),
        Choice(
            setting=("superres", "methods"),
            value=("attunet", "unet", "vit"),
            option="--sr-method attunet unet vit",
            source="table 1",
        ),
        Choice(
            setting=("superres", "recipe"),
            value="paper",
            option="--recipe paper",
            source="section 3 and, for settings that it does not state, the authors' code",
        ),
        Choice(
            setting=("superres", "train_on"),
            value="others",
            option="--train-on others",
            source="section 3.2: the test participants are not used for training",
        ),
        Choice(
            setting=("superres", "anat_align"),
            value="template",
            option="--anat-align template",
            source="section 3.1: alignment to a template",
        ),
        Choice(
            setting=("superres", "anat_mask"),
            value="intracranial",
            option="--anat-mask intracranial",
            source="section 3.1: intracranial volume",
        ),
        Choice(
            setting=("superres", "baselines"),
            value="all",
            option="--baselines all",
            source="section 3.1: trilinear, sinc and spline interpolation",
        ),
    ),
    user_choices=(
        "--anat-tools fsl (FAST and BET2 as in the paper) if FSL is installed",
        "--lesion-template FILE",
    ),
    cost=(
        "Training as published requires a GPU. With --preset li2022 --recipe fast, smaller"
        " networks are trained within minutes per participant."
    ),
)

PRESETS: Mapping[str, AnalysisPreset] = {
    preset.name: preset for preset in (OTA2022, PEREZBUENO2025, LI2022)
}
"""Presets by name."""


def find_preset(name: str) -> AnalysisPreset:
    """Return a preset by name; raise `SettingError` with all names if it is unknown."""
    if name in PRESETS:
        return PRESETS[name]
    preset_names = ", ".join(PRESETS)
    fix = suggest_name(name, PRESETS) or (
        f"choose one of the available presets, or omit --preset: {preset_names}"
    )
    raise SettingError("run.preset", name, f"available presets: {preset_names}", fix)


def choose_settings(preset: AnalysisPreset, *, vgg: bool) -> Iterator[Choice]:
    """Yield the choice of a preset for each setting.

    `vgg` is whether VGG-19 weights are available (see `has_vgg19`).
    """
    decided: set[Setting] = set()
    for choice in preset.choices:
        if choice.setting not in decided and (vgg or not choice.needs_vgg):
            decided.add(choice.setting)
            yield choice


def has_vgg19(weights: object) -> bool:
    """Return whether VGG-19 weights are specified (``--vgg-weights``) or installed."""
    return weights is not None or installed_vgg19().is_file()


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
    vgg = has_vgg19(values.get("superres", {}).get("vgg_weights"))
    for choice in choose_settings(preset, vgg=vgg):
        group, name = choice.setting
        if name not in command_line.get(group, {}):
            completed.setdefault(group, {})[name] = choice.value
    return completed
