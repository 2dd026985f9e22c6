"""Every builder: documented fields are the fields there are, and every field leads somewhere.

nipype accepts a misspelt field silently; a wire that ends nowhere shows only as a missing file much later.
"""

import inspect
import re
from collections.abc import Iterator

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_sr.workflows import (
    activation,
    anatomical,
    functional,
    maps,
    motion,
    outputs,
    registration,
    reportlets,
    superres,
)
from bids_sr.workflows.plans import Acquisition, ActivationPlan, SeriesPlan, Target

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
TARGET = Target(output_dir="/nowhere", common={"subject": "01", "task": "tap", "datatype": "func"}, sources=(),
                task_name="tap", dtype="int16")  # fmt: skip
SPACED = Target(output_dir="/nowhere", common={"subject": "01", "task": "tap", "datatype": "func"}, sources=(),
                task_name="tap", dtype="int16", spaces=("MNI152NLin2009aSym",))  # fmt: skip
ACQUISITION = Acquisition(tr=2.0, mem_gb=0.1, factor=(2.0, 2.0, 1.0), n_dummy=None, slice_times=(0.0, 1.0),
                          slice_time_ref=0.5)  # fmt: skip
PLAN = SeriesPlan(names=("bspline", "inject", "srgan"), models=("srgan",), guided=("inject",),
                  data_consistency="report", precision="auto", device="cpu")  # fmt: skip
PLAIN = SeriesPlan(names=("bspline",), models=(), guided=(), data_consistency="report", precision="auto", device="cpu")
ACTIVATION = ActivationPlan(contrasts=CONTRASTS, kinds=("cc", "glm"), smoothing=(0.0, 5.0), low_pass=0.1,
                            high_pass=0.008, thresholds=("quarter", "fdr"))  # fmt: skip
NETWORK = {"device": "cpu", "precision": "auto", "omp_nthreads": 1, "factor": (2.0, 2.0, 1.0), "force": False}

