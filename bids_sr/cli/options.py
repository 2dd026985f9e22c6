"""The options of ``bids-sr``, group by group, and how the text of each becomes a value.

Only the standard library is imported. Defaults and choices are read from the settings themselves: they have one home.
"""

import argparse
import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any

from bids_sr.config import PAPER_SMOOTHING_MM, Settings
from bids_sr.sr.method import offered_methods

GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str) -> float:
    """Read a size of memory in GB: ``8``, ``8G``, ``1.5 GB``, ``512M``, ``2000MiB``; a bare number is in GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(?:i?b)?)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of memory; write it as 8, 8G or 512M")
    return float(match[1]) * GIGABYTES[match[2] or "g"]


def path(text: str) -> Path:
    """Read a path; an empty one, as an unset variable of a shell leaves it, would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def named_folder(text: str) -> str:
    """Read ``NAME=DIR`` or ``DIR``; an empty folder, as an unset variable of a shell leaves it, is refused."""
    if not text.strip() or text.endswith("="):
        raise argparse.ArgumentTypeError(f"{text!r} names no folder; write it as fmriprep=DIR")
    return text


def run_number(text: str) -> int:
    """Read the number of a run: ``1``, ``01``, ``run-01``."""
    digits = text.removeprefix("run-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no run; write it as 1 or run-1")
    return int(digits)


def widths(text: str) -> tuple[float, ...]:
    """Read a smoothing width: mm FWHM, or ``paper`` for the two readings of the paper's sigma."""
    if text == "paper":
        return PAPER_SMOOTHING_MM
    try:
        return (float(text),)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no width; give millimetres (FWHM), or paper") from None


