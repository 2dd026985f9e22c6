"""What steps add, by the class of their interface, until each step says so itself."""

from collections.abc import Mapping

from bids_sr.config.memory_model import DENSE_TRAINING, Need, Sizes, step_gb

_OF_T1W = {
    "LoadTemplate": (0.30, 0.0),
    "CorrectBias": (0.02, 0.018),
    "MaskBrain": (0.20, 0.011),
    "NormalizeT1w": (0.25, 0.010),
    "SegmentTissues": (0.31, 0.032),
    "DefineRegion": (0.05, 0.052),
    "AnatReport": (0.02, 0.029),
    "NormReport": (0.29, 0.011),
    "CoregReport": (0.03, 0.020),
    "RegisterBoldToT1w": (0.08, 0.011),
    "MaskBold": (0.03, 0.015),
    "TissuesToBold": (0.03, 0.018),
    "RegionToBold": (0.03, 0.010),
    "AnotherContrast": (0.10, 0.030),
    "ImportAnat": (0.05, 0.030),
    "ShowInTemplate": (0.35, 0.030),
}
ANATOMICAL = {kind: Need(always=always, t1w=t1w, high=0.0) for kind, (always, t1w) in _OF_T1W.items()}
"""Steps that there are only with a T1w image, or that need much more with one, and what they add."""

_MAPS, _EFFECTS = Need(always=0.06, high=0.17), Need(always=0.06, high=0.75)

OTHER: Mapping[str, Need] = {
    "PreparePair": Need(always=0.06),
    "RegisterPairToBold": Need(always=0.06),
    "RegisterCalibration": Need(always=0.06),
    # 100 volumes as float32, those of the brain once more, and a slice in double precision
    "CalibrationSD": Need(always=0.06, high=0.7),
    "TrainModel": Need(always=0.3, high=0.2, dense=DENSE_TRAINING),
    "EstimateVariance": Need(always=0.1, high=0.33),
    "TrainOnVolumes": Need(always=0.45, high=0.0, learned=0.6, dense=DENSE_TRAINING),
    "SuperResolve": Need(always=0.06, high=0.25, dense_piece=1.6),
    "ScorePair": Need(always=0.12, high=0.25),
    "PrecisionGuard": Need(always=0.12, high=0.25),
    "ActivationMaps": _MAPS,
    "UnrepeatedMap": _MAPS,
    "ActivationReport": _MAPS,
    "BlockEffects": _EFFECTS,
    "SplitHalf": _EFFECTS,
    "EnsembleUncertainty": _EFFECTS,
    "NullShuffles": _EFFECTS,
    "TruthMaps": _EFFECTS,
    "TruthImages": _EFFECTS,
    "MapsToTemplate": Need(always=0.35),
}
"""Further steps that add more than the others."""


STRUCTURAL: Mapping[str, Need] = {
    # registration alone, on 1.2 million voxels: 0.44 GB rigidly, 0.76 GB with a deformation, with the libraries
    "PrepareContrasts": Need(always=0.45, scans=0.16),
    "TrainContrasts": Need(always=0.6, trained=0.12),
    "ResolveContrasts": Need(always=0.35, scans=0.12),
    "MeasureContrasts": Need(always=0.25, scans=0.30),
    "ScansReport": Need(always=0.1, scans=0.10),
    "ExplanationReport": Need(always=0.35, scans=0.10),
}
"""Steps of ``--sr-target anat``, and what they add: no less than was measured on three contrasts of a million voxels
(``--resource-monitor``), and for a million voxels more as many float32 arrays as a step holds at one time."""


def class_gb(kind: str, sizes: Sizes) -> float:
    """Memory that a step takes, by the class of its interface (GB)."""
    return step_gb(ANATOMICAL.get(kind) or OTHER.get(kind) or STRUCTURAL.get(kind) or Need(), sizes)


def needs(sizes: Sizes) -> tuple[Need, ...]:
    """What the steps add that there are for data of these sizes."""
    kinds = {**(ANATOMICAL if sizes.t1w else {}), **(STRUCTURAL if sizes.scans else OTHER)}
    return tuple(need for kind, need in kinds.items() if sizes.learned or kind != "TrainOnVolumes")
