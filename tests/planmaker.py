"""Plans of a run, for tests of the workflows."""

from dataclasses import replace

from bids_sr.workflows.plans import Acquisition, ActivationPlan, EvaluationPlan, RunPlan, SeriesPlan, Target, Training

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
TARGET = Target(output_dir="/nowhere", common={"subject": "01", "task": "tap", "datatype": "func"}, sources=(),
                task_name="tap", dtype="int16")  # fmt: skip
ACQUISITION = Acquisition(tr=2.0, factor=(2.0, 2.0, 1.0), n_dummy=None, slice_times=(0.0, 1.0),
                          slice_time_ref=0.5, voxel=(6.0, 6.0, 5.0))  # fmt: skip
UNTIMED = replace(ACQUISITION, slice_times=None)
TRAINING = Training(recipe="fast", model_source="auto", model_dir=None, pretrained={}, vgg_weights=None,
                    max_train_minutes=None, seed=0, device="cpu", precision="auto", force=False,
                    sloppy=True, calibrated=("sbl",))  # fmt: skip
HOW = {"data_consistency": "report", "precision": "auto", "device": "cpu", "training": TRAINING}
PLAIN = SeriesPlan(names=("bspline",), models=(), guided=(), **HOW)
ACTIVATION = ActivationPlan(contrasts=CONTRASTS, kinds=("cc", "glm"), smoothing=(0.0, 5.0), low_pass=0.1,
                            high_pass=0.008, thresholds=("quarter", "fdr"))  # fmt: skip


def run_of(plan: SeriesPlan = PLAIN, *, acquisition=ACQUISITION, target=TARGET, evaluation=None,
           activation=ACTIVATION, with_anat=False, with_pair=False, with_holdout=False) -> RunPlan:  # fmt: skip
    return RunPlan(
        name="run", bold_file=__file__, events_file=__file__, pair=int(with_pair), facts={}, target=target,
        acquisition=acquisition, series=plan, activation=activation, evaluation=evaluation or EvaluationPlan(),
        with_anat=with_anat, with_holdout=with_holdout, omp_nthreads=1, seed=0,
    )  # fmt: skip
