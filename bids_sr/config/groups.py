"""Settings by group, with all defaults and checks.

Every default is defined here and nowhere else, and every value is checked on creation.

A value that cannot hold is refused with a `UsageError` when the object is built, whether it came
from the command line, from a settings file or from Python.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bids_sr import region_names
from bids_sr.config import section
from bids_sr.config.presets import PRESETS, find_preset
from bids_sr.config.section import (
    SMOOTHING,
    THRESHOLDS,
    Checked,
    Level,
    SettingError,
    is_label,
    option,
)
from bids_sr.config.spaces import (
    COMPONENTS,
    DEFAULT_SEEDS,
    FUNC,
    KNOWN,
    Space,
    check_regions,
    parse_spaces,
    seed_names,
    seeds_of,
)
from bids_sr.frozen import frozen

WHICH_DATA, HOW_IT_RUNS = "which data", "how it runs"
"""Headings of the help under which options of several groups stand."""
COSINE = "cosine"
_MOST_LEGENDRE = 20
_AUTO = "auto"  # --overlap of the two conditions of a run that has no others


@frozen
class Selection(Checked):
    """Which part of the data set is worked on; empty means everything. Labels carry no prefix."""

    analysis_level: Literal["participant", "group"] = option(
        "participant",
        "{participant,group}",
        "participant: each run; group: statistics over the participants in output_dir",
        decides=False,
        once=True,
    )
    participant_label: tuple[str, ...] = option(
        (),
        "--participant-label --participant-labels LABEL",
        "participants, separated by spaces or commas, or @FILE that lists them (default: all)",
        common=True,
        decides=False,
        type=section.labels,
    )
    session_label: tuple[str, ...] = option(
        (),
        "--session-label --session-id LABEL",
        "sessions (default: all)",
        decides=False,
        type=section.labels,
    )
    task_id: tuple[str, ...] = option(
        (),
        "-t --task-id TASK",
        "tasks (default: all)",
        common=True,
        decides=False,
        type=section.labels,
    )
    run_id: tuple[int, ...] = option(
        (), "--run-id N", "runs (default: all)", decides=False, type=section.run_number, least=0
    )
    bids_filter_file: Path | None = option(
        None,
        "--bids-filter-file FILE",
        "JSON file with pybids filters for bold, t2starw, t1w, t2w and flair; filters for other"
        " images, such as fmap, have no effect",
        decides=False,
    )
    bids_database_dir: Path | None = option(
        None, "--bids-database-dir DIR", "pybids database of a large dataset", decides=False
    )
    skip_bids_validation: bool = option(
        False,
        "--skip-bids-validation",
        "do not run the BIDS validator on the input",
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
                why = (
                    f"{label!r} is not a valid BIDS label (letters, digits and +). Separate"
                    " several labels by spaces or commas."
                )
                self._need(is_label(label), name, why)
        self._set("run_id", tuple(dict.fromkeys(self.run_id)))


@frozen
class Preprocessing(Checked):
    """Settings before super-resolution.

    `dummy_scans` None: detected. `slice_time_ref` is a fraction of the slice acquisition range.

    `input_smoothing`: FWHM (mm) of a Gaussian before super-resolution and interpolation; 0 for
    none. `echo`: of multi-echo runs the one that is used alone; None: they are combined.
    `derivatives` are folders that another program left, as ``NAME=DIR`` or ``DIR``; what is in
    them is not made again.
    """

    dummy_scans: int | None = option(
        None,
        "--dummy-scans N",
        "non-steady-state volumes at the start (default: detected)",
        least=0,
    )
    derivatives: tuple[str, ...] = option(
        (),
        "-d --derivatives NAME=DIR",
        "output of fMRIPrep (fmriprep=DIR, or DIR): anatomical images, masks, transforms, head"
        " motion, field maps and confounds are taken from it instead of computed",
        common=True,
        decides=False,
    )
    echo: int | None = option(
        None,
        "--echo-idx N",
        "use only this echo of a multi-echo run (default: optimal combination of all)",
        least=1,
    )
    slice_time_ref: float = option(
        0.5,
        "--slice-time-ref FRACTION",
        "time to which slice timing is corrected, as a fraction of the slice acquisition range: 0"
        " or start (first slice), 0.5 or middle (default), 1 (last slice)",
        type=section.fraction,
        least=0,
        most=1,
    )
    fd_spike_threshold: float = option(
        0.5,
        "--fd-spike-threshold MM",
        "framewise displacement above which a volume is a motion outlier (confounds)",
        above=0,
    )
    dvars_spike_threshold: float = option(
        1.5,
        "--dvars-spike-threshold VALUE",
        "standardized DVARS above which a volume is a motion outlier (confounds)",
        above=0,
    )
    return_all_components: bool = option(
        False,
        "--return-all-components",
        "store all CompCor components in the confounds, instead of those that explain half of the"
        " variance",
    )
    ignore: tuple[
        Literal["slicetiming", "events", "fieldmaps", "sbref", "t2w", "flair", "fmap-jacobian"],
        ...,
    ] = option(
        (),
        "--ignore",
        "slicetiming: skip slice-timing correction; events: treat the runs as resting state. The"
        " other values of fMRIPrep are accepted and have no effect.",
    )
    input_smoothing: float = option(
        0.0,
        "--input-smoothing MM",
        "FWHM (mm) of a Gaussian on the acquired series before super-resolution and every"
        " interpolation, as in Ota et al. 2022; --smoothing of the maps is applied in addition"
        " (default: 0, none)",
        least=0,
        most=50,
    )
    output_spaces: tuple[str, ...] = option(
        (FUNC,),
        "--output-spaces SPACE",
        "spaces of the super-resolved series and the maps: func, T1w, templates such as"
        " MNI152NLin2009cAsym:res-2; only for the maps: fsnative, fsaverage:den-10k",
        common=True,
        decides=False,
    )
    output_dtype: Literal["int16", "float32"] = option(
        "int16", "--output-dtype", "data type of the stored series", decides=False
    )

    def _check(self) -> None:
        self._each_once("derivatives")
        for text in self.derivatives:
            self._need(
                bool(text.strip()) and not text.endswith("="),
                "derivatives",
                "the directory is missing; expected NAME=DIR, or DIR",
            )
        try:
            parse_spaces(self.output_spaces)
        except ValueError as error:
            fix = "write spaces as func T1w MNI152NLin2009cAsym:res-2"
            given = " ".join(self.output_spaces)
            raise SettingError("preprocessing.output_spaces", given, str(error), fix) from error

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces that results are asked for in; none was named: that of the run alone."""
        return parse_spaces(self.output_spaces) or (Space(name=FUNC),)

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates among them, each once, as transforms name them."""
        return tuple(dict.fromkeys(each.template for each in self.spaces if each.is_template))


NO_CONFOUNDS = "none"  # value of --confounds


@frozen
class Activation(Checked):
    """Settings of activation maps.

    `smoothing` is FWHM in mm; `low_pass` (CC path only) and `high_pass` are in Hz.

    `low_pass` None switches the filter off. `band_pass` (Hz) takes the place of both; `fd_censor`
    (mm) and `enorm_censor` (mm and degrees) are None if no volume is censored. `contrasts` empty:
    see `bids_sr.glm.contrasts.resolve_contrasts`. `roi`: auto, brain, names of regions joined by
    commas, or a file; see `bids_sr.region_names`. `seeds`: of the connectivity maps of runs
    without events, see `bids_sr.config.spaces`. `draws_cc`: true if the command line names cc;
    without it, maps of cross-correlation are drawn if there are no others, or if a network is
    trained as published.
    """

    contrasts: tuple[str, ...] = option(
        (),
        "--contrasts EXPR",
        "such as thumb, thumb-little, all, name=0.5*a-0.5*b (default: each type, all, and"
        " comparisons of up to eight)",
    )
    stats_model: Path | None = option(
        None,
        "--model FILE",
        "BIDS Stats Model (JSON); contrasts and confounds of the run level are used",
    )
    kinds: tuple[Literal["cc", "glm"], ...] = option(
        ("cc", "glm"), "--activation", "cross-correlation with the design, general linear model"
    )
    smoothing: tuple[float, ...] = option(
        SMOOTHING,
        "--smoothing MM",
        "FWHM in mm, 0 for none; paper means 3.5 13.2",
        type=section.widths,
        least=0,
        most=50,
    )
    low_pass: float | None = option(
        0.1,
        "--low-pass HZ",
        "low-pass cut-off of the cross-correlation (Hz), or none",
        type=section.frequency,
    )
    high_pass: float = option(
        1 / 128,
        "--high-pass HZ",
        "high-pass cut-off of the GLM (Hz), or none",
        type=lambda text: section.frequency(text) or 0.0,
        least=0,
    )
    band_pass: tuple[float, ...] = option(
        (),
        "--band-pass HZ",
        "LOW HIGH: pass band (Hz) of all models and of the cross-correlation, applied by"
        " regressors; replaces --high-pass and --low-pass",
        above=0,
    )
    drift: str = option(
        COSINE,
        "--drift {cosine,legendre:N}",
        "drift model of the GLM: cosines up to --high-pass, or Legendre polynomials up to order N",
    )
    fd_censor: float | None = option(
        None,
        "--fd-censor MM",
        "framewise displacement above which a volume is censored, that is, excluded from all"
        " models (default: no censoring)",
        above=0,
    )
    enorm_censor: float | None = option(
        None,
        "--enorm-censor VALUE",
        "Euclidean norm of the motion derivatives (mm, degrees) at or above which a volume is"
        " censored, such as .3 (default: no censoring)",
        above=0,
    )
    confounds: tuple[str, ...] = option(
        (),
        "--confounds NAME",
        "confounds of the linear models and the seeds: motion (six parameters, derivatives),"
        " acompcor (five components), columns of the table of confounds such as csf*, or none"
        " (default: motion acompcor, or the confounds of --model)",
    )
    seeds: tuple[str, ...] = option(
        DEFAULT_SEEDS,
        "--seeds SEED",
        f"connectivity of runs without events: {', '.join(KNOWN)}, labels of the atlas,"
        " NAME=LABEL[,LABEL], NAME=x,y,z[,radius] in mm (MNI), or components",
    )
    seed_series: Literal["acquired", "own"] = option(
        "acquired",
        "--seed-series",
        "source of the time series of a seed: acquired (one time series for all maps), or own"
        " (for each map, extracted from the series of the map)",
    )
    atlas: str = option(
        region_names.AAL2,
        "--atlas {NAME,FILE}",
        "atlas for --roi, --seeds and the table of clusters: AAL2, an atlas in TemplateFlow's"
        " cache such as Schaefer2018:400Parcels7Networks, or a NIfTI label image with a table"
        " (columns index, name) of the same name as .tsv",
    )
    roi: str = option(
        region_names.AUTO,
        "--roi {auto,brain,NAMES,FILE}",
        "region of interest for measuring activated regions: auto (by the name of the"
        " task), brain, motor, visual, auditory, labels of the atlas separated by commas, or a"
        " mask",
        common=True,
    )
    overlap: tuple[str, ...] = option(
        (),
        "--overlap CONDITION",
        "draw the regions of two conditions (upper quarter) in one image, with their Dice"
        " coefficient; auto: for runs with exactly two conditions (default: not drawn)",
        decides=False,
    )
    draws_cc: bool = option(
        False,
        help="draw maps of the cross-correlation in axial and sagittal planes",
        decides=False,
    )
    thresholds: tuple[str, ...] = option(
        THRESHOLDS,
        "--threshold {quarter,fdr,Z}",
        "regions: upper quarter of the range, false discovery rate .05, or a value of z",
    )

    def _check(self) -> None:
        self._each_once("contrasts", "kinds", "smoothing", "thresholds", "seeds", "confounds")
        self._need(
            NO_CONFOUNDS not in self.confounds or len(self.confounds) == 1,
            "confounds",
            f"{NO_CONFOUNDS} cannot be combined with other confounds",
        )
        self._need(bool(self.seeds), "seeds", "expected at least one seed, or components")
        self._need(
            COMPONENTS not in self.seeds or len(self.seeds) == 1,
            "seeds",
            "components cannot be combined with seeds",
        )
        check_regions(self.atlas, self.roi, self.seeds)
        names = seed_names(seeds_of(self.seeds, with_anat=True, atlas=self.atlas))
        self._need(len(set(names)) == len(names), "seeds", "two seeds have the same name")
        self._need(bool(self.kinds), "kinds", "expected cc, glm or both")
        self._need(
            bool(self.smoothing), "smoothing", "expected at least one width (0 for no smoothing)"
        )
        self._need(
            _apart(self.smoothing), "smoothing", "two widths are equal when rounded to 0.1 mm"
        )
        above = self.low_pass is None or self.low_pass > self.high_pass
        self._need(above, "low_pass", "expected a frequency above the high-pass frequency")
        self._need(
            not self.band_pass
            or (len(self.band_pass) == 2 and self.band_pass[0] < self.band_pass[1]),
            "band_pass",
            "expected two frequencies, the lower first",
        )
        order = self.legendre_order
        self._need(
            self.drift == COSINE or (order is not None and 1 <= order <= _MOST_LEGENDRE),
            "drift",
            f"expected {COSINE}, or legendre:N with N from 1 to {_MOST_LEGENDRE}",
        )
        numbers = [
            threshold for threshold in self.thresholds if threshold not in ("quarter", "fdr")
        ]
        readable = all(re.fullmatch(r"\d+(\.\d+)?", number) for number in numbers)
        self._need(readable, "thresholds", "expected quarter, fdr or a value of z such as 3.1")
        self._need(
            _apart(map(float, numbers)),
            "thresholds",
            "two values of z are equal when rounded to 0.1",
        )
        self._each_once("overlap")
        if self.overlap not in ((), (_AUTO,)):
            why = "expected two different conditions, or auto"
            two = len(self.overlap) == 2 and _AUTO not in self.overlap
            self._need(two, "overlap", why)
            why = "needs the regions of --activation cc and --threshold quarter"
            self._need(self.maps_quarter, "overlap", why)

    @property
    def overlap_names(self) -> tuple[str, ...] | None:
        """The two conditions whose regions are drawn, or () for the two of a run that has no more.

        None if no overlap is drawn.
        """
        if not self.overlap or not self.maps_quarter:
            return None
        return () if self.overlap == (_AUTO,) else self.overlap

    @property
    def legendre_order(self) -> int | None:
        """Order of the polynomials that model drift; None for cosines."""
        found = re.fullmatch(r"legendre:(\d{1,3})", self.drift)
        return None if found is None else int(found[1])

    @property
    def models_time(self) -> bool:
        """Whether the models have regressors of censored volumes, a pass band or polynomials."""
        return bool(self.band_pass or self.legendre_order or self.fd_censor or self.enorm_censor)

    @property
    def cosine_cutoff(self) -> float:
        """Highest frequency (Hz) of the cosines that model drift; 0 if other columns do."""
        return 0.0 if self.band_pass or self.legendre_order else self.high_pass

    @property
    def correlation_cutoff(self) -> float | None:
        """Low-pass cut-off (Hz) of cross-correlation; None if off or if a pass band is given."""
        return None if self.band_pass else self.low_pass

    @property
    def maps_quarter(self) -> bool:
        """Whether regions in the upper quarter of the range of CC are made."""
        return "cc" in self.kinds and "quarter" in self.thresholds


@frozen
class Evaluation(Checked):
    """What tells whether the finer maps are true.

    `truth`: high-resolution reference, a folder (excludes `retrospective`, which makes one), auto
    (in the data), none. `null_checks`: whether placebos are made. `margin`: of the equivalence
    test; None: a tenth of B-spline to measured. `protocol`: column or sidecar key of
    the acquisition protocol of structural scans.
    """

    truth: str = option(
        "auto",
        "--truth {auto,none,DIR}",
        "high-resolution reference: dataset with the same runs measured at the high resolution,"
        " or with their known activation; auto uses derivatives/highres-reference or"
        " derivatives/ground-truth of the dataset, if present",
        decides=False,
        type=section.folder,
    )
    retrospective: Literal["clean", "noisy"] | None = option(
        None,
        "--retrospective",
        "downsample the BOLD series by the factor (default 2), super-resolve the result and"
        " compare it with the original; noisy also adds thermal noise up to the level of the"
        " original (default: clean)",
        common=True,
        nargs="?",
        const="clean",
    )
    compare: tuple[str, ...] = option(
        (),
        "--compare NAME=FILE",
        "evaluate a series that another program computed from the run, on the acquired or a finer"
        " grid: is it more accurate than the acquired series? NORDIC=FILE; tedana=DIR or"
        " tedana=DIR:desc-LABEL of BIDS derivatives",
        decides=False,
        type=section.named_file,
    )
    pair_holdout: bool = option(
        False,
        "--pair-holdout",
        "with two T2*w pairs, train on the first and evaluate on the second",
        decides=False,
    )
    null_checks: bool = option(
        False,
        "--null-checks",
        "run negative controls (placebos): each method with one of its inputs replaced",
        decides=False,
    )
    roi_grow: bool = option(
        False,
        "--roi-grow",
        "extend the region of interest to activation that crosses its border",
    )
    margin: float | None = option(
        None,
        "--margin VALUE",
        "equivalence margin at the group level for dimensionless metrics, such as correlations"
        " (default, and for all other metrics: a tenth of the difference between B-spline and"
        " measured)",
        decides=False,
        above=0,
    )
    protocol: str | None = option(
        None,
        "--protocol COLUMN",
        "acquisition protocol of structural scans at the group level; errors of quality metrics"
        " are grouped by it: a column of participants.tsv, such as scanner, or a key of the"
        " sidecars of the low-resolution scans, such as ManufacturersModelName (default: one"
        " group)",
        decides=False,
    )
    months: str | None = option(
        None,
        "--months COLUMN",
        "column of the sub-*_sessions.tsv files with the months since baseline, for the change of"
        " tissue volumes over sessions at the group level of structural scans (default: from the"
        " dates in acq_time of sessions.tsv or scans.tsv)",
        decides=False,
    )
    group_permutations: int = option(
        0,
        "--group-permutations N",
        "also correct group maps for multiple comparisons (family-wise, two-sided) by the largest"
        " |t| of N random sign flips, such as 5000 (default: no correction); needs 6"
        " participants, and 6 MB of memory per run and, on each processor, per participant",
        decides=False,
        least=0,
    )

    def _check(self) -> None:
        why = (
            "the original series is the reference, so this option cannot be combined with a"
            " directory in evaluation.truth (--truth)"
        )
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", why)
        why = (
            "a series of the run cannot be compared with the downsampled run; omit"
            " evaluation.retrospective"
        )
        self._need(not self.compare or self.retrospective is None, "compare", why)

    @property
    def truth_dir(self) -> Path | None:
        """The folder that `truth` names."""
        return None if self.truth in ("auto", "none") else Path(self.truth)


@frozen
class Resources(Checked):
    """What the machine gives. None: all processors, one thread a node, the memory that is free.

    `use_plugin` is a file that says how nodes become jobs of a cluster, see
    `bids_sr.config.machine`.
    """

    nprocs: int | None = option(
        None,
        "--nprocs --n-procs --nthreads --n-cpus N",
        "processors (default: all)",
        common=True,
        decides=False,
        least=1,
    )
    omp_nthreads: int | None = option(
        None,
        "--omp-nthreads N",
        "threads per step (default: 1; steps run in parallel)",
        decides=False,
        least=1,
    )
    mem_gb: float | None = option(
        None,
        "--mem --mem-gb --mem-mb SIZE",
        "memory limit, such as 8G or 512M; a number without unit is in GB, with --mem-mb in MB"
        " (default: free memory)",
        common=True,
        decides=False,
        action=section.Memory,
        type=str,
        above=0,
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "--device", "device for the networks", decides=False
    )
    random_seed: int = option(
        0, "--random-seed N", "seed of all random numbers", least=0, most=2**32 - 1
    )
    use_plugin: Path | None = option(
        None,
        "--use-plugin --nipype-plugin-file FILE",
        "Nipype plugin file (YAML or TOML); with SLURM, each step is a job (default: steps run on"
        " this computer)",
        decides=False,
    )

    def _check(self) -> None:
        fits = self.omp_nthreads is None or self.nprocs is None or self.omp_nthreads <= self.nprocs
        why = f"a step cannot use more threads than there are processors (nprocs is {self.nprocs})"
        self._need(fits, "omp_nthreads", why)


def sessions_option() -> int:
    """Of all commands that write reports, as a field has it."""
    return option(
        4,
        "--aggregate-session-reports N",
        "largest number of sessions in one report; with more sessions, one report per session"
        " (default: 4)",
        decides=False,
        least=1,
    )


@frozen
class Run(Checked):
    """How this one call runs, what it stores and what it tells.

    `level`: see `bids_sr.config.section`. `strict`: one run that cannot be done stops all.
    `verbosity`: 0 stages, 1 details, 2 everything.
    """

    config_file: Path | None = option(
        None,
        "--config-file FILE",
        "settings.toml of an earlier run; the command line has precedence",
        decides=False,
        once=True,
    )
    preset: str = option(
        "",
        "--preset NAME",
        "settings of a published analysis; options that you specify have precedence:"
        f" {'; '.join(f'{each.name} ({each.title})' for each in PRESETS.values())}",
        decides=False,
        once=True,
    )
    level: Level = option(
        "standard",
        "--level",
        "stored files: minimal (series, confounds, report, tables), standard (also maps of raw,"
        " bspline, the methods and measured), full (also maps and series of all baselines);"
        " results do not depend on it",
        decides=False,
    )
    boilerplate_only: bool = option(
        False,
        "--boilerplate-only",
        "write the methods text and stop; trainings that have not finished in an earlier call"
        " with the same settings are described in the future tense",
        decides=False,
        once=True,
    )
    md_only_boilerplate: bool = option(
        False,
        "--md-only-boilerplate",
        "write the methods text as Markdown and BibTeX, not as HTML",
        decides=False,
    )
    clean_workdir: bool = option(
        False,
        "--clean-workdir",
        "first remove the steps of the participants that earlier runs left in the working"
        " directory",
        decides=False,
        once=True,
    )
    keep_series: bool = option(
        False,
        "--keep-series",
        "keep series above 0.25 GB in the working directory after all steps have read them;"
        " otherwise a call with other settings recomputes them",
        decides=False,
    )
    reports_only: bool = option(
        False,
        "--reports-only",
        "rebuild the reports of finished outputs",
        decides=False,
        once=True,
    )
    aggregate_session_reports: int = sessions_option()
    strict: bool = option(
        False,
        "--strict",
        "stop before processing if a run cannot be processed, instead of skipping the run",
        decides=False,
    )
    stop_on_first_crash: bool = option(
        False,
        "--stop-on-first-crash",
        "stop at the first crash instead of running the remaining steps",
        decides=False,
    )
    sloppy: bool = option(False, "--sloppy", "low quality, for tests only")
    verbosity: int = option(
        0, "-v --verbose", "print more; can be used twice", decides=False, action="count", least=0
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
        "check the inputs, show what would run with estimates of time, memory and disk space, and"
        " stop",
        common=True,
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    graph: bool = option(
        False,
        "--graph",
        "as --dry-run, and print the inputs and outputs of all steps",
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    run_uuid: str = option(
        "", help="name of the log directory of the call", decides=False, once=True
    )
    without_effect: tuple[tuple[str, ...], ...] = option(
        (),
        help="options that were specified but have no effect, with the reason",
        decides=False,
        once=True,
    )

    def _check(self) -> None:
        self._need(
            not (self.boilerplate_only and self.reports_only),
            "boilerplate_only",
            "cannot be combined with reports_only",
        )
        if self.preset:
            find_preset(self.preset)


def _apart(values: Iterable[float]) -> bool:
    """Whether values differ in tenths, which is what names of files hold of them."""
    tenths = [round(value * 10) for value in values]
    return len(set(tenths)) == len(tenths)
