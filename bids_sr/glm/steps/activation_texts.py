"""Methods text on the maps of all series, and the linear models of finished steps."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.noise import noise_words
from bids_sr.glm.steps.activation import MapSettings
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import as_mapping, as_number, as_texts
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.model_confounds import N_COMPONENTS
from bids_sr.preproc.steps.bold_reference import describe_dummies

_MAX_CONFOUNDS = 12  # confounds that the methods text names individually
_MAX_CONTRASTS = 10  # contrasts of one kind that the methods text names
_TASK_REGRESSOR_TEXT = (
    "task time series (on/off) convolved with the canonical hemodynamic response function"
    " [@stss_srfmri]"
)


@frozen
class DescribedMaps:
    """Settings of the maps of a run that the methods text states.

    `nuisance` are the columns of the confounds in the model; None for motion and aCompCor. If
    `at_rest`, time series of seeds replace events. `has_components` states whether the default
    confounds include aCompCor components.
    """

    settings: MapSettings
    design: DesignSettings
    nuisance: Sequence[str] | None
    at_rest: bool
    has_components: bool = True


@frozen
class FittedModel:
    """Linear model of a finished step, from the metadata of its maps.

    `dof` are the degrees of freedom of the residuals, and `noise_text` is the noise model in
    words. If only correlations were mapped, `dof` is None and `noise_text` is "". `confounds` are
    names of confounds.
    """

    n_dummy: int
    dof: int | None
    noise_text: str
    confounds: tuple[str, ...]


def describe_excluded(dummy_scans: int | None, folders: Sequence[Path], _: int) -> str:
    """Return methods text of the non-steady-state volumes of finished `map_series` steps.

    `dummy_scans` is the given number; None if it is detected.
    """
    counts = [model.n_dummy for model in read_fitted_models(folders)]
    return describe_dummies(dummy_scans, counts)


def describe_nuisance(maps: DescribedMaps, folders: Sequence[Path] = (), _: int = 0) -> str:
    """Return methods text of the nuisance regressors of the general linear model.

    `folders` are the folders of finished `map_series` steps of the acquired series. Before a run,
    the confounds follow from the settings, as far as they are known.
    """
    drift_text = (
        f"discrete cosines up to {maps.design.high_pass:.2g} Hz"
        if maps.design.high_pass
        else "a linear trend"
    )
    confounds = _list_confounds(maps, read_fitted_models(folders))
    return f"Nuisance regressors were {enumerate_words([drift_text, *confounds])}."


def _list_confounds(maps: DescribedMaps, models: Sequence[FittedModel]) -> list[str]:
    """Return the confounds in the model as noun phrases; `models` are empty before a run."""
    if maps.nuisance is not None:
        names = dict.fromkeys(name for model in models for name in model.confounds)
        listed = names if models and len(names) <= _MAX_CONFOUNDS else maps.nuisance
        return [f"the selected confounds (`{', '.join(listed)}`)"] if listed else []
    motion_text = "six head-motion parameters with their backward differences"
    counts = [sum(name.startswith("a_comp_cor") for name in model.confounds) for model in models]
    if not models and maps.has_components:
        counts = [N_COMPONENTS]
    if not any(counts):
        return [motion_text]
    fewest, most = min(counts), max(counts)
    count_text = f"{most}" if fewest == most else f"{fewest} to {most}"
    return [
        motion_text,
        f"the first {count_text} aCompCor components [@behzadi2007] of white matter and"
        " cerebrospinal fluid",
    ]


def describe_noise(folders: Sequence[Path] = (), _: int = 0) -> str:
    """Return methods text of the noise model, with the degrees of freedom of finished steps.

    For `folders`, see `describe_nuisance`.
    """
    models = read_fitted_models(folders)
    noise_texts = list(dict.fromkeys(model.noise_text for model in models)) or [noise_words()]
    text = (
        f"The noise model was {' or '.join(noise_texts)} [@woolrich2001], pooled over voxels with"
        " similar intensity and noise [@corbin2018] and corrected for the design [@worsley2002]."
    )
    numbers = [model.dof for model in models if model.dof is not None]
    if not numbers:
        return text
    fewest, most = min(numbers), max(numbers)
    dof_text = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{text} The residuals had {dof_text} degrees of freedom."


def read_fitted_models(folders: Sequence[Path]) -> list[FittedModel]:
    """Return the linear models of finished `map_series` steps, one per folder with maps."""
    models = []
    for folder in folders:
        sidecars = [read_json(path) for path in sorted(folder.glob("*_statmap.json"))]
        entries = [as_mapping(sidecar.get("Model")) for sidecar in sidecars]
        glm_entries = [model for model in entries if model.get("Type") == "glm"]
        for model in (glm_entries or entries)[:1]:
            dof = as_number(model.get("DegreesOfFreedom"))
            models.append(
                FittedModel(
                    n_dummy=int(as_number(model["DummyVolumes"])),
                    dof=None if math.isnan(dof) else int(dof),
                    noise_text=str(model.get("NoiseModel", "")),
                    confounds=tuple(as_texts(model.get("Confounds"))),
                )
            )
    return models


def describe_maps(settings: MapSettings, *, at_rest: bool) -> str:
    """Return methods text that all maps share; `at_rest`: seeds replace events."""
    smoothing_texts = ["without smoothing"] if 0 in settings.smoothing else []
    if widths := [f"{width:g}" for width in settings.smoothing if width]:
        smoothing_texts.append(f"after Gaussian smoothing with {enumerate_words(widths)} mm FWHM")
    model = "general linear model (generalized least squares)" if "glm" in settings.kinds else ""
    return (
        f"{'Connectivity' if at_rest else 'Activation'} was mapped in all series with the same"
        f" {model or 'model'}, {enumerate_words(smoothing_texts)}."
    )


def describe_correlation(maps: DescribedMaps) -> str:
    """Return methods text of correlation maps."""
    settings = maps.settings
    regressor_text = "time series of each seed" if maps.at_rest else _TASK_REGRESSOR_TEXT
    corrections = ["linearly detrended"]
    if settings.low_pass:
        corrections.append(f"low-pass filtered at {settings.low_pass:g} Hz")
    if settings.correlation_confounds:
        confounds_text = ", ".join(maps.nuisance or ()) or "none"
        corrections.append(f"corrected for confounds (`{confounds_text}`)")
    text = (
        f"For correlation maps, voxel time series were {', '.join(corrections)} and"
        f" correlated with the {regressor_text}."
    )
    if "quarter" not in settings.thresholds:
        return text
    return (
        f"{text} Active regions were defined as voxels in the region of interest with a"
        " correlation of at least max - (max - min)/4."
    )


def describe_responses(maps: DescribedMaps) -> str:
    """Return methods text of the predicted responses of a run with events."""
    return f"Events were convolved in closed form with {maps.design.hrf.words}."


def describe_contrasts(
    maps: DescribedMaps, contrasts: Contrasts, minus_others: Collection[str]
) -> str:
    """Return methods text of the contrasts and thresholds of the general linear model.

    `minus_others`: contrasts of one condition with the mean of all others.
    """
    conditions = single_conditions(contrasts)
    other_names = [name for name in contrasts if name not in {*conditions, *minus_others}]
    phrases = [
        *([f"{_list_names(conditions)} against baseline"] if conditions else []),
        *([_list_names(other_names)] if other_names else []),
        *(["each condition minus the mean of the others"] if minus_others else []),
    ]
    unit = "standard deviation of the seed" if maps.at_rest else "sustained block"
    # seeds are described with their time series
    sentences = [] if maps.at_rest else [f"Contrasts were {'; '.join(phrases)}."]
    sentences.append(f"Effects are signal change per {unit} in percent of the mean brain signal.")
    thresholds = [
        f"|z| of at least {name}" for name in maps.settings.thresholds if name[0].isdigit()
    ]
    if "fdr" in maps.settings.thresholds:
        thresholds.insert(
            0, "a false discovery rate (FDR) of .05 [@benjamini1995], half of it for decreases"
        )
    if thresholds:
        sentences.append(f"Significant voxels were determined at {enumerate_words(thresholds)}.")
    return " ".join(sentences) + "\n"


def _list_names(names: Sequence[str]) -> str:
    """Return names of contrasts as an enumeration, or their number if there are many."""
    if len(names) > _MAX_CONTRASTS:
        return f"{len(names)} contrasts that are named in the file names of the maps"
    return enumerate_words(names)
