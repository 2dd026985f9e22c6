"""The same inputs give the same figures as the steps of the program."""

import numpy as np
import pandas as pd
import pytest
from shortrun import DUMMIES, FACTOR, TR

from bids_sr import Evaluator
from bids_sr.interfaces.evaluation.split_halves import BlockEffects, SplitHalf, TruthImages
from bids_sr.interfaces.evaluation.verdicts import Verdict
from bids_sr.interfaces.head_motion import EstimateMotion, MakeBoldRef
from bids_sr.interfaces.learning.method_steps import EstimateVariance, SuperResolve
from bids_sr.io.nifti import load_image, save_image
from bids_sr.metrics.long_tables import read_table
from bids_sr.registration.bold_to_anat import finer_mask
from bids_sr.series import PCA_RANKS
from bids_sr.stats.glm.confounds import motion_columns
from bids_sr.stats.glm.contrasts import default_contrasts

STILL = (1.0, 1.0, 1.0)


def outputs(interface, folder, **given):
    folder.mkdir(parents=True, exist_ok=True)
    given = {key: str(value) if hasattr(value, "parts") else value for key, value in given.items()}
    return interface(**given).run(cwd=str(folder)).outputs


@pytest.fixture(scope="module")
def program(run, tmp_path_factory):
    """Reference, motion and series of the run by the interfaces of the program."""
    here = tmp_path_factory.mktemp("program")
    boldref = outputs(MakeBoldRef, here / "ref", in_file=run / "bold.nii", n_dummy=DUMMIES).out_file
    motion = outputs(EstimateMotion, here / "hmc", in_file=run / "bold.nii", boldref=boldref, n_dummy=DUMMIES)
    common = {"boldref": boldref, "mask": run / "mask.nii", "hmc_xfms": motion.hmc_xfms}
    raw = outputs(SuperResolve, here / "raw", in_file=run / "bold.nii", series="raw", factor=STILL, **common).out_file
    maps = outputs(
        EstimateVariance, here / "maps", in_file=raw, mask=run / "mask.nii", n_dummy=DUMMIES, method="wmn",
        factor=FACTOR, hmc_xfms=motion.hmc_xfms,
    )  # fmt: skip
    series = {}
    for name in ("bspline", "zerofill", "wmn"):
        model = {"model_file": maps.model_file, "temporal_file": maps.temporal_file} if name == "wmn" else {}
        series[name] = outputs(
            SuperResolve, here / name, in_file=run / "bold.nii", series=name, factor=FACTOR, **common, **model
        ).out_file
    return {**common, "motion_tsv": motion.motion_tsv, "series": series, "here": here}


def test_the_table_and_the_verdict_are_those_of_the_program(run, program, tmp_path):
    poses = program["hmc_xfms"]
    found = Evaluator(baselines=["bspline", "zerofill"], n_boot=100).fit(
        run / "bold.nii", series={"wmn": program["series"]["wmn"]}, events=run / "events.tsv", mask=run / "mask.nii",
        motion=poses, boldref=program["boldref"], truth=run / "truth.nii",
        confounds=pd.DataFrame(motion_columns(pd.read_csv(program["motion_tsv"], sep="\t", na_values="n/a"))),
    )  # fmt: skip
    motion = pd.read_csv(program["motion_tsv"], sep="\t", na_values="n/a")
    pd.DataFrame(motion_columns(motion)).to_csv(tmp_path / "confounds.tsv", sep="\t", index=False, na_rep="n/a")
    fine = load_image(program["series"]["bspline"])[1]
    data, affine = load_image(run / "mask.nii")
    save_image(finer_mask(data > 0.5, affine, (60, 56, 5), fine).astype(np.uint8), fine, tmp_path / "hr.nii")
    files = dict(program["series"])
    files["measured"] = _measured(run, poses, tmp_path)
    effects = [
        outputs(
            BlockEffects, tmp_path / name, in_file=path, mask=tmp_path / "hr.nii", events_file=run / "events.tsv",
            confounds_tsv=tmp_path / "confounds.tsv", n_dummy=DUMMIES, tr=TR, series=name, high_pass=1 / 128,
            pca_ranks=list(PCA_RANKS) if name == "bspline" else [], with_t=name == "measured",
        ).effects_file
        for name, path in files.items()
    ]  # fmt: skip
    halves = outputs(
        SplitHalf, tmp_path / "halves", effects_files=effects, mask=tmp_path / "hr.nii", roi=tmp_path / "hr.nii",
        factor=FACTOR, contrasts=default_contrasts(["little", "thumb"]), n_boot=100,
    ).out_file  # fmt: skip
    images = outputs(
        TruthImages, tmp_path / "images", series_files=list(program["series"].values()),
        series_names=list(program["series"]), measured_file=files["measured"], mask=tmp_path / "hr.nii",
        n_dummy=DUMMIES, n_boot=100,
    ).out_file  # fmt: skip
    own = {(r.series, r.against, r.contrast, r.region, r.measure): r for r in found._kept}
    rows = [*read_table(halves), *read_table(images)]
    assert len(rows) > 300
    for row in rows:
        mine = own[row.series, row.against, row.contrast, row.region, row.measure]
        for name in ("value", "lower", "upper"):
            assert getattr(mine, name) == pytest.approx(getattr(row, name), abs=2e-3, rel=2e-3, nan_ok=True), row
    verdict = outputs(
        Verdict, tmp_path / "verdict", in_files=[halves, images], methods=["wmn"], baselines=["bspline", "zerofill"]
    )
    told = {(r.series, r.against, r.region, r.measure): r.value for r in read_table(verdict.out_file)}
    mine = {(r.series, r.against, r.region, r.measure): r.value for r in found.verdict_.rows}
    assert set(told) == set(mine)
    assert {key: value for key, value in told.items() if key[3] == "verdict"} == pytest.approx(
        {key: value for key, value in mine.items() if key[3] == "verdict"}, nan_ok=True
    )


def _measured(run, poses, folder):
    """The measured series through the head motion of the run."""
    data, affine = load_image(run / "truth.nii")
    save_image(data[..., 0], affine, folder / "grid.nii")
    return outputs(
        SuperResolve, folder / "measured", in_file=run / "truth.nii", series="raw", factor=STILL,
        boldref=folder / "grid.nii", mask=folder / "grid.nii", hmc_xfms=poses, data_consistency="off",
    ).out_file  # fmt: skip
