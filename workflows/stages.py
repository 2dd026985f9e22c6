"""What the builders of one run share: what they were given, and the workflows that they have made so far."""

from dataclasses import dataclass, field

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.workflows.evaluation.evaluation_parts import guarded
from bids_sr.workflows.plans import Acquisition, ActivationPlan, EvaluationPlan, SeriesPlan, Target

ANAT_FIELDS = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_source", "roi_xfms")
PAIR_FIELDS = ("highres", "highres2lowres_xfm", "train_highres", "train_lowres", "pair_mask")
RUN_OUTPUTS = (
    "boldref", "bold_mask", "n_dummy", "preproc_file", "confounds_tsv", "bold_mask_hr", "roi_bold_hr", "series_files",
    "maps", "maps_entities", "image_tsv", "activation_tsv",
)  # fmt: skip
EVALUATED = ("evaluation_tsv", "verdict_json", "flags_json")
CALIBRATED = ("calibration_ref", "calibration_sd", "calibration_xfm", "calibration_json")
GUARDED = ("maps", "maps_entities", "maps_sidecars")  # outputs of the evaluation; with the prefix guard_ here


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the builder was given, for the functions that it is made of."""

    target: Target
    acquisition: Acquisition
    plan: SeriesPlan
    activation: ActivationPlan
    evaluation: EvaluationPlan
    with_anat: bool
    with_pair: bool
    with_holdout: bool
    omp_nthreads: int
    seed: int

    @property
    def mapped(self) -> tuple[str, ...]:
        """Series that are mapped and stored: raw, those of the plan, the measured one."""
        return (*self.plan.every, *self.evaluation.measured)

    @property
    def guide(self) -> bool:
        """Whether variance methods add static detail of the T2*-weighted image."""
        return self.plan.guide_kind != "none"

    @property
    def calibrated(self) -> tuple[str, ...]:
        """What a calibration gives; nothing where no method would use one."""
        return CALIBRATED if self.acquisition.calibration is not None and self.plan.takes_calibration else ()

    @property
    def inputs(self) -> list[str]:
        """Fields of the inputnode."""
        std = ("t1w2std_xfm", "template") if self.target.spaces else ()
        members = (extra.name for extra in self.plan.extras if extra.is_member and extra.method in self.plan.of_pair)
        return [
            "bold_file", "events_file", *["truth_file"] * bool(self.evaluation.measured),
            *ANAT_FIELDS * self.with_anat, *std, *PAIR_FIELDS * self.with_pair, *["holdout_tsv"] * self.with_holdout,
            *(f"model_{name}" for name in (*self.plan.of_pair, *members)),
        ]  # fmt: skip

    def model(self, stages: "Stages", series: str) -> tuple[pe.Node | LiterateWorkflow, str]:
        """Where the model of a network comes from."""
        if series in self.plan.on_volumes:
            return stages.trained[series], "outputnode.model_file"
        return stages.inputnode, f"model_{series}"

    @property
    def registered(self) -> tuple[str, ...]:
        """What registration gives beyond masks."""
        return ("boldref2t1w_xfm", "tpms_bold") * self.with_anat + ("guide_hr",) * self.with_pair

    @property
    def judged(self) -> tuple[str, ...]:
        """What the evaluation gives."""
        return (*EVALUATED, *("figures_npz",) * self.evaluation.split)

    @property
    def guarded(self) -> tuple[str, ...]:
        """Lists of maps that the guards give."""
        return GUARDED * bool(guarded(self.plan, self.evaluation))

    @property
    def outputs(self) -> list[str]:
        """Fields of the outputnode."""
        return [
            *RUN_OUTPUTS, "consistency_files", "registration_json", *self.registered, *self.judged,
            *(f"guard_{field}" for field in self.guarded), *["weight_file"] * bool(self.plan.on_run),
            *self.calibrated,
            *(f"{field}_{name}" for name in self.plan.on_volumes for field in ("log_file", "card_file")),
        ]  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Stages:
    """The workflows of a run, as far as they are made.

    `models` are variance maps of the run, `trained` networks trained on its volumes.
    """

    inputnode: pe.Node
    motion: LiterateWorkflow
    registration: LiterateWorkflow
    confounds: LiterateWorkflow
    series: dict[str, LiterateWorkflow] = field(default_factory=dict)
    models: dict[str, LiterateWorkflow] = field(default_factory=dict)
    trained: dict[str, LiterateWorkflow] = field(default_factory=dict)
    precision: dict[str, LiterateWorkflow] = field(default_factory=dict)
    merged: dict[str, pe.Node] = field(default_factory=dict)
    tables: dict[str, pe.Node | LiterateWorkflow] = field(default_factory=dict)
    guide: tuple[tuple[pe.Node, str], tuple[pe.Node | LiterateWorkflow, str]] | None = None
    roi: tuple[LiterateWorkflow, str, str] | None = None
    calibration: LiterateWorkflow | None = None
