"""Run on structural scans: expected files, valid images, metrics and page."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.study import Study
from bids_sr.report.stored_figures import read_figures

from .conftest import SLOPPY, Finished, call, run_participants

pytestmark = pytest.mark.slow
CONTRASTS, SERIES = ("T1w", "T2w", "FLAIR"), ("bspline", "linear", "attunet", "measured")


@pytest.fixture(scope="module")
def fused(tmp_path_factory) -> Finished:
    """Run the program on the scans of the smallest phantom."""
    base = tmp_path_factory.mktemp("scans")
    make_dataset(base / "data", Study(preset="tiny", anat=True))
    options = ("--sr-target", "anat", "--sr-method", "attunet")
    return run_participants(base / "data", base, *options, *SLOPPY)


def test_the_run_writes_all_expected_files(fused):
    anat = fused.out / "sub-01" / "anat"
    images = {
        f"sub-01_res-hr_desc-{series}_{contrast}.nii.gz"
        for series in SERIES
        for contrast in CONTRASTS
    }
    images |= {"sub-01_res-hr_desc-brain_mask.nii.gz", "sub-01_res-hr_desc-measured_dseg.nii.gz"}
    images |= {
        f"sub-01_res-hr_label-{label}.nii.gz".replace("SERIES", series)
        for label in ("classes_desc-SERIES_dseg", "WMH_desc-SERIES_mask")
        for series in SERIES
    }
    tables = {"sub-01_desc-anat_metrics.tsv", "sub-01_desc-anat_metrics.json"}
    expected = images | {name.replace(".nii.gz", ".json") for name in images} | tables
    assert {path.name for path in anat.iterdir()} == expected
    models = {path.name for path in (fused.out / "sourcedata" / "models" / "sub-01").iterdir()}
    stem = "sub-01_acq-anat_desc-attunet"
    assert models == {f"{stem}_model.safetensors", f"{stem}_model.json"}


def test_images_share_grid_and_range_and_have_sidecars(fused):
    anat = fused.out / "sub-01" / "anat"
    mask = nib.load(anat / "sub-01_res-hr_desc-brain_mask.nii.gz")
    inside = mask.get_fdata() > 0
    assert 1.0e6 < inside.sum() * 8 < 2.2e6  # mm3, volume of the brain
    for series in SERIES:
        for contrast in CONTRASTS:
            stem = anat / f"sub-01_res-hr_desc-{series}_{contrast}"
            image = nib.load(f"{stem}.nii.gz")
            data = image.get_fdata()
            np.testing.assert_allclose(image.affine, mask.affine)
            assert data.min() >= 0
            assert not data[~inside].any()
            assert 0.2 < data[inside].mean() < 0.9
            sidecar = json.loads(Path(f"{stem}.json").read_text())
            assert sidecar["SkullStripped"] is True
            assert sidecar["Resolution"]
            roots = {"bids:raw:": fused.bids_dir, "bids::": fused.out}
            files = [
                root / source.removeprefix(name)
                for source in sidecar["Sources"]
                for name, root in roots.items()
                if source.startswith(name)
            ]
            assert files
            assert all(file.is_file() for file in files)


def test_metrics_match_the_stored_images(fused):
    anat = fused.out / "sub-01" / "anat"
    rows = pd.read_csv(anat / "sub-01_desc-anat_metrics.tsv", sep="\t")
    described = json.loads((anat / "sub-01_desc-anat_metrics.json").read_text())
    assert described.pop("Sources")
    assert described.pop("GeneratedByVersion")
    assert described.pop("SettingsDigest")
    assert set(rows.columns) == set(described)
    card = json.loads(
        (
            fused.out / "sourcedata/models/sub-01/sub-01_acq-anat_desc-attunet_model.json"
        ).read_text()
    )
    assert card["contrast"] == "T1w+T2w+FLAIR"
    held_out_slices = sorted(
        {z for part in card["held_out"]["parts"] for z in range(*part["slices"])}
    )
    load = {
        series: nib.load(anat / f"sub-01_res-hr_desc-{series}_T2w.nii.gz").get_fdata()[
            ..., held_out_slices
        ]
        for series in SERIES
    }
    inside = (
        nib.load(anat / "sub-01_res-hr_desc-brain_mask.nii.gz").get_fdata()[..., held_out_slices]
        > 0
    )
    for series in SERIES[:3]:
        psnr_db = rows.query(
            f"contrast == 'T2w' and series == '{series}' and statistic == 'psnr'"
            " and region == 'brain'"
        ).value.item()
        error = ((load[series] - load["measured"])[inside] ** 2).mean()
        assert psnr_db == pytest.approx(-10 * np.log10(error), abs=0.01)
    psnr = (
        rows.query("statistic == 'psnr' and region == 'brain'")
        .set_index(["contrast", "series"])
        .value
    )
    assert all(psnr[contrast, "bspline"] > psnr[contrast, "linear"] for contrast in CONTRASTS)


def test_the_page_shows_scans_and_nothing_of_bold(fused):
    page = (fused.out / "sub-01.html").read_text()
    sections = re.findall(r'<section id="([a-z-]+)"', page)
    assert sections[0] == "result"
    assert "structural" in sections
    assert "motion" not in sections
    figures = {d.figure: d.path for d in read_figures(fused.out, "01") if not d.html}
    titles = re.findall(r">([^<>]+)</text>", figures["attention"].read_text(encoding="utf-8"))
    assert len([title for title in titles if "attention" in title]) == 4
    assert len([title for title in titles if "critic" in title]) == 2
    text = (fused.out / "CITATION.md").read_text()
    assert "attention_unet" in text
    assert "BOLD" not in text


def test_the_model_super_resolves_a_participant_without_high_resolution_scans(fused, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fused.bids_dir, data)
    shutil.rmtree(data / "derivatives")
    anat = data / "sub-01" / "anat"
    for path in [*anat.glob("*acq-highres*"), *anat.glob("sub-01_T1w.*")]:
        path.unlink()
    (model,) = (fused.out / "sourcedata" / "models" / "sub-01").glob("*_model.safetensors")
    out = tmp_path / "out"
    command = [*fused.command, "--pretrained", str(model)]
    command[1:3] = [str(data), str(out)]
    command[command.index("-w") + 1] = str(tmp_path / "work")
    code, text, _ = call(command)
    assert code == 0, text
    stored = {path.name for path in (out / "sub-01" / "anat").glob("*.nii.gz")}
    assert stored == {
        *(f"sub-01_res-hr_desc-{s}_{c}.nii.gz" for s in SERIES[:3] for c in CONTRASTS),
        "sub-01_res-hr_desc-brain_mask.nii.gz",
    }
    card = json.loads(model.with_suffix(".json").read_text())
    for contrast in CONTRASTS:
        network, bspline = (
            nib.load(out / "sub-01" / "anat" / f"sub-01_res-hr_desc-{name}_{contrast}.nii.gz")
            for name in ("attunet", "bspline")
        )
        np.testing.assert_allclose(
            nib.affines.voxel_sizes(network.affine), card["resolution"]["lowres_mm"], rtol=1e-4
        )
        inside = bspline.get_fdata() > 0
        assert np.corrcoef(network.get_fdata()[inside], bspline.get_fdata()[inside])[0, 1] > 0.8
    page = (out / "sub-01.html").read_text()
    assert re.findall(r'<section id="([a-z-]+)"', page)[:3] == ["lowres", "summary", "structural"]
