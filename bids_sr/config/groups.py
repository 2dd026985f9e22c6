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
        "JSON with pybids filters for bold, t2starw, t1w, t2w, flair; others, such as fmap, have"
        " no effect",
        decides=False,
    )
    bids_database_dir: Path | None = option(
        None, "--bids-database-dir DIR", "pybids database of a large data set", decides=False
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
                    f"{label!r} is no BIDS label: letters, digits and +, several of them separated"
                    " by spaces or commas"
                )
                self._need(is_label(label), name, why)
        self._set("run_id", tuple(dict.fromkeys(self.run_id)))


@frozen
class Preprocessing(Checked):
    """Settings before super-resolution.

    `dummy_scans` None: detected. `slice_time_ref` is a fraction of the slice acquisition range.

    `echo`: of multi-echo runs the one that is used alone; None: they are combined.
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
        "output of fMRIPrep (fmriprep=DIR, or DIR): its anatomy, masks, transforms, head motion,"
        " field maps and confounds are used instead of computed",
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
        "moment to which slice timing is corrected, as a fraction of the slice acquisition range:"
        " 0 or start is the first slice, 0.5 or middle (default) the middle, 1 the last slice",
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
        "all components of CompCor in the confounds, not only those that explain half of the"
        " variance",
    )
    ignore: tuple[
        Literal["slicetiming", "events", "fieldmaps", "sbref", "t2w", "flair", "fmap-jacobian"],
        ...,
    ] = option(
        (),
        "--ignore",
        "slicetiming: do not correct it; events: treat the run as resting state; the others are"
        " fMRIPrep's and have no effect",
    )
    output_spaces: tuple[str, ...] = option(
        (FUNC,),
        "--output-spaces SPACE",
        "spaces of the super-resolved series and the maps: func, T1w, templates such as"
        " MNI152NLin2009cAsym:res-2; of the maps alone: fsnative, fsaverage:den-10k",
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
                "it names no folder; write NAME=DIR, or DIR alone",
            )
        try:
            parse_spaces(self.output_spaces)
        except ValueError as error:
            fix = "name spaces as func T1w MNI152NLin2009cAsym:res-2"
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
        "BIDS Stats Model (JSON) of the run level, for its contrasts and confounds",
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
        "LOW HIGH: pass band (Hz) of all models and of the cross-correlation, by regressors; in"
        " place of --high-pass and --low-pass",
        above=0,
    )
    drift: str = option(
        COSINE,
        "--drift {cosine,legendre:N}",
        "slow drift of the GLM: cosines up to --high-pass, or Legendre polynomials up to order N",
    )
    fd_censor: float | None = option(
        None,
        "--fd-censor MM",
        "censor volumes with a framewise displacement above this; no model uses them (default:"
        " none)",
        above=0,
    )
    enorm_censor: float | None = option(
        None,
        "--enorm-censor VALUE",
        "censor volumes whose motion derivatives (mm, degrees) have at least this Euclidean norm,"
        " such as .3 (default: none)",
        above=0,
    )
    confounds: tuple[str, ...] = option(
        (),
        "--confounds NAME",
        "confounds of the linear models and the seeds: motion (six parameters, derivatives),"
        " acompcor (five components), columns of the table of confounds such as csf*, or none"
        " (default: motion acompcor, or those of --model)",
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
        "series from which the time series of a seed is extracted: acquired (one for all maps), or"
        " own (each map has that of its own series)",
    )
    atlas: str = option(
        region_names.AAL2,
        "--atlas {NAME,FILE}",
        "labels of the brain for --roi, --seeds and the table of clusters: AAL2, an atlas in"
        " TemplateFlow's cache such as Schaefer2018:400Parcels7Networks, or a NIfTI file with its"
        " table (index, name) beside it as .tsv",
    )
    roi: str = option(
        region_names.AUTO,
        "--roi {auto,brain,NAMES,FILE}",
        "where regions are measured: auto (by the task's name), brain, motor, visual, auditory,"
        " labels of the atlas joined by commas, or a mask",
        common=True,
    )
    overlap: tuple[str, ...] = option(
        (),
        "--overlap CONDITION",
        "draw the regions of two conditions (upper quarter) in one image, with their Dice"
        " coefficient; auto: of runs with exactly two conditions (default: not drawn)",
        decides=False,
    )
    draws_cc: bool = option(
        False,
        help="whether maps of cross-correlation are drawn in axial and sagittal planes",
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
            f"{NO_CONFOUNDS} stands alone",
        )
        self._need(bool(self.seeds), "seeds", "at least one seed is needed, or `components`")
        self._need(
            COMPONENTS not in self.seeds or len(self.seeds) == 1, "seeds", "components stand alone"
        )
        check_regions(self.atlas, self.roi, self.seeds)
        names = seed_names(seeds_of(self.seeds, with_anat=True, atlas=self.atlas))
        self._need(len(set(names)) == len(names), "seeds", "two seeds have one name")
        self._need(bool(self.kinds), "kinds", "at least one of cc and glm is needed")
        self._need(bool(self.smoothing), "smoothing", "at least one width is needed; 0 is none")
        self._need(
            _apart(self.smoothing), "smoothing", "two widths are alike in tenths of a millimeter"
        )
        above = self.low_pass is None or self.low_pass > self.high_pass
        self._need(above, "low_pass", "it must lie above the high-pass frequency")
        self._need(
            not self.band_pass
            or (len(self.band_pass) == 2 and self.band_pass[0] < self.band_pass[1]),
            "band_pass",
            "two frequencies are needed, the lower one first",
        )
        order = self.legendre_order
        self._need(
            self.drift == COSINE or (order is not None and 1 <= order <= _MOST_LEGENDRE),
            "drift",
            f"it is {COSINE}, or legendre:N with N from 1 to {_MOST_LEGENDRE}",
        )
        numbers = [
            threshold for threshold in self.thresholds if threshold not in ("quarter", "fdr")
        ]
        readable = all(re.fullmatch(r"\d+(\.\d+)?", number) for number in numbers)
        self._need(
            readable, "thresholds", "a threshold is quarter, fdr or a value of z such as 3.1"
        )
        self._need(
            _apart(map(float, numbers)), "thresholds", "two values of z are alike in tenths"
        )
        self._each_once("overlap")
        if self.overlap not in ((), (_AUTO,)):
            why = "two different conditions are needed, or auto alone"
            two = len(self.overlap) == 2 and _AUTO not in self.overlap
            self._need(two, "overlap", why)
            why = "it draws regions that --activation cc and --threshold quarter make"
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
        "high-resolution reference: data set with the same runs measured at the high resolution,"
        " or with their known activation; auto finds derivatives/highres-reference and"
        " derivatives/ground-truth in the data set",
        decides=False,
        type=section.folder,
    )
    retrospective: Literal["clean", "noisy"] | None = option(
        None,
        "--retrospective",
        "downsample the BOLD series by the factor (default 2), super-resolve it and compare with"
        " the original; noisy also adds thermal noise up to the original level (default: clean)",
        common=True,
        nargs="?",
        const="clean",
    )
    compare: tuple[str, ...] = option(
        (),
        "--compare NAME=FILE",
        "judge a series that another program made of the run, on the acquired or a finer grid: is"
        " it more accurate than the acquired one? NORDIC=FILE; tedana=DIR or tedana=DIR:desc-LABEL"
        " of BIDS derivatives",
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
        "run control analyses (placebos): each method with one of its inputs replaced",
        decides=False,
    )
    roi_grow: bool = option(
        False,
        "--roi-grow",
        "extend the region of interest to adjacent activation that its border cuts off",
    )
    margin: float | None = option(
        None,
        "--margin VALUE",
        "equivalence margin at the group level for dimensionless metrics, such as correlations "
        "(default, and for all others: a tenth of the gap between B-spline and measured)",
        decides=False,
        above=0,
    )
    protocol: str | None = option(
        None,
        "--protocol COLUMN",
        "acquisition protocol of structural scans at the group level, by which errors of quality"
        " metrics are grouped: a column of participants.tsv, such as scanner, or a key of the"
        " low-resolution scans' sidecars, such as ManufacturersModelName (default: one group)",
        decides=False,
    )
    group_permutations: int = option(
        0,
        "--group-permutations N",
        "also correct each group map for all voxels (family-wise, two-sided) by the largest t of N"
        " random sign flips, such as 5000 (default: none); needs 6 participants, and memory of"
        " 6 MB for each run and, on each processor, for each participant",
        decides=False,
        least=0,
    )

    def _check(self) -> None:
        why = "it makes its own truth, so it excludes a folder of evaluation.truth (--truth)"
        self._need(self.truth_dir is None or self.retrospective is None, "retrospective", why)
        why = (
            "a series of the run cannot be held against its downsampled copy; leave out"
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
        "memory limit: 8G, 512M; a bare number is in GB, that of --mem-mb in MB (default: free"
        " memory)",
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
        "Nipype's YAML file, or TOML; with SLURM each step becomes a job (default: steps run on"
        " this machine)",
        decides=False,
    )

    def _check(self) -> None:
        fits = self.omp_nthreads is None or self.nprocs is None or self.omp_nthreads <= self.nprocs
        why = (
            "one step cannot take more threads than there are processors (nprocs is"
            f" {self.nprocs})"
        )
        self._need(fits, "omp_nthreads", why)


def sessions_option() -> int:
    """Of all commands that write reports, as a field has it."""
    return option(
        4,
        "--aggregate-session-reports N",
        "sessions of a participant in one report; with more, each has its own (default: 4)",
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
        "settings of a published analysis, where no option is given:"
        f" {'; '.join(f'{each.name} ({each.title})' for each in PRESETS.values())}",
        decides=False,
        once=True,
    )
    level: Level = option(
        "standard",
        "--level",
        "files that are stored: minimal (series, confounds, report, tables), standard (also maps"
        " of raw, bspline, the methods and measured), full (also maps and series of all"
        " baselines); the results are the same",
        decides=False,
    )
    boilerplate_only: bool = option(
        False,
        "--boilerplate-only",
        "write the methods text and stop; trainings are described in the future tense until they"
        " have ended (in an earlier call with the same settings)",
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
        "first remove what earlier runs left of the participants' steps in the working directory",
        decides=False,
        once=True,
    )
    keep_series: bool = option(
        False,
        "--keep-series",
        "keep series above 0.25 GB in the working directory when all steps have read them; else a"
        " call with other settings makes them again",
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
        "stop before any work if a run cannot be processed, instead of skipping it",
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
        0, "-v --verbose", "print more; may be given twice", decides=False, action="count", least=0
    )
    log_format: Literal["text", "json"] = option(
        "text",
        "--log-format",
        "what the console prints: text, or notices and progress as JSON, one a line",
        decides=False,
        once=True,
    )
    dry_run: bool = option(
        False,
        "--dry-run",
        "show what would run, with estimates of time, memory and disk, and stop",
        common=True,
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    graph: bool = option(
        False,
        "--graph",
        "as --dry-run, and print which step makes what of what",
        decides=False,
        once=True,
        among=WHICH_DATA,
    )
    run_uuid: str = option("", help="name of the call's log folder", decides=False, once=True)
    without_effect: tuple[tuple[str, ...], ...] = option(
        (), help="what was given and has no effect, with the reason", decides=False, once=True
    )

    def _check(self) -> None:
        self._need(
            not (self.boilerplate_only and self.reports_only),
            "boilerplate_only",
            "it excludes reports_only",
        )
        if self.preset:
            find_preset(self.preset)


def _apart(values: Iterable[float]) -> bool:
    """Whether values differ in tenths, which is what names of files hold of them."""
    tenths = [round(value * 10) for value in values]
    return len(set(tenths)) == len(tenths)
