"""Run the BIDS validator on example derivatives: `.bidsignore` lists exactly the files that the
validator rejects.

If a newer schema accepts one of these kinds, remove it from the list.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import bids_validator_deno
import nibabel as nib
import numpy as np
import pytest
from data.outputs import expected_outputs

from bids_sr.engine.store import store
from bids_sr.io.dataset_description import write_atlas, write_dataset
from bids_sr.io.region_names import find_atlas
from bids_sr.survey.bids.ignored_files import is_ignored, read_patterns

RUN = {"subject": "01", "task": "tap", "datatype": "func"}
ANAT = {"subject": "01", "datatype": "anat"}
KINDS: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
    (RUN, {"desc": "preproc", "suffix": "bold"}),
    (RUN, {"res": "hr", "desc": "sbl", "suffix": "bold"}),
    (RUN, {"space": "T1w", "desc": "preproc", "suffix": "bold"}),
    (RUN, {"space": "MNI152NLin2009cAsym", "res": "2", "desc": "preproc", "suffix": "bold"}),
    (RUN, {"res": "hr", "desc": "brain", "suffix": "mask"}),
    (RUN, {"res": "hr", "label": "thumb", "desc": "sblQuarter", "suffix": "mask"}),
    (RUN, {"space": "boldref", "label": "thumb", "desc": "acquiredFdr", "suffix": "mask"}),
    (RUN, {"space": "boldref", "res": "hr", "label": "x", "desc": "sblFdr", "suffix": "mask"}),
    (
        RUN,
        {
            "space": "boldref",
            "res": "hr",
            "contrast": "thumb",
            "stat": "effect",
            "desc": "sbl",
            "suffix": "statmap",
        },
    ),
    (ANAT, {"desc": "preproc", "suffix": "T1w"}),
    (ANAT, {"acquisition": "highres", "desc": "preproc", "suffix": "T2starw"}),
    (ANAT, {"desc": "brain", "suffix": "mask"}),
    (ANAT, {"suffix": "dseg"}),
    (ANAT, {"label": "GM", "suffix": "probseg"}),
    (ANAT, {"atlas": "AAL2", "suffix": "dseg"}),
    (RUN, {"desc": "hmc", "suffix": "boldref"}),
    (RUN, {"res": "hr", "contrast": "thumb", "stat": "t", "desc": "sbl", "suffix": "statmap"}),
)
"""Entities of the scope and of the file, for images."""
OTHERS = (
    "sub-01/func/sub-01_task-tap_hemi-L_space-fsaverage_den-10k_contrast-thumb_stat-t_desc-sbl"
    "_statmap.func.gii",
    "sub-01/anat/sub-01_atlas-AAL2_dseg.tsv",
    "sub-01/func/sub-01_task-tap_events.tsv",
    "sub-01/func/sub-01_task-tap_events.json",
    "sub-01/func/sub-01_task-tap_desc-confounds_timeseries.tsv",
    "sub-01/func/sub-01_task-tap_desc-image_metrics.tsv",
    "sub-01/func/sub-01_task-tap_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
    "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5",
    "sub-01/figures/sub-01_task-tap_desc-hmc_bold.svg",
    "sourcedata/models/sub-01/sub-01_desc-srgan_model.safetensors",
    "sub-01.html",
    "CITATION.md",
    "CITATION.bib",
    "CITATION.html",
    "logs/x/settings.toml",
    "group/group_task-tap_stat-effect_statmap.nii.gz",
    "group_stats.tsv",
    "group_stats_columns.json",
)
ADDED = (
    "CITATION.cff",
    "LICENSE",
    "participants.tsv",
    "phenotype/group_a.tsv",
    "code/group/a.html",
)
"""Names that a user may add to the output."""
TABLES = {"dseg": "index\tname\n1\ta\n", "events": "onset\tduration\n1.5\t0.5\n"}
"""Tables whose columns BIDS specifies, by suffix."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Write one file of each kind, images with the sidecars that `store` writes."""
    base = tmp_path_factory.mktemp("made")
    (raw := base / "raw").mkdir()
    described = {"Name": "x", "BIDSVersion": "1.8.0", "Authors": ["A", "B"]}
    (raw / "dataset_description.json").write_text(json.dumps(described))
    out = base / "out"
    write_dataset(out, bids_dir=raw, version="1.0")
    (folder := base / "node").mkdir()
    for entities, own_entities in KINDS:
        is_series = own_entities["suffix"] == "bold"
        image = nib.Nifti1Image(
            np.ones((3, 3, 3, 2) if is_series else (3, 3, 3), np.uint8), np.eye(4)
        )
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(folder / "in.nii")
        sidecar = {"Description": "x", "TaskName": "tap", "RepetitionTime": 1.0}
        sidecar |= {"Resolution": "x"} if "res" in own_entities else {}
        sidecar |= {"Type": "Brain"} if own_entities["suffix"] == "mask" else {}
        store(
            folder,
            [folder / "in.nii"],
            output_dir=out,
            entities=entities,
            own_entities=own_entities,
            own_sidecar=sidecar,
            sources=["bids:raw:x"],
            references={"": "bids::y", "boldref": "bids::y", "T1w": "bids::z"},
        )
    write_atlas(out, "AAL2", find_atlas().description)
    for name in OTHERS:
        (path := out / name).parent.mkdir(parents=True, exist_ok=True)
        columns = TABLES.get(path.stem.rpartition("_")[2], "a\n1\n")
        description = '{"Description": "x"}' if "events" in name else "{}"
        path.write_text(
            columns if path.suffix == ".tsv" else description if path.suffix == ".json" else "x"
        )
    return out