def frequency(text: str) -> float | None:
    """Read a cut-off in Hz; ``none`` switches the filter off."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no frequency; give Hz, or none") from None


class _Flatten(argparse.Action):
    """Collect values of which each may stand for several."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, (*before, *(item for several in values for item in several)))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Options:
    """Adds options whose default and choices are those of the setting that they fill."""

    def __init__(self, parser: argparse.ArgumentParser, title: str) -> None:
        self.group = parser.add_argument_group(title)

    def __call__(self, *flags: str, to: str, help: str, **how: Any) -> None:
        section, name = to.split(".")
        cls = typing.get_type_hints(Settings)[section]
        default = next(item.default for item in dataclasses.fields(cls) if item.name == name)
        hint = typing.get_type_hints(cls)[name]
        if "action" not in how or how.get("nargs"):
            several = typing.get_origin(hint) in (tuple, types.UnionType, typing.Union)
            inner = typing.get_args(hint)[0] if several else hint
            if typing.get_origin(inner) is typing.Literal:
                how.setdefault("choices", typing.get_args(inner))
            if isinstance(default, tuple):
                how.setdefault("nargs", "+")
                how.setdefault("action", "extend")
            if default not in (None, ()):
                help = f"{help} (default: {_shown(default)})"
        self.group.add_argument(*flags, dest=to, help=help, **how)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option to a parser."""
    _selection(_Options(parser, "which data"))
    _superres(_Options(parser, "super-resolution"))
    _preprocessing(_Options(parser, "preprocessing"))
    _activation(_Options(parser, "activation"))
    _evaluation(_Options(parser, "evaluation"))
    _resources(_Options(parser, "resources"))
    _run(_Options(parser, "how it runs"))


def _selection(add: _Options) -> None:
    add("--participant-label", to="selection.participant_label", metavar="LABEL", help="participants (default: all)")
    add("--session-label", to="selection.session_label", metavar="LABEL", help="sessions (default: all)")
    add("-t", "--task-id", to="selection.task_id", metavar="TASK", help="tasks (default: all)")
    add("--run-id", to="selection.run_id", metavar="N", type=run_number, help="runs (default: all)")
    add(
        "--bids-filter-file",
        to="selection.bids_filter_file",
        metavar="FILE",
        type=path,
        help="JSON with pybids filters for bold, t2starw, t1w, t2w, flair",
    )
    add(
        "--bids-database-dir",
        to="selection.bids_database_dir",
        metavar="DIR",
        type=path,
        help="where pybids keeps its index of a large data set",
    )
    unchecked = "do not run the BIDS validator on the input"
    add("--skip-bids-validation", to="selection.skip_bids_validation", action="store_true", help=unchecked)
    add(
        "--dry-run",
        to="run.dry_run",
        action="store_true",
        help="show what would run, with estimates of time, memory and disk, and stop",
    )


def _superres(add: _Options) -> None:
    names = ", ".join(offered_methods())
    add(
        "--sr-target",
        to="superres.target",
        help="bold: functional runs; anat: T1w, T2w and FLAIR at two resolutions, fused (methods attunet, unet, vit)",
    )
    add("--train-on", to="superres.train_on", help="scans for --sr-target anat: a participant's own, or all others'")
    add("--anat-align", to="superres.anat_align", help="how --sr-target anat brings the scans of a head together")
    add(
        "--sr-method",
        to="superres.methods",
        metavar="NAME",
        help=f"one method or several ({names}; wmn, focuss, sbl, tv, dip need no T2*w pair), or baselines alone",
    )
    add(
        "--baselines",
        to="superres.baselines",
        help="interpolations beside the methods: bspline zerofill sdmod inject ratio; all adds nearest linear lanczos",
    )
    add(
        "--sr-factor",
        to="superres.factor",
        metavar="F",
        type=float,
        help="ratio of voxel sizes in plane (default: that of the pair)",
    )
    add("--hr-acq", to="superres.hr_acq", metavar="LABEL", help="acq- label of the highres T2*w image")
    add("--lr-acq", to="superres.lr_acq", metavar="LABEL", help="acq- label of the lowres T2*w image")
    add(
        "--calibration",
        to="superres.calibration",
        metavar="{auto,none,LABEL,FILE}",
        help="short BOLD run at the high resolution that tells where others fluctuate: any that fits by its voxels, "
        "none, that of an acq- label, or a file",
    )
    add("--recipe", to="superres.recipe", help="fast: minutes; paper: as published, days; paper-mse: by squared error")
    _models(add)
    add(
        "--data-consistency",
        to="superres.data_consistency",
        help="compare each output, brought down again, with what was acquired; enforce corrects it",
    )
    add(
        "--guide",
        to="superres.guide",
        help="whether wmn, focuss and sbl add static detail of the highres T2*w; auto: where there is a pair",
    )
    add("--precision", to="superres.precision", help="arithmetic of inference; auto is fp32")
    add(
        "--force",
        to="superres.force",
        action="store_true",
        help="apply a model to a resolution or orientation that it was not trained for",
    )


def _models(add: _Options) -> None:
    add("--model-source", to="superres.model_source", help="auto takes what --model-dir has of the same pair")
    add("--model-dir", to="superres.model_dir", metavar="DIR", type=path, help="folder with trained models")
    add(
        "--pretrained",
        to="superres.pretrained",
        metavar="FILE",
        type=path,
        help="use these .safetensors models, one a method, instead of training",
    )
    add(
        "--warm-start",
        to="superres.warm_start",
        action="store_true",
        help="begin srgan (fast, factor 2) with the network of simulated heads that comes with the program",
    )
    add(
        "--vgg-weights",
        to="superres.vgg_weights",
        metavar="FILE",
        type=path,
        help="VGG-19 weights (.safetensors) that switch the perceptual loss on",
    )
    add(
        "--max-train-minutes",
        to="superres.max_train_minutes",
        metavar="MIN",
        type=float,
        help="stop training on the clock; the model is then marked as not reproducible",
    )
    add(
        "--n-ensemble",
        to="superres.n_ensemble",
        metavar="N",
        type=int,
        help="models of each method, with different seeds, whose spread is the map of uncertainty",
    )


def _preprocessing(add: _Options) -> None:
    add(
        "--dummy-scans",
        to="preprocessing.dummy_scans",
        metavar="N",
        type=int,
        help="volumes before the steady state (default: detected)",
    )
    add(
        "-d",
        "--derivatives",
        to="preprocessing.derivatives",
        metavar="NAME=DIR",
        type=named_folder,
        help="output of fMRIPrep (fmriprep=DIR, or DIR): its anatomy, masks, transforms, head motion, field maps and "
        "confounds are taken over instead of made",
    )
    add(
        "--slice-time-ref",
        to="preprocessing.slice_time_ref",
        metavar="FRACTION",
        type=float,
        help="moment of the TR to which slices are brought",
    )
    add("--ignore", to="preprocessing.ignore", help="steps that are left out")
    add(
        "--output-spaces",
        to="preprocessing.output_spaces",
        metavar="SPACE",
        help="templates in which the statistical maps are given too, such as MNI152NLin2009aSym",
    )
    add("--output-dtype", to="preprocessing.output_dtype", help="type of the stored series")


def _activation(add: _Options) -> None:
    add(
        "--contrasts",
        to="activation.contrasts",
        metavar="EXPR",
        help="thumb, thumb-little, all, name=0.5*a-0.5*b (default: each trial type, all, and pairs of up to three)",
    )
    add("--activation", to="activation.kinds", help="cross-correlation with the design, general linear model")
    add(
        "--smoothing",
        to="activation.smoothing",
        metavar="MM",
        type=widths,
        action=_Flatten,
        nargs="+",
        help="FWHM in mm, 0 for none; paper stands for 3.5 13.2",
    )
    add(
        "--low-pass",
        to="activation.low_pass",
        metavar="HZ",
        type=frequency,
        help="cut-off of the cross-correlation path, or none",
    )
    slow = "slower changes are drift to the linear model"
    add("--high-pass", to="activation.high_pass", metavar="HZ", type=float, help=slow)
    add("--roi", to="activation.roi", metavar="{motor,brain,FILE}", help="where regions are measured")
    add(
        "--threshold",
        to="activation.thresholds",
        metavar="{quarter,fdr,Z}",
        help="regions: upper quarter of the range, false discovery rate .05, or a value of z",
    )


def _evaluation(add: _Options) -> None:
    add(
        "--truth",
        to="evaluation.truth",
        metavar="DIR",
        type=path,
        help="data set with the same runs at the high resolution, or with their known activation",
    )
    add(
        "--retrospective",
        to="evaluation.retrospective",
        nargs="?",
        const="clean",
        help="make the truth from the data: bring the BOLD down by the factor (default 2), raise it again and compare; "
        "noisy also adds as much thermal noise as there is (clean where nothing is said)",
    )
    add(
        "--pair-holdout",
        to="evaluation.pair_holdout",
        action="store_true",
        help="of two T2*w pairs, train on the first and score on the second",
    )
    add(
        "--null-checks",
        to="evaluation.null_checks",
        metavar="N",
        type=int,
        help="placebos, and N shuffles of the data without signal; 0 for neither",
    )
    add(
        "--roi-grow",
        to="evaluation.roi_grow",
        action="store_true",
        help="let the motor area grow to the activation nearby where it misses it",
    )
    add(
        "--margin",
        to="evaluation.margin",
        metavar="VALUE",
        type=float,
        help="margin of equivalence at the group level for measures that are pure numbers, such as correlations "
        "(default, and for all others: a tenth of the gap between B-spline and what was measured)",
    )


def _resources(add: _Options) -> None:
    add("--nprocs", "--n-cpus", to="resources.nprocs", metavar="N", type=int, help="processors (default: all)")
    add(
        "--omp-nthreads",
        to="resources.omp_nthreads",
        metavar="N",
        type=int,
        help="threads of one step (default: 1; steps run side by side)",
    )
    add("--mem", "--mem-gb", to="resources.mem_gb", metavar="SIZE", type=gigabytes, help="8, 8G, 512M (default: free)")
    add("--device", to="resources.device", help="where networks run")
    add("--random-seed", to="resources.random_seed", metavar="N", type=int, help="seed of all that is drawn")
    add(
        "--use-plugin",
        to="resources.use_plugin",
        metavar="FILE",
        type=path,
        help="TOML file that makes each step a job of SLURM (default: steps run on this machine)",
    )


def _run(add: _Options) -> None:
    add("-w", "--work-dir", to="paths.work_dir", metavar="DIR", type=path, help="intermediate files (default: ./work)")
    add(
        "--config-file",
        to="run.config_file",
        metavar="FILE",
        type=path,
        help="settings.toml of an earlier run; the command line has precedence",
    )
    add("--boilerplate-only", to="run.boilerplate_only", action="store_true", help="write the methods text and stop")
    add("--reports-only", to="run.reports_only", action="store_true", help="make the report of finished outputs again")
    add(
        "--stop-on-first-crash",
        to="run.stop_on_first_crash",
        action="store_true",
        help="do not go on with steps that could still run",
    )
    add("--resource-monitor", to="run.resource_monitor", action="store_true", help="log memory and processor use")
    add("--write-graph", to="run.write_graph", action="store_true", help="write the graph of steps to the logs")
    add("--sloppy", to="run.sloppy", action="store_true", help="low quality, for tests only")
    add("-v", "--verbose", to="run.verbosity", action="count", help="tell more; may be given twice")
