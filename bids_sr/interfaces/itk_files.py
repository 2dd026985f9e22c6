"""Rigid transforms on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec


class _InvertInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="ITK text, takes a point of one image to its point in another")


class _InvertOutput(TraitedSpec):
    out_file = File(exists=True, desc="ITK text, takes that point back")


class InvertTransform(SimpleInterface):
    """Invert every linear transform of a file."""

    input_spec = _InvertInput
    output_spec = _InvertOutput

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.spatial.transforms import invert, read_itk, write_itk

        out_file = Path(runtime.cwd) / "inverse_xfm.txt"
        write_itk(out_file, invert(read_itk(self.inputs.in_file)))
        self._results["out_file"] = str(out_file)
        return runtime
