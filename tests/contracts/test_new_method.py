"""A new method is one file, as described in docs/extending.md: it is offered, planned, estimated
and trained, and gets its negative controls.
"""

import os
import subprocess
import sys
from pathlib import Path

from recipes import changes_of

ROOT = Path(__file__).parents[2]
MAPS = '''
"""Maps of the run that are in no list."""

from bids_sr.sr.method import CONTROLS_OF_A_RUN, Method
from bids_sr.sr.recipe import VarianceRecipe

FAST = VarianceRecipe(fwhm=(2.0,), rounds=0)
METHOD = Method(
    name="new-maps", ndim=2, variance=FAST, reference="toy",
    summary="maps that only a test knows", article="", trained_on="series",
    placebos=CONTROLS_OF_A_RUN,
)
'''
SCRIPT = """
import sys
from pathlib import Path

import bids_sr.sr.methods

folder = Path(sys.argv[1])
bids_sr.sr.methods.__path__.append(str(folder / "methods"))

from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph, stage_minutes

from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import check
from bids_sr.sr.method import method_names_without_controls
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.method import get_method
from bids_sr.evaluation.negative_controls import list_negative_controls

assert {"new-net", "new-maps"} < set(method_names_without_controls())
maker = BidsMaker(folder / "bids")
maker.subject()
options = ["--sr-method", "new-net", "new-maps", "--null-checks"]
argv = [str(maker.root), str(folder / "out"), "participant"]
argv += ["-w", str(folder / "work"), "--skip-bids-validation"]
plan = check(parse_settings([*argv, *options]).resolve(run_uuid="x"))
assert plan.problems == (), plan.problems
lacks = check(parse_settings([*argv, *options, "--recipe", "paper"]).resolve(run_uuid="x"))
reasons = [one.why for one in lacks.problems]
assert reasons == ["this training recipe is not available for new-net"], lacks
assert {"newnet", "newmaps"} < set(plan.series), plan.series
asked = parse_settings([*argv, *options]).resolve(run_uuid="x")
minutes = stage_minutes(asked)
# the network and one on the T1w image, of 100 minutes each; the maps are of the run
assert 200 <= minutes["training"] < 202, minutes
graph = planned_graph(maker, folder, *options)
made = {node.scope.name for node in nodes_of(graph, "super_resolve")}
unstored = {name for name in made if name.startswith("new")}
wanted = {"newnetT1w", "newmapsMirror", "newmapsShift"}
assert unstored - {"newnet", "newmaps"} == wanted, unstored
assert list_negative_controls("newnet") == ("newnetPhantom", "newnetOther", "newnetT1w")
assert list_negative_controls("newmaps") == ("newmapsMirror", "newmapsShift", "newmapsOther")
for step, method in (("train_on_pair", "new-net"), ("estimate_variance", "new-maps")):
    found = {graph.settings[node]["method"] for node in nodes_of(graph, step)}
    assert method in found and found <= {method, "sdmod"}, found
text = graph.methods_text()
assert "The network new-net will be trained on" in text and "with the recipe fast." in text, text
assert "is a network that serves as an example [@toy]." in text, text
assert "maps that only a test knows [@toy]" in text, text
card = {"method": "new-net", "recipe": "fast", "factor": [2, 2, 1],
        "resolution": {"lowres_mm": [3, 3, 3]}, "contrast": "T2starw", "orientation": "I-S"}
network = get_method("new-net").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0))
saved = save_model(folder / "model", network.state_dict(), card)[0]
assert load_model(saved).card.method == "new-net"

import nibabel as nib
from sandbox import AFFINE, SHAPE, head

from bids_sr.model_commands.cli.main import main

[term] = get_method("new-net").recipes["fast"].losses
assert type(term.build()).__name__ == "MSE", term
nib.save(nib.Nifti1Image(head(SHAPE), AFFINE), folder / "a_T1w.nii.gz")
image, name = str(folder / "a_T1w.nii.gz"), str(folder / "trained")
assert main(["train", "new-net", name, "--fine", image, "--max-minutes", "1"]) == 0
assert load_model(folder / "trained.safetensors").card.method == "new-net"
assert main(["list"]) == 0
"""


def test_a_method_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    [method] = changes_of("Add a method")
    assert method.file == "bids_sr/sr/methods/new_net.py"
    (tmp_path / "methods" / "new_net.py").write_text(method.after)
    (tmp_path / "methods" / "new_maps.py").write_text(MAPS)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )
    assert done.returncode == 0, done.stderr
    assert "new-net" in done.stdout
