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

from bids_sr.workflows import anat_preproc, fused_structural, sinks
from bids_sr.workflows.bold import (
    bold_run,
    calibrate,
    estimate_variance,
    hmc_workflow,
    map_activation,
    reference_series,
    register,
    score_holdout,
    series_maps,
    super_resolve,
    take_precomputed,
    train_on_volumes,
    unsaved_series,
)
from bids_sr.workflows.evaluation import attribute, control_quality, evaluate, run_placebos
from bids_sr.workflows.input_plans import Acquisition, CalibrationPlan, Given, Target, Training
from bids_sr.workflows.plans import ActivationPlan, EvaluationPlan, Extra, RunPlan, SeriesPlan
from bids_sr.workflows.reportlets import run_evaluation, subject_reportlets

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
TARGET = Target(output_dir="/nowhere", common={"subject": "01", "task": "tap", "datatype": "func"}, sources=(),
                task_name="tap", dtype="int16")  # fmt: skip
SPACED = Target(output_dir="/nowhere", common={"subject": "01", "task": "tap", "datatype": "func"}, sources=(),
                task_name="tap", dtype="int16", spaces=("MNI152NLin2009aSym",))  # fmt: skip
ACQUISITION = Acquisition(tr=2.0, factor=(2.0, 2.0, 1.0), n_dummy=None, slice_times=(0.0, 1.0),
                          slice_time_ref=0.5, voxel=(6.0, 6.0, 5.0))  # fmt: skip
CALIBRATED = replace(ACQUISITION, calibration=CalibrationPlan(
    bold_file=__file__, events_file=__file__, tr=2.0, n_dummy=None, source="bids:raw:x",
))  # fmt: skip
TRAINING = Training(recipe="fast", model_source="auto", model_dir=None, pretrained={}, vgg_weights=None,
                    max_train_minutes=None, seed=0, device="cpu", precision="auto", force=False,
                    sloppy=True, calibrated=("sbl",))  # fmt: skip
HOW = {"data_consistency": "report", "precision": "auto", "device": "cpu", "training": TRAINING}
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
ONLY_CONTROL = SeriesPlan(names=("bspline", "sdmod"), models=(), guided=(), on_run=("sdmod",), controls=("sdmod",),
                          **HOW)  # fmt: skip
GIVEN = Given(origin="fMRIPrep 24.1.1", uris=("bids:fmriprep:x",), readout=0.05, files={
    name: f"/nowhere/{name}" for name in ("hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv", "fieldmap",
                                          "boldref2fmap_xfm")
})  # fmt: skip
GIVEN_MOTION = Given(origin="fMRIPrep 24.1.1", uris=(), files={"hmc_xfms": "/nowhere/hmc_xfms"})
ON_TOP = replace(ACQUISITION, given=GIVEN, phase_encoding="j-")
CORRECTED = SeriesPlan(names=("bspline", "inject", "srgan", "sbl"), models=("srgan",), guided=("inject",),
                       on_run=("sbl",), guide_kind="highres", extras=tuple(EXTRAS.values()), corrected=True,
                       **HOW)  # fmt: skip
OWN = SeriesPlan(names=("bspline", "srgan", "tv"), models=("srgan", "tv"), guided=(), on_volumes=("tv",),
                 extras=(Extra(name="tvSeed1", method="tv", seed=1),), **HOW)  # fmt: skip
OWN_BY_GPU = replace(OWN, device="cuda", extras=())
PLAIN = SeriesPlan(names=("bspline",), models=(), guided=(), **HOW)
JUDGED = EvaluationPlan(truth_file="/nowhere/truth.nii.gz", truth_slice_times=(0.0, 1.0), null_checks=10,
                        truth_maps={"thumb": "/nowhere/thumb.nii.gz"}, pair_conditions=("thumb", "little"),
                        attribution_widths=(10.6,), roi_grow=True)  # fmt: skip
UNSPLIT = EvaluationPlan(split=False)
JUDGED_PLAIN = EvaluationPlan()
ACTIVATION = ActivationPlan(contrasts=CONTRASTS, kinds=("cc", "glm"), smoothing=(0.0, 5.0), low_pass=0.1,
                            high_pass=0.008, thresholds=("quarter", "fdr"))  # fmt: skip


