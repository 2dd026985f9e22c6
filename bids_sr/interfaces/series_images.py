"""Series on disk: import as uncompressed float32, and the one interpolation of the raw series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec


class ImportSeries(SimpleInterface):
    """Copy a series to uncompressed float32, one volume in memory."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3D or 4D image, any type, .nii or .nii.gz")

    class output_spec(TraitedSpec):
        out_file = File(
            exists=True, desc="the same values as uncompressed float32 .nii, which can be read in any order"
        )

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.io.nifti import SeriesReader, SeriesWriter

        stem = Path(self.inputs.in_file).name.removesuffix(".gz").removesuffix(".nii")
        out_file = Path(runtime.cwd) / f"{stem}_imported.nii"
        with (
            SeriesReader(self.inputs.in_file) as reader,
            SeriesWriter(out_file, reader.shape, reader.affine, reader.tr, header_like=reader.header) as writer,
        ):
            for volume in reader.volumes():
                writer.append(volume)
        self._results["out_file"] = str(out_file)
        return runtime


class ResampleSeries(SimpleInterface):
    """Bring every volume into the reference's pose, in one interpolation each."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired")
        reference = File(exists=True, mandatory=True, desc="boldref; its grid is that of the result")
        xfms = File(exists=True, mandatory=True, desc="ITK text, a boldref point to where it lies in each volume")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="motion-corrected series, float32 .nii")

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.io.nifti import SeriesReader, SeriesWriter
        from bids_sr.spatial.resampling import sample_volume
        from bids_sr.spatial.transforms import read_itk

        out_file = Path(runtime.cwd) / "resampled.nii"
        xfms = read_itk(self.inputs.xfms)
        with SeriesReader(self.inputs.reference) as grid, SeriesReader(self.inputs.in_file) as reader:
            if len(xfms) != reader.shape[3]:
                raise ValueError(f"{self.inputs.xfms}: {len(xfms)} transforms for {reader.shape[3]} volumes")
            shape = (*grid.shape[:3], reader.shape[3])
            with SeriesWriter(out_file, shape, grid.affine, reader.tr, header_like=grid.header) as writer:
                for volume, xfm in zip(reader.volumes(), xfms, strict=True):
                    writer.append(sample_volume(volume, reader.affine, grid.shape[:3], grid.affine, xfm))
        self._results["out_file"] = str(out_file)
        return runtime
