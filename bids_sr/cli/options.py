"""Options of ``bids-sr``, group by group, and how the text of each becomes a value.

Only the standard library is imported. Each option stands here once, by its flags, the setting that it fills and its
help; its default, choices and kind of value are those of the setting.
"""

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bids_sr.config import PAPER_SMOOTHING_MM, Settings
from bids_sr.sr.method import offered_methods

GIGABYTES = {"k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def gigabytes(text: str) -> float:
    """Read a size of memory in GB: ``8``, ``8G``, ``1.5 GB``, ``512M``, ``2000MiB``; a bare number is in GB.

    >>> gigabytes("512M")
    0.5
    """
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


_READERS: Mapping[Any, Callable[[str], Any]] = {Path: path, int: int, float: float}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _Options:
    """Adds options whose default, choices and kind of value are those of the setting that they fill."""

    def __init__(self, parser: argparse.ArgumentParser, title: str) -> None:
        self.group = parser.add_argument_group(title)

    def __call__(self, flags: str, to: str, help: str, **how: Any) -> None:
        """Add an option: its flags and the name of its value as they stand in the help, its setting, and its help."""
        section, name = to.split(".")
        cls = typing.get_type_hints(Settings)[section]
        default = next(item.default for item in dataclasses.fields(cls) if item.name == name)
        hint = typing.get_type_hints(cls)[name]
        several = typing.get_origin(hint) in (tuple, types.UnionType, typing.Union)
        inner = typing.get_args(hint)[0] if several else hint
        *names, last = flags.split()
        names, how = ([*names, last], how) if last.startswith("-") else (names, {"metavar": last, **how})
        if hint is bool:
            how["action"] = "store_true"
        elif how.get("action") != "count":
            if typing.get_origin(inner) is typing.Literal:
                how.setdefault("choices", typing.get_args(inner))
            elif inner in _READERS:
                how.setdefault("type", _READERS[inner])
            if isinstance(default, tuple):
                how = {"nargs": "+", "action": "extend", **how}
            if default not in (None, ()):
                help = f"{help} (default: {_shown(default)})"
        self.group.add_argument(*names, dest=to, help=help, **how)


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
    add("--participant-label LABEL", "selection.participant_label", "participants (default: all)")
    add("--session-label LABEL", "selection.session_label", "sessions (default: all)")
    add("-t --task-id TASK", "selection.task_id", "tasks (default: all)")
    add("--run-id N", "selection.run_id", "runs (default: all)", type=run_number)
    filters = "JSON with pybids filters for bold, t2starw, t1w, t2w, flair"
    add("--bids-filter-file FILE", "selection.bids_filter_file", filters)
    database = "where pybids keeps its index of a large data set"
    add("--bids-database-dir DIR", "selection.bids_database_dir", database)
    unchecked = "do not run the BIDS validator on the input"
    add("--skip-bids-validation", "selection.skip_bids_validation", unchecked)
    add("--dry-run", "run.dry_run", "show what would run, with estimates of time, memory and disk, and stop")


def _superres(add: _Options) -> None:
    target = "bold: functional runs; anat: T1w, T2w and FLAIR at two resolutions, fused (methods attunet, unet, vit)"
    add("--sr-target", "superres.target", target)
    add("--train-on", "superres.train_on", "scans for --sr-target anat: a participant's own, or all others'")
    add("--anat-align", "superres.anat_align", "how --sr-target anat brings the scans of a head together")
    names = ", ".join(offered_methods())
    method = (
        f"auto (srgan where there is a T2*w pair, and sbl), or one method or several of {names} "
        "(wmn, focuss, sbl, tv, dip need no pair), or baselines alone"
    )
    add("--sr-method NAME", "superres.methods", method)
    baselines = (
        "interpolations beside the methods: bspline zerofill sdmod inject ratio; all adds nearest linear lanczos"
    )
    add("--baselines", "superres.baselines", baselines)
    add(
        "--sr-factor F",
        "superres.factor",
        "ratio of voxel sizes in plane (default: that of the pair or calibration, else 2)",
    )
    add("--hr-acq LABEL", "superres.hr_acq", "acq- label of the highres T2*w image")
    add("--lr-acq LABEL", "superres.lr_acq", "acq- label of the lowres T2*w image")
    calibration = (
        "short BOLD run at the high resolution that tells where others fluctuate: any that fits by its voxels, "
        "none, that of an acq- label, or a file"
    )
    add("--calibration {auto,none,LABEL,FILE}", "superres.calibration", calibration)
    add("--recipe", "superres.recipe", "fast: minutes; paper: as published, days; paper-mse: by squared error")
    _models(add)
    consistency = "compare each output, brought down again, with what was acquired; enforce corrects it"
    add("--data-consistency", "superres.data_consistency", consistency)
    guide = "whether wmn, focuss and sbl add static detail of the highres T2*w; auto: where there is a pair"
    add("--guide", "superres.guide", guide)
    add("--precision", "superres.precision", "arithmetic of inference; auto is fp32")
    add("--force", "superres.force", "apply a model to a resolution or orientation that it was not trained for")


def _models(add: _Options) -> None:
    add("--model-source", "superres.model_source", "auto takes what --model-dir has of the same pair")
    add("--model-dir DIR", "superres.model_dir", "folder with trained models")
    pretrained = "use these .safetensors models, one a method, instead of training"
    add("--pretrained FILE", "superres.pretrained", pretrained)
    warm = "begin srgan (fast, factor 2) with the network of simulated heads that comes with the program"
    add("--warm-start", "superres.warm_start", warm)
    vgg = "VGG-19 weights (.safetensors) that switch the perceptual loss on"
    add("--vgg-weights FILE", "superres.vgg_weights", vgg)
    clock = "stop training on the clock; the model is then marked as not reproducible"
    add("--max-train-minutes MIN", "superres.max_train_minutes", clock)
    ensemble = "models of each method, with different seeds, whose spread is the map of uncertainty"
    add("--n-ensemble N", "superres.n_ensemble", ensemble)


def _preprocessing(add: _Options) -> None:
    add("--dummy-scans N", "preprocessing.dummy_scans", "volumes before the steady state (default: detected)")
    derivatives = (
        "output of fMRIPrep (fmriprep=DIR, or DIR): its anatomy, masks, transforms, head motion, field maps and "
        "confounds are taken over instead of made"
    )
    add("-d --derivatives NAME=DIR", "preprocessing.derivatives", derivatives, type=named_folder)
    add("--slice-time-ref FRACTION", "preprocessing.slice_time_ref", "moment of the TR to which slices are brought")
    add("--ignore", "preprocessing.ignore", "steps that are left out")
    spaces = "templates in which the statistical maps are given too, such as MNI152NLin2009aSym"
    add("--output-spaces SPACE", "preprocessing.output_spaces", spaces)
    add("--output-dtype", "preprocessing.output_dtype", "type of the stored series")


def _activation(add: _Options) -> None:
    contrasts = "thumb, thumb-little, all, name=0.5*a-0.5*b (default: each trial type, all, and pairs of up to three)"
    add("--contrasts EXPR", "activation.contrasts", contrasts)
    add("--activation", "activation.kinds", "cross-correlation with the design, general linear model")
    smoothing = "FWHM in mm, 0 for none; paper stands for 3.5 13.2"
    add("--smoothing MM", "activation.smoothing", smoothing, type=widths, action=_Flatten)
    add("--low-pass HZ", "activation.low_pass", "cut-off of the cross-correlation path, or none", type=frequency)
    add("--high-pass HZ", "activation.high_pass", "slower changes are drift to the linear model")
    add("--roi {motor,brain,FILE}", "activation.roi", "where regions are measured")
    threshold = "regions: upper quarter of the range, false discovery rate .05, or a value of z"
    add("--threshold {quarter,fdr,Z}", "activation.thresholds", threshold)


def _evaluation(add: _Options) -> None:
    truth = "data set with the same runs at the high resolution, or with their known activation"
    add("--truth DIR", "evaluation.truth", truth)
    retrospective = (
        "make the truth from the data: bring the BOLD down by the factor (default 2), raise it again and compare; "
        "noisy also adds as much thermal noise as there is (clean where nothing is said)"
    )
    add("--retrospective", "evaluation.retrospective", retrospective, nargs="?", const="clean")
    add("--pair-holdout", "evaluation.pair_holdout", "of two T2*w pairs, train on the first and score on the second")
    nulls = "placebos, and N shuffles of the data without signal; 0 for neither"
    add("--null-checks N", "evaluation.null_checks", nulls)
    add("--roi-grow", "evaluation.roi_grow", "let the motor area grow to the activation nearby where it misses it")
    margin = (
        "margin of equivalence at the group level for measures that are pure numbers, such as correlations "
        "(default, and for all others: a tenth of the gap between B-spline and what was measured)"
    )
    add("--margin VALUE", "evaluation.margin", margin)


def _resources(add: _Options) -> None:
    add("--nprocs --n-cpus N", "resources.nprocs", "processors (default: all)")
    add("--omp-nthreads N", "resources.omp_nthreads", "threads of one step (default: 1; steps run side by side)")
    add("--mem --mem-gb SIZE", "resources.mem_gb", "8, 8G, 512M (default: free)", type=gigabytes)
    add("--device", "resources.device", "where networks run")
    add("--random-seed N", "resources.random_seed", "seed of all that is drawn")
    plugin = "TOML file that makes each step a job of SLURM (default: steps run on this machine)"
    add("--use-plugin FILE", "resources.use_plugin", plugin)


def _run(add: _Options) -> None:
    add("-w --work-dir DIR", "paths.work_dir", "intermediate files (default: ./work)")
    add("--config-file FILE", "run.config_file", "settings.toml of an earlier run; the command line has precedence")
    add("--boilerplate-only", "run.boilerplate_only", "write the methods text and stop")
    add("--reports-only", "run.reports_only", "make the report of finished outputs again")
    add("--strict", "run.strict", "stop before any work if one run cannot be done, instead of leaving it out")
    add("--stop-on-first-crash", "run.stop_on_first_crash", "do not go on with steps that could still run")
    add("--resource-monitor", "run.resource_monitor", "log memory and processor use")
    add("--write-graph", "run.write_graph", "write the graph of steps to the logs")
    add("--sloppy", "run.sloppy", "low quality, for tests only")
    add("-v --verbose", "run.verbosity", "tell more; may be given twice", action="count")