CASES = {
    "anat": (anatomical.init_anat_wf, {"template": "MNI152NLin2009aSym", "roi": "motor", "omp_nthreads": 1, "seed": 0,
                                       "sloppy": True}),
    "pair": (registration.init_pair_wf, {"factor": (2.0, 2.0, 1.0), "truncate": False, "omp_nthreads": 1, "seed": 0}),
    "pair-truncated": (registration.init_pair_wf, {"factor": (2.0, 2.0, 1.0), "truncate": True, "omp_nthreads": 1,
                                                   "seed": 0}),
    **{
        f"registration-{a}-{p}": (
            registration.init_bold_registration_wf,
            {"with_anat": a, "with_pair": p, "factor": (2.0, 2.0, 1.0), "omp_nthreads": 1, "seed": 0, "mem_gb": 0.1},
        )
        for a in (True, False) for p in (True, False)
    },
    "motion": (motion.init_motion_wf, {"n_dummy": None, "slice_times": [0.0, 1.0], "slice_time_ref": 0.5,
                                       "omp_nthreads": 1, "mem_gb": 0.1}),
    "motion-untimed": (motion.init_motion_wf, {"n_dummy": 3, "slice_times": None, "slice_time_ref": 0.5,
                                               "omp_nthreads": 1, "mem_gb": 0.1}),
    "confounds": (motion.init_confounds_wf, {"mem_gb": 0.1}),
    "train": (superres.init_train_wf, {**NETWORK, "method": "srgan", "recipe": "fast", "model_source": "auto",
                                       "model_dir": None, "pretrained": None, "seed": 0, "max_train_minutes": None,
                                       "sloppy": True}),
    **{
        f"series-{series}": (
            superres.init_series_wf,
            {**NETWORK, "series": series, "needs_model": model, "needs_guide": guide, "data_consistency": "report",
             "mem_gb": 0.1},
        )
        for series, model, guide in [("raw", False, False), ("inject", False, True), ("srgan", True, False)]
    },
    "activation": (activation.init_activation_wf, {
        "series": "raw", "fwhm_mm": [0.0, 5.0], "contrasts": CONTRASTS, "kinds": ["cc", "glm"], "tr": 2.0,
        "low_pass": 0.1, "high_pass": 0.008, "slice_time_ref": 0.5, "has_stc": True, "thresholds": ["quarter", "fdr"],
        "factor": (2.0, 2.0, 1.0), "mem_gb": 0.1, "omp_nthreads": 1,
    }),
    "comparison": (activation.init_comparison_wf, {"contrasts": CONTRASTS, "thresholds": ["quarter"],
                                                   "factor": (2.0, 2.0, 1.0)}),
    "maps-plain": (maps.init_maps_wf, {"series": "srgan", "target": TARGET, "acquisition": ACQUISITION,
                                 "activation": ACTIVATION, "omp_nthreads": 1, "name": "maps_wf"}),
    "maps": (maps.init_maps_wf, {"series": "raw", "target": SPACED, "acquisition": ACQUISITION,
                                        "activation": ACTIVATION, "omp_nthreads": 1, "name": "maps_wf"}),
    "func": (functional.init_func_wf, {"target": SPACED, "acquisition": ACQUISITION, "plan": PLAN,
                                       "activation": ACTIVATION, "with_anat": True, "with_pair": True, "force": False,
                                       "omp_nthreads": 1, "seed": 0}),
    "func-bare": (functional.init_func_wf, {"target": TARGET, "acquisition": ACQUISITION, "plan": PLAIN,
                                            "activation": ACTIVATION, "with_anat": False, "with_pair": False,
                                            "force": False, "omp_nthreads": 1, "seed": 0}),
}  # fmt: skip
REPORTLETS = {
    "anat-figures": (reportlets.init_anat_reportlets_wf, {}),
    "pair-figures": (reportlets.init_pair_reportlets_wf, {"with_model": True}),
    "run-figures": (reportlets.init_run_reportlets_wf, {"with_anat": True, "with_pair": True}),
    "run-figures-bare": (reportlets.init_run_reportlets_wf, {"with_anat": False, "with_pair": False}),
    "maps-figures": (reportlets.init_maps_reportlets_wf, {"series": ["bspline"], "with_pair": True}),
    "maps-figures-bare": (reportlets.init_maps_reportlets_wf, {"series": ["bspline"], "with_pair": False}),
}
CASES |= REPORTLETS
MAYBE = {"func": {"model_METHOD": {"model_srgan"}}}


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
        documented = {field for field in documented if not field.startswith("model_METHOD")}
        there = _fields(workflow, node)
        assert there <= documented, f"{name}: {node} has undocumented {sorted(there - documented)}"
        if "-" not in name:  # the variant that has everything
            assert documented == there, f"{name}: documented but absent: {sorted(documented - there)}"


def test_every_field_is_wired(case):
    name, _, workflow = case
    edges = list(_edges(workflow))
    unread = _fields(workflow, "inputnode") - {out for source, out, _, _ in edges if source == "inputnode"}
    unset = _fields(workflow, "outputnode") - {into for _, _, target, into in edges if target == "outputnode"}
    constant = {f for f in unset if getattr(workflow.get_node("outputnode").inputs, f, None) not in (None, "")}
    assert not unread, f"{name}: nothing reads {sorted(unread)}"
    assert not {f for f in unset if f not in _set_constants(workflow)} or constant == unset, f"{name}: {sorted(unset)}"


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


def test_text_of_methods_cites_what_the_bibliography_has(case):
    from bids_sr.boilerplate import bibliography

    cited = {
        key for group in re.findall(r"\[(@[^\]]+)\]", case[2].visit_desc()) for key in re.findall(r"@(\w+)", group)
    }
    known = set(re.findall(r"@\w+\{\s*([^,\s]+)", bibliography()))
    assert cited <= known


def test_sinks_are_wired_field_by_field():
    workflow = outputs.init_sink_wf(fields=outputs.motion_fields(), output_dir="/nowhere", common={"subject": "01"})
    assert _fields(workflow, "inputnode") == set(outputs.motion_fields())


def test_reportlets_have_builders_for_each_stage():
    assert {n for n in vars(reportlets) if n.startswith("init_")} >= {
        "init_anat_reportlets_wf", "init_pair_reportlets_wf", "init_run_reportlets_wf", "init_maps_reportlets_wf",
    }  # fmt: skip
