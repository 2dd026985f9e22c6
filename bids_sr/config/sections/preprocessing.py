"""Settings of the processing before super-resolution."""

from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, execution_option, option
from bids_sr.config.spaces import FUNC, Space, parse_spaces
from bids_sr.config.values import SettingError
from bids_sr.io.frozen import frozen


@frozen
class Preprocessing(OptionSection):
    """Settings of the processing before super-resolution.

    If `dummy_scans` is None, the number is detected. If `echo_idx` is None, all echoes are
    combined. Existing outputs in the folders of `derivatives` are not recomputed.
    """

    dummy_scans: int | None = option(
        None,
        "--dummy-scans N",
        ("number of non-steady-state volumes at the start of each run (default: detected)"),
        least=0,
    )
    derivatives: tuple[str, ...] = execution_option(
        (),
        "-d --derivatives NAME=DIR",
        "fMRIPrep output directory (fmriprep=DIR, or DIR) with anatomical images, masks,"
        " transforms, head-motion estimates, field maps and confounds to use",
        common="directory with fMRIPrep outputs to use instead of own preprocessing",
    )
    echo_idx: int | None = option(
        None,
        "--echo-idx N",
        "process only this echo of multi-echo runs (default: optimal combination of all echoes)",
        least=1,
    )
    slice_time_ref: float = option(
        0.5,
        "--slice-time-ref FRACTION",
        "reference time for slice-timing correction, from 0 or start (first slice) to 1 (last"
        " slice) (default: 0.5 or middle)",
        type=readers.parse_fraction,
        least=0,
        most=1,
    )
    fd_spike_threshold: float = option(
        0.5,
        help=(
            "framewise displacement of motion outliers in mm: flagged in the confounds table"
            " above this value"
        ),
        above=0,
    )
    dvars_spike_threshold: float = option(
        1.5,
        help=(
            "standardized DVARS of motion outliers: flagged in the confounds table above this"
            " value"
        ),
        above=0,
    )
    return_all_components: bool = option(
        False,
        help=(
            "all CompCor components in the confounds table: by default, only those that explain"
            " 50 percent of the variance"
        ),
    )
    ignore: tuple[
        Literal[
            "slicetiming",
            "events",
            "outliers",
        ],
        ...,
    ] = option(
        (),
        "--ignore",
        "slicetiming: skip slice-timing correction. events: treat all runs as resting state."
        " outliers: include volumes that do not show the head as the other volumes do",
    )
    input_smoothing: float = option(
        0.0,
        help=(
            "smoothing before super-resolution: FWHM in mm, as in Ota et al. 2022. Maps are also"
            " smoothed by --smoothing"
        ),
        least=0,
        most=50,
    )
    output_spaces: tuple[str, ...] = execution_option(
        (FUNC,),
        "--output-spaces SPACE",
        "output spaces of super-resolved series and maps: func, T1w, templates such as"
        " MNI152NLin2009cAsym:res-2, and for maps fsnative and fsaverage:den-10k",
        common="func, T1w, or templates and surfaces (default: func)",
    )
    output_dtype: Literal["int16", "float32"] = execution_option(
        "int16", help="data type of the saved series: int16 or float32"
    )

    def _check(self) -> None:
        self._remove_duplicates("derivatives")
        for text in self.derivatives:
            self._need(
                bool(text.strip()) and not text.endswith("="),
                "derivatives",
                "the directory is missing; use NAME=DIR or DIR",
            )
        try:
            parse_spaces(self.output_spaces)
        except ValueError as error:
            fix = "specify output spaces as in func T1w MNI152NLin2009cAsym:res-2"
            requested = " ".join(self.output_spaces)
            raise SettingError(
                "preprocessing.output_spaces", requested, str(error), fix
            ) from error

    @property
    def spaces(self) -> tuple[Space, ...]:
        """Requested output spaces; the space of the run if none was requested."""
        return parse_spaces(self.output_spaces) or (Space(name=FUNC),)

    @property
    def templates(self) -> tuple[str, ...]:
        """Requested templates without duplicates, named as in transforms."""
        return tuple(dict.fromkeys(space.template for space in self.spaces if space.is_template))
