"""The command line of ``bids-sr``: what it accepts, and how it becomes `Settings`.

Defaults and choices are read from the settings themselves: they have one home.
"""

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_type_hints

from bids_sr.cli.options import Given, Parser, hyphens
from bids_sr.config import Settings
from bids_sr.config.settings import read_toml

_DESCRIPTION = """\
Super-resolution of fMRI as a BIDS-App: super-resolves every BOLD series of a BIDS data set, and
maps activation (connectivity at rest) on the acquired, the interpolated and the super-resolved
series side by side.
For research; not for clinical use."""
_EPILOG = """\
bids-sr --help-all lists all options; bids-sr report OUTPUT_DIR --open shows finished reports."""

_UNUSED = {
    "nothing is ever sent": (
        "--notrack",
        "--no-sub",
        "--email ADDRESS",
        "--webapi-url URL",
        "--webapi-port PORT",
        "--upload-strict",
    ),
    "it is not recorded; --dry-run estimates time and memory": (
        "--resource-monitor",
        "--profile",
        "--track-carbon",
        "--country-code CODE",
    ),
    "--graph prints who makes what": ("--write-graph",),
    "series are always read volume by volume; --mem limits memory": ("--low-mem",),
    "crash files say how to run the step again": (
        "--debug MODE...",
        "--pdb",
        "--crashfile-format FORMAT",
    ),
    "FreeSurfer is not run": (
        "--fs-license-file FILE",
        "--fs-subjects-dir DIR",
        "--fs-no-reconall",
        "--fs-no-resume",
        "--no-freesurfer",
        "--submm-recon",
        "--no-submm-recon",
        "--msm",
        "--no-msm",
        "--track-sessions",
        "--no-track-sessions",
        "--medial-surface-nan",
        "--project-goodvoxels",
    ),
    "the brain is found otherwise; -d fmriprep=DIR takes over fMRIPrep's mask": (
        "--skull-strip-template TEMPLATE",
        "--skull-strip-fixed-seed",
        "--skull-strip-t1w HOW",
    ),
    "field maps are not used; -d fmriprep=DIR takes over fMRIPrep's": (
        "--fallback-total-readout-time SECONDS",
        "--fmap-bspline",
        "--fmap-no-demean",
        "--topup-max-vols N",
    ),
    "the results lie in output_dir, with one report for each participant": (
        "--output-layout LAYOUT",
        "--aggregate-session-reports N",
        "--report-output-level LEVEL",
    ),
    "nothing is downloaded": ("--no-datalad-get",),
    "the database is made again where files have changed": ("--bids-database-wipe",),
}
"""Why options of fMRIPrep, MRIQC and XCP-D do nothing here."""
_REFUSED = {
    "did you mean '--derivatives'?": ("--anat-derivatives", "--datasets", "--input-type"),
    "give -d fmriprep=DIR, by which anatomy, registration, distortion correction, masks and"
    " confounds are those of fMRIPrep": (
        "--use-syn-sdc",
        "--force-syn",
        "--force-bbr",
        "--force-no-bbr",
        "--bold2anat-init",
        "--bold2anat-dof",
        "--bold2t1w-init",
        "--bold2t1w-dof",
        "--longitudinal",
        "--subject-anatomical-reference",
        "--use-aroma",
        "--aroma-melodic-dimensionality",
        "--ignore-aroma-denoising-errors",
        "--error-on-aroma-warnings",
        "bbr",
        "no-bbr",
        "syn-sdc",
        "fmap-jacobian",
    ),
    "did you mean '--output-spaces'?": (
        "--output-space",
        "--template",
        "--template-resampling-grid",
        "--output-grid-reference",
    ),
    "CIFTI needs fsLR and subcortical voxels, which no package here carries; GIFTI is written by"
    " --output-spaces fsnative fsaverage:den-10k": ("--cifti-output", "--file-format"),
    "give --sr-target anat, by which structural scans are super-resolved": (
        "--anat-only",
        "--modalities",
    ),
    "echoes are combined; --echo-idx N takes one": (
        "--t2s-coreg",
        "--me-t2s-fit-method",
        "--me-output-echos",
    ),
    "did you mean '--random-seed'?": ("--seed",),
    "did you mean '--omp-nthreads'?": ("--ants-nthreads",),
    "did you mean '--sloppy'?": ("--testing",),
    "did you mean '--reports-only'?": ("--run-uuid",),
    "did you mean '--output-dtype'?": ("--float32",),
    "did you mean '--level'?": ("--verbose-reports",),
    "did you mean '--fd-spike-threshold'?": ("--fd-thres", "--fd-thresh"),
    "did you mean '--dummy-scans'?": ("--start-idx", "--stop-idx"),
    "did you mean '--high-pass'?": ("--lower-bpf",),
    "did you mean '--low-pass'?": ("--upper-bpf", "--bpf-order", "--disable-bandpass-filter"),
    "did you mean '--atlas'?": ("--atlases",),
    "give --seeds, of which connectivity at rest is mapped": (
        "--create-matrices",
        "--min-coverage",
        "--output-run-wise-correlations",
        "--skip-parcellation",
    ),
    "quality is measured by MRIQC itself; leave the option out": (
        "--species",
        "--dsname",
        "--ants-float",
        "--ants-settings",
        "--min-dwi-length",
        "--min-bold-length",
        "--fft-spikes-detector",
        "--deoblique",
    ),
    "runs are denoised by XCP-D itself; leave the option out": (
        "--mode",
        "--despike",
        "--nuisance-regressors",
        "--combine-runs",
        "--skip",
        "--motion-filter-type",
        "--band-stop-min",
        "--band-stop-max",
        "--motion-filter-order",
        "--head-radius",
        "--min-time",
        "--output-type",
        "--linc-qc",
        "--abcc-qc",
        "--warp-surfaces-native2std",
    ),
}
"""What to do in the place of options of fMRIPrep, MRIQC and XCP-D that are refused."""


