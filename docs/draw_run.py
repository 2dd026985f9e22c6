"""Draw the flow chart of a run: python docs/draw_run.py writes docs/figures/run.svg.

The graph of `examples/studyforrest` is built as by the command line, without computation. Its
measured run is also used as calibration run. Stages are the functions that the modules
`participant` and `run` of the workflows call, in this order. The script fails if a part of the
chart is not in the graph, or if the chart lacks a stage of `workflows/run.py`.
"""

import contextlib
import inspect
import itertools
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from xml.sax.saxutils import escape

from bids_sr.cli.parser import parse_settings
from bids_sr.engine.nodes import Node
from bids_sr.workflows import participant, run
from bids_sr.workflows.call_checks import check

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "examples/studyforrest"
CALIBRATION = DATA / "derivatives/highres-reference/sub-01/func/sub-01_task-localizer_bold.nii.gz"
FIGURE = ROOT / "docs/figures/run.svg"
TABLE = """
plan_run | Plan of series, models and contrasts | |
fit_anatomy | Anatomy
| mask_brain: brain / segment_tissues: tissues / normalize_t1w: template / resample_atlas: atlas
| t1w_preproc: T1w image, brain mask, / t1w2std_xfm: transform to template
fit_pair | T2*w pair
| register_pair: registration of the pair / train_on_pair: training of a network
| model_file: trained network
fit_run | Head motion and registration
| replace_outliers: outlier volumes / estimate_motion: head motion /
correct_slice_timing: slice timing / register_to_t1w: registration to T1w /
register_to_pair: registration to T2*w / measure_calibration: calibration
| boldref: boldref, brain masks, / hmc_xfms: transforms
model_run | Model
| correct_motion: acquired series / gather_confounds: confounds / copy_events: events
| preproc: acquired series, / confounds: confounds
make_series | Series
| estimate_variance: prior SD map / super_resolve: super-resolution / place_measured: reference
| series: super-resolved series
map_run | Maps
| map_series: activation maps / measure_error: reconstruction error / measure_regions: regions
| regions: table of regions
evaluate_run | Evaluation
| compare_halves: detail explained / compare_images: image quality /
gather_self_tests: self-tests / raise_flags: flags / decide_verdict: verdict
| evaluation: table of metrics, / verdict: verdict
report_run | Report
| draw_motion: head motion / show_registration: registration / show_viewer: map viewer /
draw_overview: overview / draw_evaluation: evaluation
| draw_overview: report (HTML), / maps: maps of each series
"""
"""Name, title, steps and outputs (stored artifacts, or steps that draw figures) of each stage."""
INPUTS = {
    "sub-01_T1w.nii.gz": "T1w image",
    "sub-01_acq-highres_T2starw.nii.gz": "T2*w pair",
    "sub-01_task-localizer_bold.nii.gz": "BOLD run",
    "calibration_wf": "calibration run",
    "sub-01_task-localizer_events.tsv": "events",
    "measured": "high-resolution reference",
    "fmriprep": "fMRIPrep outputs",
}
"""Label of each input, by file name, or by subworkflow if a file is read for two purposes."""
IMPORTS = {
    "fit_anatomy": ("import_anatomy", "import_tissues"),
    "fit_run": ("import_motion", "import_mask", "import_coreg"),
    "model_run": ("import_confounds",),
}
"""Steps that use outputs of fMRIPrep, by stage; the example has no such outputs."""
OWNERS = {participant: "Each participant", run: "Each BOLD run"}
# pixels: width of the figure, edges of stages, gap below them, heights of lines and small boxes
WIDTH, LEFT, RIGHT, GAP, LINE, CHIP = 900, 232, 676, 18, 17, 24
STYLE = """
path{stroke:#4a5763;stroke-width:1.5;fill:none} .tip{marker-end:url(#tip)}
.fmriprep{stroke:#a86500} text{font:13px Helvetica,Arial,sans-serif;fill:#1f2933}
.m{font:12px monospace;fill:#4a5763} .stage{fill:#e8f0f7;stroke:#00568c} rect{rx:5px}
.chip{fill:#fff;stroke:#8fa3b3} .in{fill:#fdf3dc;stroke:#a86500} .dash{stroke-dasharray:5 3}
.out{fill:#e3f3ec;stroke:#00734d} .b{font-weight:bold;font-size:15px}
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="6" markerHeight="6"'
    ' orient="auto"><path d="M0 0L8 4L0 8Z" style="fill:#4a5763;stroke:none"/></marker></defs>'
)


def _parse_labels(text: str) -> dict[str, str]:
    return dict(part.strip().split(": ") for part in text.split("/")) if text.strip() else {}


RECORDS = re.split(r"\n(?=\w+ \|)", TABLE.strip())
STAGES = {
    name.strip(): (title.strip(), _parse_labels(steps), _parse_labels(outputs))
    for name, title, steps, outputs in map(methodcaller("split", "|"), RECORDS)
}


def stage_functions(module: ModuleType) -> dict[str, Any]:
    """Return the stages that a module of the workflows imports: all functions in `run`."""
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isfunction(member)
        and member.__module__.startswith("bids_sr.workflows.")
        and member.__module__ != run.__name__
        and (name in STAGES or module is run)
    }


def build_graph(arguments: Sequence[str]) -> tuple[dict[str, list[Node]], dict[str, str]]:
    """Build the graph of a call of `bids-sr`.

    Returns the nodes of each stage, with stages in the order of their calls, and the first stage
    that reads each input. Inputs are named as in `INPUTS`.
    """
    nodes: dict[str, list[Node]] = {"": []}
    active, initialize = [""], Node.__init__

    def add(node: Node, *values: Any, **options: Any) -> None:
        initialize(node, *values, **options)
        nodes[active[-1]].append(node)

    def follow(name: str, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        nodes.setdefault(name, [])
        active.append(name)
        result = function(*values, **options)
        active.pop()
        return result

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Node, "__init__", add))
        for module in OWNERS:
            for name, function in stage_functions(module).items():
                followed = partial(follow, name, function)
                stack.enter_context(mock.patch.object(module, name, followed))
        settings = parse_settings([*arguments, "--skip-bids-validation"]).resolve(run_uuid="x")
        graph = participant.make_graph(settings, check(settings), "0")
    del nodes[""]
    readers = {"fmriprep": "fit_run"}  # the main reader
    for stage, node in ((stage, node) for stage, added in nodes.items() for node in added):
        handles = (handle for wire in graph.wires[node].values() for handle in wire.handles)
        for path in (handle.source for handle in handles if isinstance(handle.source, Path)):
            name = node.scope.name if node.scope.name in INPUTS else path.name
            readers.setdefault(name, stage)
    return nodes, readers


def example_graph() -> tuple[dict[str, list[Node]], dict[str, str]]:
    """Return the graph of the example, see `build_graph`, if it has all parts of the chart."""
    with tempfile.TemporaryDirectory() as folder:
        call = [str(DATA), f"{folder}/out", "participant", "-w", f"{folder}/work"]
        nodes, readers = build_graph([*call, "--calibration", str(CALIBRATION)])
    missing = {*nodes} ^ {*STAGES} | {*INPUTS} - {*readers}
    for name, (_, steps, outputs) in STAGES.items():
        found = {node.name for node in nodes.get(name, [])}
        missing |= {*steps, *(f"store_{output}" for output in outputs)} - found
    assert not missing, f"the chart and the workflow differ: {', '.join(sorted(missing))}"
    return nodes, readers


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {place} class="{style}">{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, style: str, *lines: str) -> str:
    """Return a box with centered lines of text."""
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    top = y + height / 2 + 4.5 - LINE * (len(lines) - 1) / 2
    texts = [_text(x + width / 2, top + LINE * k, line) for k, line in enumerate(lines)]
    return "".join([f'<rect {size} class="{style}"/>', *texts])


def _draw_stage(name: str, nodes: Sequence[Node], top: float) -> tuple[list[str], float]:
    """Return the drawing of a stage with steps and outputs, and the position of its lower edge."""
    title, steps, outputs = STAGES[name]
    x, y = LEFT + 14.0, top + 34
    drawing = [_text(x, top + 23, title, "b", "start")]
    drawing.append(_text(RIGHT - 12, top + 23, f"{name}()", "m", "end"))
    for label in steps.values():
        width = 6.3 * len(label) + 12
        if x + width > RIGHT - 8:
            x, y = LEFT + 14, y + CHIP + 6
        drawing.append(_box(x, y, width, CHIP, "chip", label))
        x += width + 6
    y += CHIP + 10 if steps else 0
    if series := [node.scope.name for node in nodes if node.name == "super_resolve"]:
        drawing.append(_text(LEFT + 14, y + 8, ", ".join(series), "m", "start"))
        y += LINE + 4
    if outputs:
        height, middle = 10 + LINE * len(outputs), (top + y) / 2
        drawing.append(f'<path d="M{RIGHT} {middle:g}H{RIGHT + 26}" class="tip"/>')
        drawing.append(
            _box(RIGHT + 32, middle - height / 2, 184, height, "out", *outputs.values())
        )
    return [_box(LEFT, top, RIGHT - LEFT, y - top, "stage"), *drawing], y


def _draw_inputs(
    readers: Mapping[str, str], spans: Mapping[str, tuple[float, float]]
) -> list[str]:
    """Return the drawing of the inputs; `spans` are the upper and lower edges of the stages."""
    drawing = []
    for stage, (top, bottom) in spans.items():
        for number, name in enumerate(names := [key for key in INPUTS if readers[key] == stage]):
            y = (top + bottom) / 2 + (number - (len(names) - 1) / 2) * 34
            dash = "" if name.endswith("_bold.nii.gz") else "dash"
            drawing.append(_box(8, y - 14, 176, 28, f"in {dash}", INPUTS[name]))
            for target in IMPORTS if name == "fmriprep" else (stage,):
                end = y if target == stage else spans[target][0] + 14
                drawing.append(f'<path d="M184 {y:g}H206V{end:g}H{LEFT - 6}" class="tip {name}"/>')
    return drawing


def drawn() -> str:
    """Return the chart as SVG."""
    nodes, readers = example_graph()
    drawing = [_text(96, 22, "Inputs", "b"), _text(RIGHT + 124, 22, "Outputs", "b")]
    spans: dict[str, tuple[float, float]] = {}
    y, middle = 8.0, (LEFT + RIGHT) / 2
    for module, owner in OWNERS.items():
        drawing.append(_text(LEFT, y + 14, owner, "b", "start"))
        y += 26
        for name in (name for name in nodes if name in stage_functions(module)):
            stage, bottom = _draw_stage(name, nodes[name], y)
            drawing += stage
            spans[name] = (y, bottom)
            y = bottom + GAP
    for (_, upper), (lower, _) in itertools.pairwise(spans.values()):
        drawing.append(f'<path d="M{middle:g} {upper:g}V{lower - 6:g}" class="tip"/>')
    drawing += _draw_inputs(readers, spans)
    drawing.append(_text(8, y, "Dashed boxes: optional inputs", "", "start"))
    size = f'width="{WIDTH}" height="{y + 12:g}" viewBox="0 0 {WIDTH} {y + 12:g}"'
    titles = f"A run: {' → '.join(STAGES[name][0] for name in nodes)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}><title>{titles}</title>'
    style = f'<style>{STYLE}</style>{TIP}<rect width="100%" height="100%" style="fill:#fff;rx:0"/>'
    return "\n".join([head, style, *drawing, "</svg>\n"])


if __name__ == "__main__":
    FIGURE.write_text(drawn(), encoding="utf-8")
