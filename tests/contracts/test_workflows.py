"""Every builder: documented fields are the fields there are, and every field leads somewhere.

nipype accepts a misspelt field silently; a wire that ends nowhere shows only as a missing file much later.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from planmaker import ACQUISITION, ACTIVATION, HOW, TARGET, TRAINING, UNTIMED, run_of

from bids_sr.workflows import anat_preproc, drawings, fused_structural, sinks
from bids_sr.workflows.bold import (
    bold_run,
    calibrate,
    hmc_workflow,
    map_activation,
    register,
    super_resolve,
    train_models,
    unsaved_series,
)
from bids_sr.workflows.evaluation import attribute, control_quality, evaluate
from bids_sr.workflows.plans import CalibrationPlan, EvaluationPlan, Extra, Precomputed, SeriesPlan, StructuralPlan

SPACED = replace(TARGET, spaces=("MNI152NLin2009aSym",))
CALIBRATED = replace(ACQUISITION, calibration=CalibrationPlan(
    bold_file=__file__, events_file=__file__, tr=2.0, n_dummy=None, source="bids:raw:x",
))  # fmt: skip
EXTRAS = {
    "member": Extra(name="srganSeed1", method="srgan", seed=1),
    "contrast": Extra(name="srganT1w", method="srgan", contrast=True),
    "shipped": Extra(name="srganPhantom", method="srgan", model="/nowhere/model.safetensors"),
    "mirror": Extra(name="sblMirror", method="sbl", displace="mirror"),
    "other": Extra(name="sblOther", method="sbl", model=__file__),
    "reseeded": Extra(name="sblSeed1", method="sbl", seed=1),
}
PLAN = SeriesPlan(names=("bspline", "sdmod", "inject", "srgan", "sbl"), models=("srgan",), guided=("inject",),
                  on_run=("sdmod", "sbl"), controls=("sdmod",), guide_kind="highres", extras=tuple(EXTRAS.values()),
                  **HOW)  # fmt: skip
BY_GPU = SeriesPlan(names=("bspline", "srgan"), models=("srgan",), guided=(), data_consistency="report",
                    precision="auto", device="cuda", training=TRAINING)  # fmt: skip
ALONE = SeriesPlan(names=("bspline", "sdmod", "wmn", "focuss"), models=(), guided=(), on_run=("sdmod", "wmn", "focuss"),
                   controls=("sdmod",), **HOW)  # fmt: skip
ALONE_SBL = SeriesPlan(names=("sbl",), models=(), guided=(), on_run=("sbl",), extras=(EXTRAS["mirror"],), **HOW)
ONLY_CONTROL = SeriesPlan(names=("bspline", "sdmod"), models=(), guided=(), on_run=("sdmod",), controls=("sdmod",),
                          **HOW)  # fmt: skip
GIVEN = Precomputed(origin="fMRIPrep 24.1.1", uris=("bids:fmriprep:x",), readout=0.05, files=dict.fromkeys((
    "hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv", "fieldmap", "boldref2fmap_xfm",
), __file__))  # fmt: skip
PREPARED = Precomputed(origin="fMRIPrep 24.1.1", uris=(), files=dict.fromkeys((
    "t1w_preproc", "t1w_mask", "gm", "wm", "csf", "t1w_dseg", "t1w2std_xfm", "std2t1w_xfm",
), __file__))  # fmt: skip
PARTLY = replace(PREPARED, files=dict.fromkeys(("t1w_preproc", "t1w_mask"), __file__))
GIVEN_MOTION = Precomputed(origin="fMRIPrep 24.1.1", uris=(), files={"hmc_xfms": __file__})
ON_TOP = replace(ACQUISITION, precomputed=GIVEN, phase_encoding="j-")
CORRECTED = SeriesPlan(names=("bspline", "inject", "srgan", "sbl"), models=("srgan",), guided=("inject",),
                       on_run=("sbl",), guide_kind="highres", extras=tuple(EXTRAS.values()),
                       **HOW)  # fmt: skip
OWN = SeriesPlan(names=("bspline", "srgan", "tv"), models=("srgan", "tv"), guided=(), on_volumes=("tv",),
                 extras=(Extra(name="tvSeed1", method="tv", seed=1),), **HOW)  # fmt: skip
OWN_BY_GPU = replace(OWN, device="cuda", extras=())
JUDGED = EvaluationPlan(truth_file="/nowhere/truth.nii.gz", truth_slice_times=(0.0, 1.0), null_checks=10,
                        truth_maps={"thumb": "/nowhere/thumb.nii.gz"}, pair_conditions=("thumb", "little"),
                        attribution_widths=(10.6,), roi_grow=True)  # fmt: skip
UNSPLIT = EvaluationPlan(split=False)
IN_BF16 = replace(BY_GPU, precision="bf16", device="cpu")
ANAT = {"template": "MNI152NLin2009aSym", "roi": "motor", "seed": 0, "sloppy": True}
SCANS = StructuralPlan(
    label="01", output_dir="/nowhere", contrasts=("T1w", "FLAIR"), highres=(__file__,) * 2, lowres=(__file__,) * 2,
    common={"subject": "01"}, sources=(), methods=("attunet",), others=("linear",), align="affine", from_others=True,
    training={"attunet": {"recipe": "fast", "model_source": "auto", "seed": 0, "device": "cpu", "sloppy": True}},
    template="MNI152NLin2009aSym", omp_nthreads=1, seed=0, sloppy=True, facts={},
)  # fmt: skip
GRIDS = {"factor": (2.0, 2.0, 1.0), "seed": 0}


def _learned(learned, series="srgan", **options):
    how = replace(TRAINING, **{key: options.pop(key) for key in ("model_source", "model_dir") if key in options})
    given = {"series": series, "learned": learned, "how": how, "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1, **options}
    return train_models.init_train_wf, given


CASES = {
    "anat": (anat_preproc.init_anat_wf, ANAT),
    "given": (anat_preproc.init_anat_wf, {**ANAT, "precomputed": PREPARED}),
    "given-part": (anat_preproc.init_anat_wf, {**ANAT, "precomputed": PARTLY}),
    "motion-own": (hmc_workflow.init_motion_wf, {"acquisition": ACQUISITION}),
    "motion-untimed": (hmc_workflow.init_motion_wf, {"acquisition": replace(UNTIMED, n_dummy=3)}),
    "given motion": (hmc_workflow.init_motion_wf, {"acquisition": ON_TOP}),
    "given-motion": (hmc_workflow.init_motion_wf, {
        "acquisition": replace(UNTIMED, precomputed=GIVEN_MOTION, n_dummy=2)}),
    "confounds": (hmc_workflow.init_confounds_wf, {"with_anat": True}),
    "confounds-bare": (hmc_workflow.init_confounds_wf, {"with_anat": False}),
    "confounds-given": (hmc_workflow.init_confounds_wf, {"with_anat": True, "precomputed": GIVEN}),
    "pair": (register.init_pair_wf, {**GRIDS, "truncate": False}),
    "pair-truncated": (register.init_pair_wf, {**GRIDS, "truncate": True}),
    "registration": (register.init_bold_registration_wf, {
        **GRIDS, "with_anat": True, "with_pair": True, "precomputed": GIVEN,
    }),
    "registration-masked": (register.init_bold_registration_wf, {
        **GRIDS, "with_anat": False, "with_pair": False, "precomputed": GIVEN,
    }),
    **{
        f"registration-{a}-{p}": (register.init_bold_registration_wf, {**GRIDS, "with_anat": a, "with_pair": p})
        for a in (True, False) for p in (True, False)
    },
    "train-pair": _learned(train_models.PAIR),
    "train-volumes": _learned(train_models.RUN_VOLUMES, "tv"),
    "train-given": _learned(train_models.RUN_VOLUMES, "tv", model_source="reuse", model_dir="/nowhere"),
    **{
        f"variance-{method}": _learned(train_models.FLUCTUATIONS, method, with_calibration=method == "sbl",
                                       control=method == "sdmod")
        for method in ("sbl", "wmn", "focuss", "sdmod")
    },
    "variance-given": _learned(train_models.FLUCTUATIONS, "sbl", model_source="reuse", model_dir="/nowhere"),
    **{
        f"series-{series}": (super_resolve.init_series_wf, {"series": series, "run": run_of(PLAN, with_pair=True)})
        for series in ("raw", "inject", "srgan", "sbl")
    },
    "series-tried": (super_resolve.init_series_wf, {"series": "srgan", "run": run_of(IN_BF16, with_pair=True)}),
    "series-corrected": (super_resolve.init_series_wf, {
        "series": "inject", "run": run_of(CORRECTED, acquisition=ON_TOP, with_pair=True)}),
    "series-shifted": (super_resolve.init_series_wf, {
        "series": "sbl", "run": run_of(ALONE_SBL), "extra": EXTRAS["mirror"]}),
    "extra-own": (unsaved_series.init_extra_wf, {"extra": OWN.extras[0], "run": run_of(OWN), "name": "extra_wf"}),
    **{
        f"extra-{name}": (unsaved_series.init_extra_wf, {"extra": extra, "run": run_of(PLAN), "name": "extra_wf"})
        for name, extra in EXTRAS.items()
    },
    "extra-calibrated": (unsaved_series.init_extra_wf, {
        "extra": EXTRAS["reseeded"], "run": run_of(PLAN, acquisition=CALIBRATED), "name": "extra_wf"}),
    "extra-corrected": (unsaved_series.init_extra_wf, {
        "extra": EXTRAS["mirror"], "run": run_of(CORRECTED, acquisition=ON_TOP), "name": "extra_wf"}),
    "activation": (map_activation.init_activation_wf, {
        "series": "raw", "activation": ACTIVATION, "acquisition": ACQUISITION}),
    "comparison": (map_activation.init_comparison_wf, {"activation": ACTIVATION, "factor": (2.0, 2.0, 1.0)}),
    "maps-plain": (map_activation.init_maps_wf, {"series": "srgan", "run": run_of(PLAN), "name": "maps_wf"}),
    "maps": (map_activation.init_maps_wf, {"series": "raw", "run": run_of(target=SPACED), "name": "maps_wf"}),
    "func": (bold_run.init_func_wf, {"run": run_of(
        PLAN, acquisition=CALIBRATED, target=SPACED, evaluation=JUDGED, with_anat=True, with_pair=True,
        with_holdout=True)}),
    **{
        f"func-own-{plan.device}": (bold_run.init_func_wf, {"run": run_of(plan, with_pair=True)})
        for plan in (OWN, OWN_BY_GPU)
    },
    **{
        f"func-{name}": (bold_run.init_func_wf, {"run": run_of(plan, with_anat=True)})
        for name, plan in (("alone", ALONE), ("control", ONLY_CONTROL))
    },
    "func-gpu": (bold_run.init_func_wf, {"run": run_of(BY_GPU, with_pair=True)}),
    "func-bare": (bold_run.init_func_wf, {"run": run_of(evaluation=UNSPLIT)}),
    "func-corrected": (bold_run.init_func_wf, {"run": run_of(
        CORRECTED, acquisition=ON_TOP, target=SPACED, evaluation=JUDGED, with_anat=True, with_pair=True,
        with_holdout=True)}),
    "func-moved": (bold_run.init_func_wf, {"run": run_of(
        acquisition=replace(ACQUISITION, precomputed=GIVEN_MOTION), evaluation=UNSPLIT)}),
    "truth": (super_resolve.init_truth_wf, {"run": run_of(acquisition=ON_TOP, evaluation=JUDGED)}),
    "truth-untimed": (super_resolve.init_truth_wf, {"run": run_of()}),
    "evaluation": (evaluate.init_evaluation_wf, {"run": run_of(
        PLAN, evaluation=JUDGED, with_pair=True, with_holdout=True)}),
    "evaluation-bare": (evaluate.init_evaluation_wf, {"run": run_of(evaluation=UNSPLIT)}),
    "null": (evaluate.init_null_wf, {"run": run_of(evaluation=JUDGED)}),
    "other-contrast": (unsaved_series.init_other_contrast_wf, {"factor": (2.0, 2.0, 1.0)}),
    "claim": (attribute.init_claim_wf, {"run": run_of(evaluation=JUDGED)}),
    "growth": (attribute.init_roi_growth_wf, {"run": run_of()}),
    "guards": (control_quality.init_guards_wf, {
        "method": "srgan", "run": run_of(PLAN, evaluation=JUDGED, with_pair=True)}),
    "guards-bare": (control_quality.init_guards_wf, {"method": "wmn", "run": run_of(ALONE)}),
    "distortion": (control_quality.init_distortion_wf, {
        "run": run_of(PLAN, acquisition=replace(ACQUISITION, phase_encoding="j"), with_pair=True)}),
    "precision": (control_quality.init_precision_wf, {"method": "srgan", "run": run_of(IN_BF16)}),
    "scans": (fused_structural.init_prepare_contrasts_wf, {"plan": SCANS}),
    "fused": (fused_structural.init_fused_wf, {"plan": SCANS, "method": "attunet"}),
    "measured": (fused_structural.init_measured_wf, {"plan": SCANS}),
    "calibration": (calibrate.init_calibration_wf, {**GRIDS, "plan": CALIBRATED.calibration}),
    "calibration-rest": (calibrate.init_calibration_wf, {
        **GRIDS, "plan": replace(CALIBRATED.calibration, events_file="", n_dummy=2)}),
    "holdout": (train_models.init_holdout_wf, {
        "method": "srgan", "factor": (2.0, 2.0, 1.0), "how": TRAINING, "omp_nthreads": 1}),
}  # fmt: skip
DRAWN = {
    "anatomy": drawings.anatomy(),
    "pair": drawings.pair(),
    "training": drawings.training("tv", of_run=True),
    "run": drawings.motion_and_registration(run_of(with_anat=True, with_pair=True)),
    "run-bare": drawings.motion_and_registration(run_of()),
    "maps": drawings.maps(run_of(with_pair=True)),
    "maps-bare": drawings.maps(run_of()),
    "evaluation": drawings.evaluation(run_of(PLAN, evaluation=JUDGED, with_pair=True)),
    "evaluation-bare": drawings.evaluation(run_of(evaluation=UNSPLIT)),
    "overview": drawings.overview(run_of(with_pair=True)),
    "overview-bare": drawings.overview(run_of()),
    "variance": drawings.variance(run_of(with_pair=True)),
    "variance-bare": drawings.variance(run_of()),
    "calibration": drawings.calibration(),
}
DOCUMENTED = tuple(CASES)
CASES |= {
    f"figures-{name}": (drawings.init_reportlets_wf, {"drawings": drawn, "name": "figures_wf"})
    for name, drawn in DRAWN.items()
}
OF_TV = {f"{field}_METHOD": {f"{field}_tv"} for field in ("log_file", "card_file")}
MAYBE = {
    "func-corrected": {"model_METHOD": {"model_srgan", "model_srganSeed1"}},
    "func": {"model_METHOD": {"model_srgan", "model_srganSeed1"}},
    "func-gpu": {"model_METHOD": {"model_srgan"}},
    **{f"func-own-{device}": {"model_METHOD": {"model_srgan"}, **OF_TV} for device in ("cpu", "cuda")},
    "evaluation": {"model_METHOD": {"model_srgan"}, "precision_METHOD": set(), "card_METHOD": {"card_sbl"},
                   "tested_METHOD": {"tested_sdmod", "tested_sbl"}},
}  # fmt: skip


@pytest.fixture(params=CASES, scope="module")
def case(request):
    builder, arguments = CASES[request.param]
    return request.param, builder, builder(**arguments)


def _documented(builder, section: str) -> set[str]:
    """Names that a section of a numpydoc docstring describes: ``a, b : text``, or ``a, b`` above indented text."""
    lines = inspect.cleandoc(builder.__doc__).splitlines()
    start = next((k for k, line in enumerate(lines) if line.strip() == section), None)
    if start is None:
        return set()
    names: set[str] = set()
    for line, following in zip(lines[start + 2 :], [*lines[start + 3 :], ""], strict=True):
        if set(following.strip()) == {"-"}:
            break
        if line and not line.startswith(" "):
            names |= {name.strip() for name in line.split(":")[0].split(",")}
    return names


def _fields(workflow: pe.Workflow, node: str) -> set[str]:
    return set(workflow.get_node(node).inputs.copyable_trait_names())


def _edges(workflow: pe.Workflow) -> Iterator[tuple[str, str, str, str]]:
    for source, target, data in workflow._graph.edges(data=True):
        for out, into in data["connect"]:
            yield source.name, out if isinstance(out, str) else out[0], target.name, into


def _single(workflow: pe.Workflow) -> pe.Node:
    return next(node for node in workflow._graph.nodes() if node.name == "inputnode")


def _documented_here(name, builder, section: str) -> set[str]:
    """Documented fields, with the placeholder of a method replaced by what stands for it in a case."""
    documented = _documented(builder, section)
    for placeholder, actual in MAYBE.get(name, {}).items():
        if placeholder in documented:
            documented = documented - {placeholder} | actual
    return {field for field in documented if not field.endswith("_METHOD")}


SECTIONS = (("Inputs", "inputnode"), ("Outputs", "outputnode"))


def test_fields_are_documented(case):
    name, builder, workflow = case
    for section, node in SECTIONS if name in DOCUMENTED else SECTIONS[1:]:  # drawings bring the inputs
        documented, there = _documented_here(name, builder, section), _fields(workflow, node)
        assert there <= documented, f"{name}: {node} has undocumented {sorted(there - documented)}"
        if "-" not in name:  # the variant that has everything
            assert documented == there, f"{name}: documented but absent: {sorted(documented - there)}"


@pytest.mark.parametrize("builder", {CASES[name][0].__name__: CASES[name][0] for name in DOCUMENTED}.values())
def test_documented_fields_are_there_in_some_case(builder):
    for section, node in SECTIONS:
        own = {name: make(**given) for name, (make, given) in CASES.items() if make is builder}
        documented = set.union(*(_documented_here(name, builder, section) for name in own))
        there = set.union(*(_fields(workflow, node) for workflow in own.values()))
        assert documented <= there, f"{builder.__name__}: documented but absent: {sorted(documented - there)}"


def test_every_field_is_wired(case):
    name, _, workflow = case
    edges = list(_edges(workflow))
    unread = _fields(workflow, "inputnode") - {out for source, out, _, _ in edges if source == "inputnode"}
    unset = _fields(workflow, "outputnode") - {into for _, _, target, into in edges if target == "outputnode"}
    assert not unread, f"{name}: nothing reads {sorted(unread)}"
    left = unset - _set_constants(workflow)
    assert not left, f"{name}: nothing sets {sorted(left)}"


def _set_constants(workflow: pe.Workflow) -> set[str]:
    from nipype.interfaces.base import isdefined

    node = workflow.get_node("outputnode")
    return {f for f in node.inputs.copyable_trait_names() if isdefined(getattr(node.inputs, f))}


def test_every_wire_begins_and_ends_at_a_field(case):
    name, _, workflow = case
    for full in workflow.list_node_names():
        node = workflow.get_node(full)
        if isinstance(node.interface, niu.IdentityInterface):
            continue
        known = set(node.inputs.copyable_trait_names())
        owner = workflow.get_node(full.rpartition(".")[0]) if "." in full else workflow
        ends = {into for _, _, target, into in _edges(owner) if target == node.name}
        assert ends <= known, f"{name}: {full} has no {sorted(ends - known)}"
        starts = {out for source, out, _, _ in _edges(owner) if source == node.name}
        assert starts <= set(node.outputs.copyable_trait_names()), f"{name}: {full} has no {sorted(starts)}"


def test_every_mandatory_input_is_given_or_wired(case):
    from nipype.interfaces.base import isdefined

    name, _, workflow = case
    for full in workflow.list_node_names():
        node = workflow.get_node(full)
        owner = workflow.get_node(full.rpartition(".")[0]) if "." in full else workflow
        wired = {into for _, _, target, into in _edges(owner) if target == node.name}
        wired |= {  # from outside the workflow that holds the node
            into.rpartition(".")[2]
            for _, _, target, into in _edges(workflow)
            if "." in full and full.startswith(f"{target}.") and into.startswith(node.name)
        }
        given = {n for n in node.inputs.copyable_trait_names() if isdefined(getattr(node.inputs, n))}
        traits = node.inputs.traits(mandatory=True).items()
        needed = {n for n, trait in traits if not {n, *(trait.xor or ())} & given}
        assert needed <= wired, f"{name}: {full} lacks {sorted(needed - wired)}"


def test_the_measured_series_is_brought_to_the_high_resolution_grid():
    builder, values = CASES["func"]
    ends = {into: (source, out) for source, out, target, into in _edges(builder(**values)) if target == "truth_wf"}
    assert ends["inputnode.reference"] == ("bold_registration_wf", "outputnode.bold_mask_hr")


def test_text_of_methods_cites_what_the_bibliography_has(case):
    from bids_sr.boilerplate import bibliography

    cited = {
        key for group in re.findall(r"\[(@[^\]]+)\]", case[2].visit_desc()) for key in re.findall(r"@(\w+)", group)
    }
    known = set(re.findall(r"@\w+\{\s*([^,\s]+)", bibliography()))
    assert cited <= known


def test_sinks_are_wired_field_by_field():
    builder, values = CASES["func"]
    ends = {into: out for source, out, target, into in _edges(builder(**values)) if target == "keep_motion_files"}
    assert ends == {f"in{k}": f"outputnode.{field}" for k, field in enumerate(sinks.MOTION, 1)}


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_first_screen_knows_of_a_calibration(calibrated):
    run = run_of(PLAN, acquisition=CALIBRATED) if calibrated else run_of(PLAN)
    shown = drawings.overview(run)["overview"][0].inputs
    assert shown.calibrated is run.calibrated
    assert run.calibrated is calibrated


def test_runs_of_a_participant_share_the_room_of_the_viewer():
    viewer, _ = drawings.maps(run_of(), n_runs=3)["viewer"]
    assert viewer.inputs.n_runs == 3