def _issues(out: Path, *options: str) -> Sequence[dict[str, str]]:
    program = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
    assert program is not None
    result = subprocess.run(
        [program, "--format", "json", *options, out], capture_output=True, text=True, check=False
    )
    return json.loads(result.stdout[result.stdout.index("{") :])["issues"]["issues"]


def test_the_validator_reports_no_issue_with_bidsignore(dataset):
    assert [
        (issue["code"], issue.get("subCode"), issue["location"]) for issue in _issues(dataset)
    ] == []


@pytest.fixture(scope="module")
def unknown(dataset, tmp_path_factory) -> dict[str, bool]:
    """Return file names, and whether BIDS does not know them.

    Names are those of `dataset`, of a complete run, and files that a user may add. The validator
    does not check directories for other data sets, so that names of the data set for other tools
    are checked below the root. ``/dataset_description.json`` is read by the validator.
    """
    root = tmp_path_factory.mktemp("names")
    names = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*")}
    names |= set(expected_outputs()) | set(ADDED)
    names = {name.removeprefix("derivatives/bids-sr-sbl/") for name in names}
    names -= {path.relative_to(dataset).as_posix() for path in dataset.rglob("*/")}
    for name in names - {".bidsignore"}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    shutil.copy(dataset / "dataset_description.json", root)
    codes = ("NOT_INCLUDED", "ALL_FILENAME_RULES_HAVE_ISSUES")
    unknown_names = {
        issue["location"].strip("/") for issue in _issues(root) if issue["code"] in codes
    }
    return {name: name in unknown_names for name in names}


def test_bidsignore_lists_exactly_the_files_that_bids_does_not_know(dataset, unknown):
    patterns = read_patterns(dataset)
    ignored = {name: is_ignored(dataset / name, dataset, patterns) for name in unknown}
    assert {name for name in unknown if ignored[name] > unknown[name]} == set(), "known to BIDS"
    assert {name for name in unknown if ignored[name] < unknown[name]} == set(), "unknown to BIDS"


def test_every_pattern_of_bidsignore_is_needed(dataset, unknown):
    names = [dataset / name for name in unknown if unknown[name]]
    assert [
        pattern
        for pattern in read_patterns(dataset)
        if not any(is_ignored(name, dataset, [pattern]) for name in names)
    ] == []


def test_the_bids_version_is_the_newest_of_the_validator(dataset):
    folder = Path(bids_validator_deno.__file__).parent
    script = (folder / "bids-validator.js").read_text(encoding="utf-8")
    description = json.loads((dataset / "dataset_description.json").read_text())
    assert re.findall(r'bids_version: "([0-9.]+)"', script) == [description["BIDSVersion"]]