def build_parser(*, everything: bool = False) -> Parser:
    """Return the parser of ``bids-sr``, whose help lists the common options or all.

    Nothing is read or changed.

    Parameters
    ----------
    everything : bool, optional
        Whether the help lists all options instead of the common ones.

    Returns
    -------
    Parser
        Parser whose values are named ``group.name``.
    """
    parser = Parser("bids-sr", _DESCRIPTION)
    parser.usage = "bids-sr bids_dir output_dir {participant,group} [options]"
    parser.add_argument("--help-all", action="store_true", help="show all options and exit")
    parser.epilog = None if everything else _EPILOG
    add_settings(parser, everything=everything)
    return parser


def add_settings(
    parser: Parser, *, everything: bool = True, without: Collection[str] = ()
) -> None:
    """Add the option of every setting to a parser, whose help lists the common ones or all.

    Parameters
    ----------
    parser : Parser
        Parser that gets a titled group for each group of settings.
    everything : bool, optional
        Whether the help lists all options instead of the common ones.
    without : Collection[str], optional
        Names of the settings that get no option.
    """
    titles = {each.name: each.metadata.get("title", "") for each in dataclasses.fields(Settings)}
    for title in filter(None, titles.values()):  # in the order of the groups
        parser.titled(title)
    parser.add_foreign(unused=_UNUSED, refused=_REFUSED)
    for name, group in get_type_hints(Settings).items():
        parser.add_fields(group, title=titles[name], everything=everything, without=without)


def parse_settings(argv: Sequence[str]) -> Settings:
    """Return the settings of a command line, which override those of ``--config-file``.

    Raises `UsageError` for anything that is not understood, and SystemExit after ``--help`` and
    ``--version``.

    Parameters
    ----------
    argv : Sequence[str]
        Arguments of the command line.

    Returns
    -------
    Settings
        Settings of the call.
    """
    if "--help-all" in hyphens(argv):
        return build_parser(everything=True).read(["--help"], settings_of)
    return build_parser().read(argv, settings_of)


def settings_of(given: Given) -> Settings:
    """Return the settings of the options that were given.

    Raises `UsageError` for values that cannot hold.

    Parameters
    ----------
    given : Given
        Values of the options that were given.

    Returns
    -------
    Settings
        Settings of the call, those of a configuration file included.

    Raises
    ------
    SettingError
        A value cannot hold; it is named by its option.
    """
    values: Given = {}
    if file := given.get("run", {}).get("config_file"):
        values = read_toml(Path(os.path.expanduser(str(file))), reusable_only=True)
    for section, names in given.items():
        values[section] = {**values.get(section, {}), **names}
    return Settings.from_mapping(values)
