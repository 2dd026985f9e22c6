"""Settings of the activation maps: kinds, smoothing, thresholds, confounds and linear model."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.regions import check_regions
from bids_sr.config.section import OptionSection, execution_option, option
from bids_sr.config.seeds import COMPONENTS, DEFAULT_SEEDS, PREDEFINED, choose_seeds
from bids_sr.config.values import SettingError, suggest_name
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.io import region_names
from bids_sr.io.frozen import frozen
from bids_sr.io.safe_width import choose_widths

_THRESHOLDS = ("quarter", "fdr")
COSINE = "cosine"
_MAX_LEGENDRE_ORDER = 20
NO_CONFOUNDS = "none"
"""Value of --confounds."""
COMBINE_ALL_OPTION = "--set activation.combine_all_runs=true"
"""Option that combines runs although they disagree or were acquired otherwise."""
_CENSORING_KINDS = ("fd", "enorm")


@frozen
class Activation(OptionSection):
    """Settings of activation maps.

    `low_pass` only applies to cross-correlation, and None switches the filter off. Empty
    `contrasts` select the defaults of `bids_sr.glm.contrasts.resolve_contrasts`. Regions in `roi`
    are described in `bids_sr.io.region_names`, seeds in `bids_sr.config.seeds`.

    `draws_cc` is true if ``cc`` is requested. Otherwise, maps of
    cross-correlation are only drawn if there are no other maps, or if a network is trained as
    published.
    """

    contrasts: tuple[str, ...] = option(
        (),
        "--contrasts EXPR",
        "contrasts of trial types, such as thumb, thumb-little, all, or name=0.5*a-0.5*b; of"
        " runs, such as 'thumb@ses-2 - thumb@ses-1'; or defaults, beside others"
        " (default: each trial type, their mean, each pair of up to three trial types, and"
        " each of four to eight trial types minus the mean of the others)",
    )
    model: Path | None = option(
        None,
        "--model FILE",
        "BIDS Stats Model (JSON file) that defines the run-level contrasts and confounds",
    )
    kinds: tuple[Literal["cc", "glm"], ...] = option(
        ("cc", "glm"),
        help=(
            "activation maps to compute: cross-correlation with the task design (cc), or general"
            " linear model (glm)"
        ),
    )
    smoothing: tuple[float, ...] = option(
        (),
        "--smoothing MM",
        "FWHM in mm of the smoothing kernels; 0 (no smoothing) is always included (default: 0, and"
        " the safe map: 5 mm, or 5/6 of the largest acquired in-plane voxel of all runs)",
        type=readers.parse_widths,
        action=readers.StoreWidths,
        least=0,
        most=50,
    )
    low_pass: float | None = option(
        0.1,
        help="low-pass cutoff of the cross-correlation in Hz: a number, or none",
        type=readers.parse_frequency,
    )
    high_pass: float | None = option(
        1 / 128,
        help="high-pass cutoff of the GLM in Hz: a number, or none",
        type=readers.parse_frequency,
        least=0,
    )
    band_pass: tuple[float, ...] = option(
        (),
        "--band-pass HZ",
        "lower and upper cutoff in Hz (LOW HIGH) for all models and the cross-correlation,"
        " instead of high_pass and low_pass",
        above=0,
    )
    hrf_model: Literal[
        "spm",
        "glover",
        "spm + derivative",
        "glover + derivative",
    ] = option(
        "spm",
        help=(
            "hemodynamic response to events: spm, glover, spm + derivative or glover +"
            " derivative, as in nilearn"
        ),
    )
    drift: str = option(
        COSINE,
        help=(
            "drift model of the GLM: cosines up to high_pass (cosine), or Legendre polynomials up"
            " to order N (legendre:N)"
        ),
    )
    censor: tuple[str, ...] = option(
        (),
        "--censor KIND:LIMIT",
        "exclude volumes from all models: fd:.5 if the framewise displacement is above .5 mm,"
        " enorm:.3 if the Euclidean norm of the motion derivatives (mm, degrees) is at least"
        " .3, or both (default: no censoring)",
    )
    confounds: tuple[str, ...] = option(
        (),
        "--confounds NAME",
        "confounds in the linear models and in seed-based connectivity: motion (six"
        " parameters and their derivatives), acompcor (five components; requires at least 50"
        " volumes, and a T1w image or confounds of fMRIPrep), columns of the confounds table"
        " such as csf*, or none (default: motion acompcor, or the confounds of --model)",
    )
    seeds: tuple[str, ...] = option(
        DEFAULT_SEEDS,
        help=(
            f"seeds of connectivity maps: for runs without events, {', '.join(PREDEFINED)}, atlas"
            " labels, NAME=LABEL[,LABEL], NAME=x,y,z[,radius] in mm (MNI), or components"
        ),
    )
    seed_series: Literal["acquired", "own"] = option(
        "acquired",
        help=(
            "source of the seed time series: the acquired series for all maps (acquired), or the"
            " series of each map (own)"
        ),
    )
    atlas: str = option(
        region_names.AAL2,
        help=(
            "atlas for --roi, seeds and the cluster table: AAL2, an atlas in the TemplateFlow"
            " cache such as Schaefer2018:400Parcels7Networks, or a NIfTI label image, with its"
            " space in its name (space-T1w, or the template) and a .tsv table of the same name"
            " (columns index and name)"
        ),
    )
    roi: tuple[str, ...] = option(
        (region_names.AUTO,),
        "--roi {auto,brain,NAMES,FILE}",
        "regions of interest, separated by spaces: auto (determined from the task name), brain,"
        " motor, visual, auditory, atlas labels separated by commas (one region), or a mask image"
        " with space-T1w, space-boldref or the template in its name",
        common="regions of interest (default: auto, by the task name)",
    )
    combine_weights: Literal["equal", "precision"] = option(
        "equal",
        help=(
            "weights of the runs in maps of all runs: equal, or precision (inverse of the mean"
            " noise variance of each run)"
        ),
    )
    combine_all_runs: bool = option(
        False,
        help=(
            "maps of all runs also with runs whose head or activation differs from the other runs"
            " of the task, or that were acquired otherwise (PhaseEncodingDirection without"
            " distortion correction, EchoTime, MagneticFieldStrength; default: skip them)"
        ),
    )
    draws_cc: bool = execution_option(
        False,
        help="axial and sagittal figures of cc maps (default: if cc is requested)",
        is_internal=True,
    )
    thresholds: tuple[str, ...] = option(
        _THRESHOLDS,
        help=(
            "thresholds that define activated regions: upper quarter of the range (quarter), false"
            " discovery rate of .05 (fdr), or a z value"
        ),
    )

    def __post_init__(self) -> None:
        roi: object = self.roi
        if isinstance(roi, str):  # settings files of earlier versions have a single region
            self._set("roi", (roi,))
        OptionSection.__post_init__(self)

    def _check(self) -> None:
        self._remove_duplicates(
            "contrasts", "kinds", "smoothing", "thresholds", "seeds", "confounds", "roi"
        )
        self._need(
            NO_CONFOUNDS not in self.confounds or len(self.confounds) == 1,
            "confounds",
            f"{NO_CONFOUNDS} cannot be combined with other confounds",
        )
        self._check_regions()
        self._need(bool(self.kinds), "kinds", "expected cc, glm or both")
        self._need(
            _are_distinct(self.smoothing),
            "smoothing",
            "two smoothing widths are equal after rounding to 0.1 mm",
        )
        self._check_filters()
        self._check_censoring()
        self._check_thresholds()

    def _check_regions(self) -> None:
        """Raise `SettingError` for invalid seeds, atlas or region of interest."""
        self._need(
            bool(self.seeds), "seeds", "at least one seed, or components, must be specified"
        )
        self._need(
            COMPONENTS not in self.seeds or len(self.seeds) == 1,
            "seeds",
            "components cannot be combined with other seeds",
        )
        self._need(bool(self.roi), "roi", "at least one region must be specified")
        check_regions(self.atlas, self.roi, self.seeds)
        names = seed_names(choose_seeds(self.seeds, with_anat=True, atlas=self.atlas))
        self._need(
            len({name.lower() for name in names}) == len(names),
            "seeds",
            "several seeds have the same name (case is ignored)",
        )

    def _check_filters(self) -> None:
        """Raise `SettingError` for cutoff frequencies in the wrong order, or an unknown drift."""
        self._need(
            self.low_pass is None or self.low_pass > (self.high_pass or 0),
            "low_pass",
            "the low-pass frequency must be higher than the high-pass frequency",
        )
        are_ascending = len(self.band_pass) == 2 and self.band_pass[0] < self.band_pass[1]
        self._need(
            not self.band_pass or are_ascending,
            "band_pass",
            "two frequencies in ascending order are expected",
        )
        order = self.legendre_order
        self._need(
            self.drift == COSINE or (order is not None and 1 <= order <= _MAX_LEGENDRE_ORDER),
            "drift",
            f"expected {COSINE}, or legendre:N with N between 1 and {_MAX_LEGENDRE_ORDER}",
        )

    def _check_censoring(self) -> None:
        """Raise `SettingError` for unknown kinds and limits of censoring."""
        for text in self.censor:
            kind, _, limit = text.partition(":")
            if kind not in _CENSORING_KINDS:
                kinds = " and ".join(_CENSORING_KINDS)
                fix = suggest_name(kind, _CENSORING_KINDS) or "choose one of these kinds"
                raise SettingError(self._where("censor"), text, f"the kinds are {kinds}", fix)
            is_number = re.fullmatch(r"\d+(\.\d*)?|\.\d+", limit) is not None
            self._need(
                is_number and float(limit) > 0,
                "censor",
                f"expected a number above 0 after {kind}:",
            )
        self._need(
            len(self.censoring_limits) == len(self.censor),
            "censor",
            "only one limit per kind is allowed",
        )
        # limits such as .5 and 0.5 are the same setting
        limits = self.censoring_limits.items()
        self._set("censor", tuple(f"{kind}:{limit!r}" for kind, limit in limits))

    def _check_thresholds(self) -> None:
        """Raise `SettingError` for thresholds that are not known, or equal in file names."""
        z_values = [
            threshold for threshold in self.thresholds if threshold not in ("quarter", "fdr")
        ]
        are_readable = all(re.fullmatch(r"\d+(\.\d+)?", z_value) for z_value in z_values)
        self._need(are_readable, "thresholds", "expected quarter, fdr or a z value such as 3.1")
        self._need(
            _are_distinct(map(float, z_values)),
            "thresholds",
            "two z values are equal after rounding to 0.1",
        )

    @property
    def legendre_order(self) -> int | None:
        """Order of the drift polynomials; None for cosines."""
        match = re.fullmatch(r"legendre:(\d{1,3})", self.drift)
        return None if match is None else int(match[1])

    @property
    def censoring_limits(self) -> dict[str, float]:
        """Limit of head motion per kind of censoring (``fd`` in mm, ``enorm`` in mm, degrees)."""
        pairs = (text.split(":") for text in self.censor)
        return {kind: float(limit) for kind, limit in pairs}

    @property
    def models_time(self) -> bool:
        """Whether the models have regressors for censored volumes, a pass band or polynomials."""
        return bool(self.band_pass or self.legendre_order or self.censor)

    @property
    def cosine_cutoff(self) -> float:
        """Highest frequency (Hz) of the drift cosines; 0 if drift is modeled by other columns."""
        return 0.0 if self.band_pass or self.legendre_order else self.high_pass or 0.0

    @property
    def correlation_cutoff(self) -> float | None:
        """Low-pass cutoff (Hz) of cross-correlation; None if off or if a pass band is given."""
        return None if self.band_pass else self.low_pass

    def choose_smoothing(self, voxel_mm: float = 0.0) -> tuple[float, ...]:
        """Return the smoothing of the maps (FWHM, mm); see `bids_sr.io.safe_width`."""
        return self.smoothing or choose_widths(voxel_mm)

    @property
    def requests_thresholds(self) -> bool:
        """Whether the thresholds differ from the default, so that their regions are stored."""
        return tuple(self.thresholds) != _THRESHOLDS


def _are_distinct(values: Iterable[float]) -> bool:
    """Return whether values differ after rounding to tenths, as in file names."""
    tenths = [round(value * 10) for value in values]
    return len(set(tenths)) == len(tenths)