def run_of(plan: SeriesPlan, *, acquisition=ACQUISITION, target=TARGET, evaluation=JUDGED_PLAIN, with_anat=False,
           with_pair=False, with_holdout=False) -> RunPlan:  # fmt: skip
    return RunPlan(
        name="run", bold_file=__file__, events_file=__file__, pair=int(with_pair), facts={}, target=target,
        acquisition=acquisition, series=plan, activation=ACTIVATION, evaluation=evaluation, with_anat=with_anat,
        with_holdout=with_holdout, omp_nthreads=1, seed=0,
    )  # fmt: skip


NETWORK = {"device": "cpu", "precision": "auto", "omp_nthreads": 1, "factor": (2.0, 2.0, 1.0), "force": False}

CASES = {
    "anat": (anat_preproc.init_anat_wf, {"template": "MNI152NLin2009aSym", "roi": "motor", "omp_nthreads": 1, "seed": 0,
                                       "sloppy": True}),
    "given": (take_precomputed.init_given_anat_wf, {"origin": "fMRIPrep 24.1.1", "template": "MNI152NLin2009aSym",
                                                    "roi": "motor",
                                         "with_tissues": True, "with_transforms": True, "with_labels": True, "seed": 0,
                                         "sloppy": True}),
    "given-part": (take_precomputed.init_given_anat_wf, {"origin": "fMRIPrep 24.1.1", "template": "MNI152NLin2009aSym",
                                              "roi": "motor", "with_tissues": False, "with_transforms": False,
                                              "with_labels": False, "seed": 0, "sloppy": True}),
    "given motion": (take_precomputed.init_given_motion_wf, {"origin": "fMRIPrep 24.1.1", "n_dummy": None,
                                                             "slice_time_ref": 0.5,
                                                  "slice_times": [0.0, 1.0], "phase_encoding": "j-", "readout": 0.05,
                                                  }),
    "given-motion": (take_precomputed.init_given_motion_wf, {"origin": "fMRIPrep 24.1.1", "n_dummy": 2,
                                                             "slice_time_ref": 0.5,
                                                  "slice_times": None, "phase_encoding": None, "readout": 0.0,
                                                  }),
    "given confounds": (take_precomputed.init_given_confounds_wf, {"origin": "fMRIPrep 24.1.1"}),
    "registration": (register.init_bold_registration_wf, {
        "with_anat": True, "with_pair": True, "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1, "seed": 0,
        "given": ("bold_mask", "boldref2t1w_xfm"), "origin": "fMRIPrep 24.1.1",
    }),
    "registration-masked": (register.init_bold_registration_wf, {
        "with_anat": False, "with_pair": False, "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1, "seed": 0,
        "given": ("bold_mask", "boldref2t1w_xfm"), "origin": "fMRIPrep 24.1.1",
    }),
    "pair": (register.init_pair_wf, {"factor": (2.0, 2.0, 1.0), "truncate": False, "omp_nthreads": 1, "seed": 0}),
    "pair-truncated": (register.init_pair_wf, {"factor": (2.0, 2.0, 1.0), "truncate": True, "omp_nthreads": 1,
                                                   "seed": 0}),
    **{
        f"registration-{a}-{p}": (
            register.init_bold_registration_wf,
            {"with_anat": a, "with_pair": p, "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1, "seed": 0},
        )
        for a in (True, False) for p in (True, False)
    },
    "motion": (hmc_workflow.init_motion_wf, {"n_dummy": None, "slice_times": [0.0, 1.0], "slice_time_ref": 0.5,
                                       "omp_nthreads": 1}),
    "motion-untimed": (hmc_workflow.init_motion_wf, {"n_dummy": 3, "slice_times": None, "slice_time_ref": 0.5,
                                               "omp_nthreads": 1}),
    "confounds": (hmc_workflow.init_confounds_wf, {}),
    "train": (super_resolve.init_train_wf, {**NETWORK, "method": "srgan", "recipe": "fast", "model_source": "auto",
                                       "model_dir": None, "pretrained": None, "seed": 0, "max_train_minutes": None,
                                       "sloppy": True}),
    **{
        f"series-{series}": (
            super_resolve.init_series_wf,
            {**NETWORK, "series": series, "needs_model": model, "needs_guide": guide, "data_consistency": "report",
             },
        )
        for series, model, guide in [("raw", False, False), ("inject", False, True), ("srgan", True, False)]
    },
    "series-corrected": (super_resolve.init_series_wf, {
        **NETWORK, "series": "ratio", "needs_model": False, "needs_guide": True, "data_consistency": "report",
        "corrected": True,
    }),
    **{
        f"series-sbl-{guide}": (
            super_resolve.init_series_wf,
            {**NETWORK, "series": "sbl", "needs_model": True, "needs_guide": guide, "data_consistency": "report",
             "of_run": True, "displace": "" if guide else "shift"},
        )
        for guide in (True, False)
    },
    "train volumes": (train_on_volumes.init_volumes_train_wf, {"method": "tv", "recipe": "fast", "factor": (2.0, 2.0,
                                                               1.0),
                                                      "seed": 0, "about": "volumes that agree [@tv_self_sr]"}),
    "train-given": (train_on_volumes.init_volumes_train_wf, {"method": "tv", "recipe": "fast", "factor": (2.0, 2.0,
                                                             1.0),
                                                    "seed": 0, "model_source": "reuse", "model_dir": "/nowhere",
                                                    "max_train_minutes": 1.0}),
    "extra-own": (unsaved_series.init_extra_wf, {"extra": OWN.extras[0], "run": run_of(OWN), "name": "extra_wf"}),
    **{
        f"func-own-{plan.device}": (bold_run.init_func_wf, {"run": run_of(plan, with_pair=True)})
        for plan in (OWN, OWN_BY_GPU)
    },
    "activation": (map_activation.init_activation_wf, {
        "series": "raw", "fwhm_mm": [0.0, 5.0], "contrasts": CONTRASTS, "kinds": ["cc", "glm"], "tr": 2.0,
        "low_pass": 0.1, "high_pass": 0.008, "slice_time_ref": 0.5, "has_stc": True, "thresholds": ["quarter", "fdr"],
        "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1,
    }),
    "comparison": (map_activation.init_comparison_wf, {"contrasts": CONTRASTS, "thresholds": ["quarter"],
                                                   "factor": (2.0, 2.0, 1.0)}),
    "maps-plain": (series_maps.init_maps_wf, {"series": "srgan", "target": TARGET, "acquisition": ACQUISITION,
                                 "activation": ACTIVATION, "omp_nthreads": 1, "name": "maps_wf"}),
    "maps": (series_maps.init_maps_wf, {"series": "raw", "target": SPACED, "acquisition": ACQUISITION,
                                        "activation": ACTIVATION, "omp_nthreads": 1, "name": "maps_wf"}),
    "func": (bold_run.init_func_wf, {"run": run_of(
        PLAN, acquisition=CALIBRATED, target=SPACED, evaluation=JUDGED, with_anat=True, with_pair=True,
        with_holdout=True)}),
    **{
        f"func-{name}": (bold_run.init_func_wf, {"run": run_of(plan, with_anat=True)})
        for name, plan in (("alone", ALONE), ("control", ONLY_CONTROL))
    },
    "func-gpu": (bold_run.init_func_wf, {"run": run_of(BY_GPU, with_pair=True)}),
    "func-bare": (bold_run.init_func_wf, {"run": run_of(PLAIN, evaluation=UNSPLIT)}),
    "func-corrected": (bold_run.init_func_wf, {"run": run_of(
        CORRECTED, acquisition=ON_TOP, target=SPACED, evaluation=JUDGED, with_anat=True, with_pair=True,
        with_holdout=True)}),
    "func-moved": (bold_run.init_func_wf, {"run": run_of(
        PLAIN, acquisition=replace(ACQUISITION, given=GIVEN_MOTION), evaluation=UNSPLIT)}),
    "truth": (reference_series.init_truth_wf, {"slice_times": [0.0, 1.0], "slice_time_ref": 0.5, "omp_nthreads": 1,
                                    "corrected": True}),
    "truth-untimed": (reference_series.init_truth_wf, {"slice_times": None, "slice_time_ref": 0.5, "omp_nthreads": 1,
                                            }),
    **{
        f"variance{'' if method == 'sbl' else '-' + method}": (
            estimate_variance.init_variance_wf,
            {"method": method, "factor": (2.0, 2.0, 1.0), "recipe": "fast", "seed": 0,
             "with_calibration": method == "sbl"},
        )
        for method in ("sbl", "wmn", "focuss", "sdmod")
    },
    "variance-given": (estimate_variance.init_variance_wf, {"factor": (2.0, 2.0, 1.0), "recipe": "fast", "seed": 0,
                                                   "model_dir": "/nowhere", "model_source": "reuse"}),
    "variance-alone": (estimate_variance.init_variance_wf, {"factor": (2.0, 2.0, 1.0), "recipe": "fast", "seed": 0}),
    **{
        f"extra-{name}": (unsaved_series.init_extra_wf, {"extra": extra, "run": run_of(PLAN), "name": "extra_wf"})
        for name, extra in EXTRAS.items()
    },
    "evaluation": (evaluate.init_evaluation_wf, {"run": run_of(
        PLAN, evaluation=JUDGED, with_pair=True, with_holdout=True)}),
    "evaluation-bare": (evaluate.init_evaluation_wf, {"run": run_of(PLAIN, evaluation=UNSPLIT)}),
    "null": (run_placebos.init_null_wf, {"series": ["raw", "bspline"], "n_shuffles": 3, "tr": 2.0, "high_pass": 0.008,
                                    "slice_time_ref": 0.5, "has_stc": True, "seed": 0}),
    "other-contrast": (run_placebos.init_other_contrast_wf, {"factor": (2.0, 2.0, 1.0)}),
    "claim": (attribute.init_claim_wf, {
        "series": ["raw", "bspline"], "pair": ("thumb", "little"), "contrasts": CONTRASTS, "widths": (10.6,),
        "voxel_mm": (6.0, 6.0, 5.0), "factor": (2.0, 2.0, 1.0), "tr": 2.0, "low_pass": 0.1, "high_pass": 0.008,
        "slice_time_ref": 0.5, "has_stc": True,
    }),
    "growth": (attribute.init_roi_growth_wf, {
        "contrasts": CONTRASTS, "fwhm_mm": 5.0, "factor": (2.0, 2.0, 1.0), "tr": 2.0, "low_pass": 0.1,
        "slice_time_ref": 0.5, "has_stc": True,
    }),
    "guards": (control_quality.init_guards_wf, {
        "method": "srgan", "contrasts": CONTRASTS, "factor": (2.0, 2.0, 1.0), "n_ensemble": 2, "has_guide": True,
        "has_measured": True, "needs_model": True, "seed": 0,
    }),
    "guards-bare": (control_quality.init_guards_wf, {
        "method": "sbl", "contrasts": CONTRASTS, "factor": (2.0, 2.0, 1.0), "n_ensemble": 1, "has_guide": False,
        "has_measured": False, "needs_model": False, "seed": 0,
    }),
    "distortion": (control_quality.init_distortion_wf, {"phase_encoding": "j", "guided": ["inject"]}),
    "precision": (control_quality.init_precision_wf, {
        "method": "srgan", "contrasts": CONTRASTS, "factor": (2.0, 2.0, 1.0), "tr": 2.0, "high_pass": 0.008,
        "slice_time_ref": 0.5, "has_stc": True, "precision": "bf16", "device": "cpu", "force": False,
        "omp_nthreads": 1,
    }),
    "scans": (fused_structural.init_prepare_contrasts_wf, {"contrasts": ("T1w", "FLAIR"), "others": ("linear",),
                                                           "seed": 0,
                                                     "template": "MNI152NLin2009aSym", "sloppy": True,
                                                     "head": "sub-01", "align": "affine"}),
    "fused": (fused_structural.init_fused_wf, {
        "method": "attunet", "contrasts": ("T1w", "FLAIR"), "head": "sub-01", "omp_nthreads": 1, "from_others": True,
        "how": {"recipe": "fast", "model_source": "auto", "seed": 0, "device": "cpu", "force": False, "sloppy": True},
    }),
    "measured": (fused_structural.init_measured_wf, {"contrasts": ("T1w", "FLAIR"), "series": ("bspline", "attunet"),
                                               "seed": 0}),
    "calibration": (calibrate.init_calibration_wf, {"tr": 2.0, "factor": (2.0, 2.0, 1.0), "n_dummy": None,
                                                      "with_events": True, "seed": 0, "omp_nthreads": 1}),
    "calibration-rest": (calibrate.init_calibration_wf, {"tr": 2.0, "factor": (2.0, 2.0, 1.0), "n_dummy": 2,
                                                           "with_events": False, "seed": 0, "omp_nthreads": 1}),
    "holdout": (score_holdout.init_holdout_wf, {"method": "srgan", "factor": (2.0, 2.0, 1.0), "device": "cpu",
                                          "precision": "auto", "omp_nthreads": 1, "seed": 0}),
}  # fmt: skip
REPORTLETS = {
    "anat-figures": (subject_reportlets.init_anat_reportlets_wf, {}),
    "pair-figures": (subject_reportlets.init_pair_reportlets_wf, {"with_model": True}),
    "run-figures": (subject_reportlets.init_run_reportlets_wf, {"with_anat": True, "with_pair": True}),
    "run-figures-bare": (subject_reportlets.init_run_reportlets_wf, {"with_anat": False, "with_pair": False}),
    "maps-figures": (subject_reportlets.init_maps_reportlets_wf, {"series": ["bspline"], "with_pair": True}),
    "maps-figures-bare": (subject_reportlets.init_maps_reportlets_wf, {"series": ["bspline"], "with_pair": False}),
    "evaluation-figures": (
        run_evaluation.init_evaluation_reportlets_wf,
        {"with_truth": True, "with_guide": True},
    ),
    "evaluation-figures-bare": (
        run_evaluation.init_evaluation_reportlets_wf,
        {
            "with_truth": False,
            "with_guide": False,
            "with_maps": False,
            "with_halves": False,
        },
    ),
    "training figures": (subject_reportlets.init_training_reportlets_wf, {"method": "tv", "of_run": True}),
    "calibration figures": (calibrate.init_calibration_reportlets_wf, {}),
    **{
        f"variance-figures-{guide}": (run_evaluation.init_variance_reportlets_wf, {"with_guide": guide})
        for guide in (True, False)
    },
}
CASES |= REPORTLETS
OF_TV = {f"{field}_METHOD": {f"{field}_tv"} for field in ("log_file", "card_file")}
MAYBE = {
    "func-corrected": {"model_METHOD": {"model_srgan", "model_srganSeed1"}},
    "func": {"model_METHOD": {"model_srgan", "model_srganSeed1"}},
    "func-gpu": {"model_METHOD": {"model_srgan"}},
    **{f"func-own-{device}": {"model_METHOD": {"model_srgan"}, **OF_TV} for device in ("cpu", "cuda")},
    "evaluation": {"model_METHOD": {"model_srgan"}, "precision_METHOD": set(), "card_METHOD": {"card_sbl"}},
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


def test_documented_fields_are_the_fields(case):
    name, builder, workflow = case
    for section, node in (("Inputs", "inputnode"), ("Outputs", "outputnode")):
        documented = _documented(builder, section)
        for placeholder, actual in MAYBE.get(name, {}).items():
            if placeholder in documented:
                documented = documented - {placeholder} | actual
        documented = {field for field in documented if not field.endswith("_METHOD")}
        there = _fields(workflow, node)
        assert there <= documented, f"{name}: {node} has undocumented {sorted(there - documented)}"
        if "-" not in name:  # the variant that has everything
            assert documented == there, f"{name}: documented but absent: {sorted(documented - there)}"


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
        needed = {n for n, t in node.inputs.traits(mandatory=True).items() if not isdefined(getattr(node.inputs, n))}
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
    workflow = sinks.init_sink_wf(fields=sinks.motion_fields(), output_dir="/nowhere", common={"subject": "01"})
    assert _fields(workflow, "inputnode") == set(sinks.motion_fields())


def test_reportlets_have_builders_for_each_stage():
    assert {n for n in vars(subject_reportlets) if n.startswith("init_")} >= {
        "init_anat_reportlets_wf", "init_pair_reportlets_wf", "init_run_reportlets_wf", "init_maps_reportlets_wf",
    }  # fmt: skip
