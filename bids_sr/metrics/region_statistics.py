"""Statistics of the mean effect of the region of interest, in the tables of a run."""

REGION = "roi"
"""Name of the region of interest in tables of metrics."""
MEAN_EFFECT = "region_effect"
NOISE_SD, NOISE_DOF = "region_noise_sd", "region_noise_dof"
ERROR_SD = "region_error_sd"
N_VOXELS = "region_voxels"
