"""Settings by group, with all defaults and checks.

Defaults are only defined here. Values are checked when a group is created, and an invalid value
raises `UsageError`, whether it comes from the command line, a settings file or Python.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bids_sr import region_names
from bids_sr.config import readers
from bids_sr.config.levels import SMOOTHING, THRESHOLDS, StorageLevel
from bids_sr.config.presets import PRESETS, find_preset
from bids_sr.config.regions import check_regions
from bids_sr.config.section import Checked, is_label, option
from bids_sr.config.seeds import COMPONENTS, DEFAULT_SEEDS, KNOWN, seed_names, seeds_of
from bids_sr.config.spaces import FUNC, Space, parse_spaces
from bids_sr.config.values import SettingError
from bids_sr.frozen import frozen

WHICH_DATA, HOW_IT_RUNS = "which data", "how it runs"
"""Headings of help sections that contain options of several groups."""
COSINE = "cosine"
_MOST_LEGENDRE = 20
_AUTO = "auto"  # value of --overlap for the two conditions of runs with exactly two conditions


@frozen
class Selection(Checked):
    """Selection of the data to process, by labels without prefix; empty settings select all."""

    analysis_level: Literal["participant", "group"] = option(
        "participant",
        "{participant,group}",
        (
            "participant: process each run. group: compute statistics across the participants in"
            " output_dir"
        ),
        decides=False,
        once=True,
    )
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label --participant-labels LABEL",
        (
            "labels of the participants to process, separated by spaces or commas, or @FILE with"
            " one label per line (default: all participants)"
        ),
        common=True,
        decides=False,
        type=readers.labels,
    )
    session_label: tuple[str, ...] = option(
        (),
        "--session-label --session-id LABEL",
        "labels of the sessions to process (default: all sessions)",
        decides=False,
        type=readers.labels,
    )
    task_id: tuple[str, ...] = option(
        (),
        "-t --task-id TASK",
        "labels of the tasks to process (default: all tasks)",
        common=True,
        decides=False,
        type=readers.labels,
    )
    run_id: tuple[int, ...] = option(
        (),
        "--run-id N",
        "numbers of the runs to process (default: all runs)",
        decides=False,
        type=readers.run_number,
        least=0,
    )
    bids_filter_file: Path | None = option(
        None,
        "--bids-filter-file FILE",
        "JSON file with PyBIDS filters for bold, t2starw, t1w, t2w and flair images. Filters for"
        " other images, such as fmap, are ignored",
        decides=False,
    )
    bids_database_dir: Path | None = option(
        None,
        "--bids-database-dir DIR",
        "directory of a PyBIDS database, for faster indexing of large datasets",
        decides=False,
    )
    skip_bids_validation: bool = option(
        False,
        "--skip-bids-validation",
        "skip validation of the input dataset with the BIDS validator",
        decides=False,
    )

    def _check(self) -> None:
        for name, prefix in (
            ("participant_label", "sub-"),
            ("session_label", "ses-"),
            ("task_id", "task-"),
        ):
            labels = tuple(
                dict.fromkeys(label.removeprefix(prefix) for label in getattr(self, name))
            )
            self._set(name, labels)
            for label in labels:
                reason = (
                    f"{label!r} is not a valid BIDS label (letters, digits and +). Separate"
                    " several labels with spaces or commas."
                )
                self._need(is_label(label), name, reason)
        self._set("run_id", tuple(dict.fromkeys(self.run_id)))


@frozen
class Preprocessing(Checked):
    """Settings of the processing before super-resolution.

    If `dummy_scans` is None, the number is detected. If `echo` is None, all echoes are combined.
    Existing outputs in the folders of `derivatives` are not recomputed.
    """

    dummy_scans: int | None = option(
        None,
        "--dummy-scans N",
        (
            "number of non-steady-state volumes at the start of each run (default: determined"
            " automatically)"
        ),
        least=0,
    )
    derivatives: tuple[str, ...] = option(
        (),
        "-d --derivatives NAME=DIR",
        "fMRIPrep output directory (fmriprep=DIR, or DIR). Anatomical images, masks, transforms,"
        " head-motion estimates, field maps and confounds are read from this directory instead"
        " of being computed",
        common=True,
        decides=False,
    )
    echo: int | None = option(
        None,
        "--echo-idx N",
        "process only this echo of multi-echo runs (default: optimal combination of all echoes)",
        least=1,
    )
    slice_time_ref: float = option(
        0.5,
        "--slice-time-ref FRACTION",
        "reference time for slice-timing correction as a fraction of the time between the first"
        " and the last slice: 0 or start (first slice), 0.5 or middle (default), or 1 (last"
        " slice)",
        type=readers.fraction,
        least=0,
        most=1,
    )
    fd_spike_threshold: float = option(
        0.5,
        "--fd-spike-threshold MM",
        (
            "framewise displacement (mm) above which a volume is flagged as a motion outlier in"
            " the confounds table"
        ),
        above=0,
    )
    dvars_spike_threshold: float = option(
        1.5,
        "--dvars-spike-threshold VALUE",
        (
            "standardized DVARS above which a volume is flagged as a motion outlier in the"
            " confounds table"
        ),
        above=0,
    )
    return_all_components: bool = option(
        False,
        "--return-all-components",
        "include all CompCor components in the confounds table (default: only the components"
        " that explain 50 percent of the variance)",
    )
    ignore: tuple[
        Literal["slicetiming", "events", "fieldmaps", "sbref", "t2w", "flair", "fmap-jacobian"],
        ...,
    ] = option(
        (),
        "--ignore",
        "processing steps or inputs to ignore. slicetiming: skip slice-timing correction."
        " events: treat all runs as resting state. The other values are accepted for"
        " compatibility with fMRIPrep and have no effect.",
    )
    input_smoothing: float = option(
        0.0,
        "--input-smoothing MM",
        "smooth the acquired series with a Gaussian kernel of this FWHM (mm) before"
        " super-resolution and interpolation, as in Ota et al. 2022. Maps are additionally"
        " smoothed with --smoothing (default: 0, no smoothing)",
        least=0,
        most=50,
    )
    output_spaces: tuple[str, ...] = option(
        (FUNC,),
        "--output-spaces SPACE",
        "output spaces of the super-resolved series and maps: func, T1w, or templates such as"
        " MNI152NLin2009cAsym:res-2. Maps can also be resampled to the surfaces fsnative and"
        " fsaverage:den-10k",
        common=True,
        decides=False,
    )
    output_dtype: Literal["int16", "float32"] = option(
        "int16", "--output-dtype", "data type of the saved series", decides=False
    )

    def _check(self) -> None:
        self._each_once("derivatives")
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


NO_CONFOUNDS = "none"  # value of --confounds


@frozen
class Activation(Checked):
    """Settings of activation maps.

    `low_pass` only applies to cross-correlation, and None switches the filter off. `fd_censor` and
    `enorm_censor` are None if no volume is censored. Empty `contrasts` select the defaults of
    `bids_sr.glm.contrasts.resolve_contrasts`. Regions in `roi` are described in
    `bids_sr.region_names`, seeds in `bids_sr.config.seeds`.

    `draws_cc` is true if ``cc`` is on the command line. Otherwise, maps of cross-correlation are
    only drawn if there are no other maps, or if a network is trained as published.
    """

    contrasts: tuple[str, ...] = option(
        (),
        "--contrasts EXPR",
        "contrasts of trial types, such as thumb, thumb-little, all, or name=0.5*a-0.5*b"
        " (default: each trial type, the mean of all trial types, and pairwise comparisons of up"
        " to eight trial types)",
    )
    stats_model: Path | None = option(
        None,
        "--model FILE",
        "BIDS Stats Model (JSON file) that defines the run-level contrasts and confounds",
    )
    kinds: tuple[Literal["cc", "glm"], ...] = option(
        ("cc", "glm"),
        "--activation",
        "activation maps to compute: cross-correlation with the task design (cc), or general"
        " linear model (glm)",
    )
    smoothing: tuple[float, ...] = option(
        SMOOTHING,
        "--smoothing MM",
        (
            "FWHM of the Gaussian smoothing kernels applied to the maps, in mm (0: no smoothing;"
            " paper: 3.5 and 13.2 mm)"
        ),
        type=readers.widths,
        least=0,
        most=50,
    )
    low_pass: float | None = option(
        0.1,
        "--low-pass HZ",
        "low-pass cutoff frequency of the cross-correlation in Hz, or none",
        type=readers.frequency,
    )
    high_pass: float = option(
        1 / 128,
        "--high-pass HZ",
        "high-pass cutoff frequency of the GLM in Hz, or none",
        type=lambda text: readers.frequency(text) or 0.0,
        least=0,
    )
    band_pass: tuple[float, ...] = option(
        (),
        "--band-pass HZ",
        "lower and upper cutoff frequency in Hz (LOW HIGH). The band-pass filter is implemented"
        " with regressors in all models and in the cross-correlation, and replaces --high-pass"
        " and --low-pass",
        above=0,
    )
    drift: str = option(
        COSINE,
        "--drift {cosine,legendre:N}",
        (
            "drift model of the GLM: cosines up to the --high-pass frequency, or Legendre"
            " polynomials up to order N"
        ),
    )
    fd_censor: float | None = option(
        None,
        "--fd-censor MM",
        "framewise displacement (mm) above which a volume is censored, that is, excluded from"
        " all models (default: no censoring)",
        above=0,
    )
    enorm_censor: float | None = option(
        None,
        "--enorm-censor VALUE",
        "Euclidean norm of the motion derivatives (mm, degrees) at or above which a volume is"
        " censored, for example .3 (default: no censoring)",
        above=0,
    )
    confounds: tuple[str, ...] = option(
        (),
        "--confounds NAME",
        "confounds in the linear models and in seed-based connectivity: motion (six parameters"
        " and their derivatives), acompcor (five components), columns of the confounds table"
        " such as csf*, or none (default: motion acompcor, or the confounds of --model)",
    )
    seeds: tuple[str, ...] = option(
        DEFAULT_SEEDS,
        "--seeds SEED",
        f"seeds for the connectivity of runs without events: {', '.join(KNOWN)}, atlas labels,"
        " NAME=LABEL[,LABEL], NAME=x,y,z[,radius] in mm (MNI), or components",
    )
    seed_series: Literal["acquired", "own"] = option(
        "acquired",
        "--seed-series",
        "source of the seed time series: the acquired series, with the same seed time series for"
        " all maps (acquired), or the series that is used to compute each map (own)",
    )
    atlas: str = option(
        region_names.AAL2,
        "--atlas {NAME,FILE}",
        "atlas for --roi, --seeds and the cluster table: AAL2, an atlas in the TemplateFlow"
        " cache such as Schaefer2018:400Parcels7Networks, or a NIfTI label image with a .tsv"
        " table of the same name (columns index and name)",
    )
    roi: str = option(
        region_names.AUTO,
        "--roi {auto,brain,NAMES,FILE}",
        "region of interest for measuring activated regions: auto (determined from the"
        " task name), brain, motor, visual, auditory, atlas labels separated by commas, or a"
        " mask image",
        common=True,
    )
    overlap: tuple[str, ...] = option(
        (),
        "--overlap CONDITION",
        "draw the activated regions of two conditions (upper quarter of the range) in one figure"
        " and compute their Dice coefficient. auto: for runs with exactly two conditions"
        " (default: no figure)",
        decides=False,
    )
    draws_cc: bool = option(
        False,
        help="draw the cross-correlation maps in axial and sagittal planes",
        decides=False,
    )
    thresholds: tuple[str, ...] = option(
        THRESHOLDS,
        "--threshold {quarter,fdr,Z}",
        "thresholds that define activated regions: upper quarter of the range, false discovery"
        " rate of .05, or a z value",
    )

    def _check(self) -> None:
        self._each_once("contrasts", "kinds", "smoothing", "thresholds", "seeds", "confounds")
        self._need(
            NO_CONFOUNDS not in self.confounds or len(self.confounds) == 1,
            "confounds",
            f"{NO_CONFOUNDS} cannot be combined with other confounds",
        )
        self._need(
            bool(self.seeds), "seeds", "at least one seed, or components, must be specified"
        )
        self._need(
            COMPONENTS not in self.seeds or len(self.seeds) == 1,
            "seeds",
            "components cannot be combined with other seeds",
        )
        check_regions(self.atlas, self.roi, self.seeds)
        names = seed_names(seeds_of(self.seeds, with_anat=True, atlas=self.atlas))
        self._need(len(set(names)) == len(names), "seeds", "several seeds have the same name")
        self._need(bool(self.kinds), "kinds", "expected cc, glm or both")
        self._need(
            bool(self.smoothing),
            "smoothing",
            "at least one width must be specified; use 0 for no smoothing",
        )
        self._need(
            _are_distinct(self.smoothing),
            "smoothing",
            "two smoothing widths are equal after rounding to 0.1 mm",
        )
        is_above = self.low_pass is None or self.low_pass > self.high_pass
        self._need(
            is_above,
            "low_pass",
            "the low-pass frequency must be higher than the high-pass frequency",
        )
        self._need(
            not self.band_pass
            or (len(self.band_pass) == 2 and self.band_pass[0] < self.band_pass[1]),
            "band_pass",
            "two frequencies in ascending order are expected",
        )
        order = self.legendre_order
        self._need(
            self.drift == COSINE or (order is not None and 1 <= order <= _MOST_LEGENDRE),
            "drift",
            f"expected {COSINE}, or legendre:N with N between 1 and {_MOST_LEGENDRE}",
        )
        numbers = [
            threshold for threshold in self.thresholds if threshold not in ("quarter", "fdr")
        ]
        are_readable = all(re.fullmatch(r"\d+(\.\d+)?", number) for number in numbers)
        self._need(are_readable, "thresholds", "expected quarter, fdr or a z value such as 3.1")
        self._need(
            _are_distinct(map(float, numbers)),
            "thresholds",
            "two z values are equal after rounding to 0.1",
        )
        self._each_once("overlap")
        if self.overlap not in ((), (_AUTO,)):
            reason = "expected two different conditions, or auto"
            is_pair = len(self.overlap) == 2 and _AUTO not in self.overlap
            self._need(is_pair, "overlap", reason)
            reason = "the overlap of regions requires --activation cc and --threshold quarter"
            self._need(self.maps_quarter, "overlap", reason)

    @property
    def overlap_names(self) -> tuple[str, ...] | None:
        """Conditions whose overlap is drawn, or () for both conditions of runs with exactly two.

        The value is None if no overlap is drawn.
        """
        if not self.overlap or not self.maps_quarter:
            return None
        return () if self.overlap == (_AUTO,) else self.overlap

    @property
    def legendre_order(self) -> int | None:
        """Order of the drift polynomials; None for cosines."""
        match = re.fullmatch(r"legendre:(\d{1,3})", self.drift)
        return None if match is None else int(match[1])

    @property
    def models_time(self) -> bool:
        """Whether the models have regressors for censored volumes, a pass band or polynomials."""
        return bool(self.band_pass or self.legendre_order or self.fd_censor or self.enorm_censor)

    @property
    def cosine_cutoff(self) -> float:
        """Highest frequency (Hz) of the drift cosines; 0 if drift is modeled by other columns."""
        return 0.0 if self.band_pass or self.legendre_order else self.high_pass

    @property
    def correlation_cutoff(self) -> float | None:
        """Low-pass cutoff (Hz) of cross-correlation; None if off or if a pass band is given."""
        return None if self.band_pass else self.low_pass

    @property
    def maps_quarter(self) -> bool:
        """Whether regions in the upper quarter of the range of cross-correlation are computed."""
        return "cc" in self.kinds and "quarter" in self.thresholds


@frozen
class Evaluation(Checked):
    """Settings of the evaluation against high-resolution references and negative controls.

    A reference directory in `truth` excludes `retrospective`, which creates a reference. If
    `margin` is None, it is one tenth of the difference between B-spline interpolation and the
    measured series.
    """

    truth: str = option(
        "auto",
        "--truth {auto,none,DIR}",
        "high-resolution reference: dataset with the same runs acquired at the high resolution,"
        " or with their known activation. auto: derivatives/highres-reference or"
        " derivatives/ground-truth in the dataset, if available",
        decides=False,
        type=readers.folder,
    )
    retrospective: Literal["clean", "noisy"] | None = option(
        None,
        "--retrospective",
        "downsample the BOLD series by the super-resolution factor (default: 2), super-resolve"
        " the downsampled series and compare the result with the original series. noisy: also"
        " add thermal noise up to the noise level of the original series (default: clean)",
        common=True,
        nargs="?",
        const="clean",
    )
    compare: tuple[str, ...] = option(
        (),
        "--compare NAME=FILE",
        "evaluate a series that another program computed from the run, on the acquired or a"
        " finer grid, to test whether it is more accurate than the acquired series: NORDIC=FILE,"
        " or tedana=DIR or tedana=DIR:desc-LABEL for BIDS derivatives",
        decides=False,
        type=readers.named_file,
    )
    pair_holdout: bool = option(
        False,
        "--pair-holdout",
        "train on the first of two T2*w pairs and evaluate on the second pair",
        decides=False,
    )
    null_checks: bool = option(
        False,
        "--null-checks",
        "run negative controls (placebos) that replace one input of each method",
        decides=False,
    )
    roi_grow: bool = option(
        False,
        "--roi-grow",
        "extend the region of interest to include activation that crosses its border",
    )
    margin: float | None = option(
        None,
        "--margin VALUE",
        "equivalence margin for dimensionless group-level metrics such as correlations (default,"
        " also for all other metrics: one tenth of the difference between B-spline interpolation"
        " and the acquired high-resolution series)",
        decides=False,
        above=0,
    )
    protocol: str | None = option(
        None,
        "--protocol COLUMN",
        "acquisition protocol of structural scans, used to group the errors of quality metrics"
        " at the group level: a column of participants.tsv, such as scanner, or a sidecar field"
        " of the low-resolution scans, such as ManufacturersModelName (default: one group)",
        decides=False,
    )
    months: str | None = option(
        None,
        "--months COLUMN",
        "column with the number of months since baseline in the sub-*_sessions.tsv files. It is"
        " used to compute changes of tissue volumes over sessions at the group level of"
        " structural scans (default: computed from acq_time in sessions.tsv or scans.tsv)",
        decides=False,
    )
    group_permutations: int = option(
        0,
        "--group-permutations N",
        "correct group maps for multiple comparisons (family-wise error rate, two-sided) using"
        " the maximum |t| of N random sign flips, for example 5000 (default: no correction). At"
        " least 6 participants are required, and 6 MB of memory per run and, on each processor,"
        " per participant",
        decides=False,
        least=0,
    )

    def _check(self) -> None:
        reason = (
            "with this option, the original series is the high-resolution reference, so a"
            " reference directory cannot be specified in evaluation.truth (--truth)"
        )
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", reason)
        reason = (
            "series of other programs cannot be compared with a downsampled run; omit"
            " evaluation.retrospective"
        )
        self._need(not self.compare or self.retrospective is None, "compare", reason)

    @property
    def truth_dir(self) -> Path | None:
        """Reference directory; None if `truth` is ``auto`` or ``none``."""
        return None if self.truth in ("auto", "none") else Path(self.truth)


@frozen
class Resources(Checked):
    """Resources of the machine.

    None means all processors, one thread per node, and the available memory. The plugin file
    `use_plugin` is described in `bids_sr.config.plugin`.
    """

    nprocs: int | None = option(
        None,
        "--nprocs --n-procs --nthreads --n-cpus N",
        "maximum number of processors to use (default: all available processors)",
        common=True,
        decides=False,
        least=1,
    )
    omp_nthreads: int | None = option(
        None,
        "--omp-nthreads N",
        "maximum number of threads per step (default: 1, because steps run in parallel)",
        decides=False,
        least=1,
    )
    mem_gb: float | None = option(
        None,
        "--mem --mem-gb --mem-mb SIZE",
        "memory limit, such as 8G or 512M. A number without a unit is in GB, or in MB with"
        " --mem-mb (default: available memory)",
        common=True,
        decides=False,
        action=readers.Memory,
        type=str,
        above=0,
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "--device", "device for training and applying networks", decides=False
    )
    random_seed: int = option(
        0, "--random-seed N", "seed for the random number generators", least=0, most=2**32 - 1
    )
    use_plugin: Path | None = option(
        None,
        "--use-plugin --nipype-plugin-file FILE",
        "Nipype plugin file (YAML or TOML). With the SLURM plugin, each step is submitted as a"
        " job (default: steps run on this computer)",
        decides=False,
    )

    def _check(self) -> None:
        fits = self.omp_nthreads is None or self.nprocs is None or self.omp_nthreads <= self.nprocs
        reason = (
            "the number of threads per step cannot be larger than the number of processors"
            f" (nprocs is {self.nprocs})"
        )
        self._need(fits, "omp_nthreads", reason)


def sessions_option() -> int:
    """Return the field for the number of sessions per report, shared by all report commands."""
    return option(
        4,
        "--aggregate-session-reports N",
        "maximum number of sessions per report. If a participant has more sessions, one report"
        " is generated per session (default: 4)",
        decides=False,
        least=1,
    )


@frozen
class Run(Checked):
    """Settings of a single call: output files, reports and messages.

    Storage levels are described in `bids_sr.config.levels`. With `strict`, a run that cannot be
    processed stops the whole call. `verbosity` is 0 for stages, 1 for details and 2 for
    everything.
    """

    config_file: Path | None = option(
        None,
        "--config-file FILE",
        (
            "settings.toml file of an earlier run. Command-line options take precedence over"
            " this file"
        ),
        decides=False,
        once=True,
    )
    preset: str = option(
        "",
        "--preset NAME",
        "settings of a published analysis. Options on the command line take precedence over the"
        f" preset: {'; '.join(f'{preset.name} ({preset.title})' for preset in PRESETS.values())}",
        decides=False,
        once=True,
    )
    level: StorageLevel = option(
        "standard",
        "--level",
        "files to save: minimal (series, confounds, report, tables), standard (also maps of raw,"
        " bspline, the methods and measured), or full (also maps and series of all baselines)."
        " The results themselves do not depend on this option",
        decides=False,
    )
    boilerplate_only: bool = option(
        False,
        "--boilerplate-only",
        "generate only the methods text (citation boilerplate). Training that has not finished"
        " in an earlier call with the same settings is described in the future tense",
        decides=False,
        once=True,
    )
    md_only_boilerplate: bool = option(
        False,
        "--md-only-boilerplate",
        "generate the methods text as Markdown and BibTeX files, without HTML",
        decides=False,
    )
    clean_workdir: bool = option(
        False,
        "--clean-workdir",
        "before processing, remove steps of the selected participants that earlier runs left in"
        " the working directory",
        decides=False,
        once=True,
    )
    keep_series: bool = option(
        False,
        "--keep-series",
        "keep series larger than 0.25 GB in the working directory after all steps have used"
        " them. Otherwise, these series are recomputed if the program is run again with other"
        " settings",
        decides=False,
    )
    reports_only: bool = option(
        False,
        "--reports-only",
        "regenerate only the reports of completed participants, without processing",
        decides=False,
        once=True,
    )
    aggregate_session_reports: int = sessions_option()
    strict: bool = option(
        False,
        "--strict",
        "stop before processing if any run cannot be processed (default: such runs are skipped)",
        decides=False,
    )
    stop_on_first_crash: bool = option(
        False,
        "--stop-on-first-crash",
        (
            "stop as soon as a step crashes (default: run all steps that do not depend on the"
            " crashed step)"
        ),
        decides=False,
    )
    sloppy: bool = option(
        False, "--sloppy", "use low-quality settings for speed (for testing only)"
    )
    verbosity: int = option(
        0,
        "-v --verbose",
        "increase the verbosity of the console output; can be used twice",
        decides=False,
        action="count",
        least=0,
    )
    log_format: Literal["text", "json"] = option(
        "text",
        "--log-format",
        "format of the console output: text, or JSON lines with notices and progress",
        decides=False,
        once=True,
    )
    dry_run: bool = option(
        False,
        "--dry-run",
        "check the inputs, print the planned processing with estimates of time, memory and disk"
        " space, and exit without processing",
        common=True,
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    graph: bool = option(
        False,
        "--graph",
        (
            "print the inputs and outputs of all steps in addition to the output of --dry-run,"
            " and exit"
        ),
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    run_uuid: str = option(
        "", help="name of the log directory of this call", decides=False, once=True
    )
    without_effect: tuple[tuple[str, ...], ...] = option(
        (),
        help="options that were specified but had no effect, with the reason",
        decides=False,
        once=True,
    )

    def _check(self) -> None:
        self._need(
            not (self.boilerplate_only and self.reports_only),
            "boilerplate_only",
            "boilerplate_only cannot be combined with reports_only",
        )
        if self.preset:
            find_preset(self.preset)


def _are_distinct(values: Iterable[float]) -> bool:
    """Return whether values differ after rounding to tenths, as in file names."""
    tenths = [round(value * 10) for value in values]
    return len(set(tenths)) == len(tenths)
