"""Quality control of one method in one run: uncertainty, unrepeated detail, domain shift, distortion and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.quality_control import (
    DomainGate,
    EdgeMismatch,
    EnsembleUncertainty,
    PrecisionGuard,
    UnrepeatedMap,
)
from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation


def init_guards_wf(
    *,
    method: str,
    contrasts: Mapping[str, Mapping[str, float]],
    factor: tuple[float, float, float],
    n_ensemble: int,
    has_guide: bool,
    has_measured: bool,
    needs_model: bool,
    seed: int,
    truth_files: Mapping[str, str] | None = None,
    name: str = "guards_wf",
) -> LiterateWorkflow:
    """Uncertainty and unrepeated detail of one method, and whether the run is like what the model was trained on.

    Parameters
    ----------
    method : name of the series
    contrasts : name to weights of trial types
    factor : acquired voxel over high-resolution voxel along each axis
    n_ensemble : members, the method itself among them; below 2 there is no uncertainty map
    has_guide : whether there is a high-resolution image of the pair
    has_measured : whether there is a measured series
    needs_model : whether the method has a model, whose card knows what it was trained on
    seed : of resampled slices and flipped signs
    truth_files : known activation in signal units by contrast, or None
    name : of the workflow

    Inputs
    ------
    effects_file : block effects of the method
    member_files : block effects of all members, the method's own among them, with `n_ensemble` of 2 or more
    measured_file : block effects of the measured series, with `has_measured`
    guide_hr : high-resolution image on the fine grid in the boldref's pose, with `has_guide`
    mask : brain on the fine grid
    model_file : weights with the card beside them, with `needs_model`
    boldref : reference of the run on the acquired grid, with `needs_model`
    bold_mask : brain on that grid, with `needs_model`

    Outputs
    -------
    rows_tsv : rows of the evaluation
    maps : uncertainty (``stat-sd``) and unrepeated detail (``stat-unrepeated``), one each a contrast
    maps_entities : BIDS entities of each
    maps_sidecars : metadata of each
    """
    ensemble = n_ensemble > 1
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _text(method=method, n_ensemble=n_ensemble, has_guide=has_guide)
    fields = ["effects_file", "mask"]
    fields += ["member_files"] * ensemble + ["measured_file"] * (ensemble and has_measured)
    fields += ["guide_hr"] * has_guide + ["model_file", "boldref", "bold_mask"] * needs_model
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputs = ["rows_tsv", "maps", "maps_entities", "maps_sidecars"]
    outputnode = pe.Node(niu.IdentityInterface(fields=outputs), name="outputnode")
    weights = {key: dict(value) for key, value in contrasts.items()}
    detail = pe.Node(
        UnrepeatedMap(contrasts=weights, factor=tuple(float(f) for f in factor), seed=seed),
        name="detail", n_procs=1,
    )  # fmt: skip
    into = [("effects_file", "effects_file"), ("mask", "mask")] + [("guide_hr", "guide_hr")] * has_guide
    edges, tables, makers = [(inputnode, detail, into)], [detail], [detail]
    if ensemble:
        spread = pe.Node(EnsembleUncertainty(method=method, contrasts=weights, seed=seed), name="spread", n_procs=1)
        if truth_files:
            spread.inputs.truth_files = dict(truth_files)
        into = [("member_files", "effects_files"), ("mask", "mask")]
        edges.append((inputnode, spread, into + [("measured_file", "measured_file")] * has_measured))
        tables, makers = [*tables, spread], [*makers, spread]
    if needs_model:
        gate = pe.Node(DomainGate(series=method), name="gate", n_procs=1)
        edges.append((inputnode, gate, [("model_file", "model_file"), ("boldref", "boldref"), ("bold_mask", "mask")]))
        tables = [*tables, gate]
    _collect(workflow, tables, makers, outputnode)
    workflow.connect(edges)
    return workflow


def _collect(workflow: LiterateWorkflow, tables: Sequence[pe.Node], makers: Sequence[pe.Node], end: pe.Node) -> None:
    """Rows of all guards as one table, and their maps as one list."""
    rows = pe.Node(niu.Merge(len(tables)), name="merge_rows", run_without_submitting=True)
    table = pe.Node(MergeEvaluation(), name="table", n_procs=1)
    edges = [(node, rows, [("out_file", f"in{number}")]) for number, node in enumerate(tables, start=1)]
    edges += [(rows, table, [("out", "in_files")]), (table, end, [("out_file", "rows_tsv")])]
    for field, out in (("maps", "maps"), ("entities", "maps_entities"), ("sidecars", "maps_sidecars")):
        merged = pe.Node(niu.Merge(len(makers)), name=f"merge_{field}", run_without_submitting=True)
        edges += [(node, merged, [(field, f"in{number}")]) for number, node in enumerate(makers, start=1)]
        edges.append((merged, end, [("out", out)]))
    workflow.connect(edges)


def _text(*, method: str, n_ensemble: int, has_guide: bool) -> str:
    """Methods text."""
    pair = ", or follows the detail of the high-resolution T2*-weighted image," if has_guide else ""
    text = (
        f"Fine detail of {method}, beyond the acquired Nyquist limit, was called unrepeated unless it agrees between "
        f"the two halves of the blocks{pair} more than chance allows (flipped signs of blocks"
        f"{', shifted images' if has_guide else ''})."
    )
    if n_ensemble > 1:
        text += (
            f" Uncertainty is the standard deviation of the effect between {n_ensemble} models that differ in the seed "
            "of training; it does not see what they share."
        )
    return text + "\n"


def init_distortion_wf(
    *, phase_encoding: str | None, guided: Sequence[str], name: str = "distortion_wf"
) -> LiterateWorkflow:
    """How far the boldref is distorted against the T2*-weighted image.

    Parameters
    ----------
    phase_encoding : direction of the BOLD as BIDS has it (``j-``), or None
    guided : methods and baselines that lay the image's detail over the BOLD; the warning names them
    name : of the workflow

    Inputs
    ------
    boldref : reference of the run on the acquired grid
    guide_hr : high-resolution image on the fine grid in the boldref's pose
    mask_hr : brain on the fine grid

    Outputs
    -------
    rows_tsv : rows of the evaluation
    warnings : sentences for the report; empty where the edges agree
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "Distortion was measured as the displacement at which edges of the BOLD reference and the T2*-weighted image, "
        "whatever their contrast, are locally most alike.\n"
    )
    fields = ["boldref", "guide_hr", "mask_hr"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["rows_tsv", "warnings"]), name="outputnode")
    measure = pe.Node(
        EdgeMismatch(phase_encoding=phase_encoding or "", guided=list(guided)),
        name="edges", n_procs=1,
    )  # fmt: skip
    workflow.connect([
        (inputnode, measure, [(field, field) for field in fields]),
        (measure, outputnode, [("out_file", "rows_tsv"), ("warnings", "warnings")]),
    ])  # fmt: skip
    return workflow


def init_precision_wf(
    *,
    method: str,
    contrasts: Mapping[str, Mapping[str, float]],
    factor: tuple[float, float, float],
    tr: float,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    precision: str,
    device: str,
    force: bool,
    omp_nthreads: int,
    name: str = "precision_wf",
) -> LiterateWorkflow:
    """Choose the precision of a network's arithmetic by what it does to t.

    Worth a node only where a lower precision is possible: ``bf16`` asked for, or ``auto`` and a device other than
    ``cpu``.

    Parameters
    ----------
    method : name of the series
    contrasts : name to weights of trial types
    factor : acquired voxel over high-resolution voxel along each axis
    tr : repetition time (s)
    high_pass : of the linear model (Hz)
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    precision : "auto", "fp32" or "bf16", as asked for
    device : "auto", "cpu" or "cuda"
    force : use bf16 whatever it does
    omp_nthreads : threads of the network
    name : of the workflow

    Inputs
    ------
    stc_file : series on the acquired grid
    boldref : reference of the run
    bold_mask : brain on that grid
    model_file : weights with the card beside them
    events_file : BIDS events of the run
    confounds_tsv : one row a volume
    n_dummy : volumes at the start that are left out

    Outputs
    -------
    precision : "fp32" or "bf16", for inference
    rows_tsv : rows of the evaluation; none where nothing was tried
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        f"The network of {method} computes in single precision unless bfloat16 changes t by less than 1 % of its noise "
        "in every contrast, on slices of the run itself.\n"
    )
    into = {"stc_file": "in_file", "bold_mask": "mask"}
    fields = ["stc_file", "boldref", "bold_mask", "model_file", "events_file", "confounds_tsv", "n_dummy"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["precision", "rows_tsv"]), name="outputnode")
    guard = pe.Node(
        PrecisionGuard(
            series=method, contrasts={key: dict(value) for key, value in contrasts.items()},
            factor=tuple(float(f) for f in factor), tr=tr, high_pass=high_pass, slice_time_ref=slice_time_ref,
            has_stc=has_stc, precision=precision, device=device, force=force, threads=omp_nthreads,
        ),
        name="guard", n_procs=omp_nthreads,
    )  # fmt: skip
    workflow.connect([
        (inputnode, guard, [(field, into.get(field, field)) for field in fields]),
        (guard, outputnode, [("precision", "precision"), ("out_file", "rows_tsv")]),
    ])  # fmt: skip
    return workflow
