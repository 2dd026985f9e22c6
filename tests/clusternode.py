"""A step for tests on a cluster, in a module that jobs can import."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits


class _WorkInputSpec(BaseInterfaceInputSpec):
    value = traits.Int(mandatory=True)
    fate = traits.Enum("well", "die", "eat", "fail", "wait", usedefault=True, nohash=True)
    start_file = traits.Str(desc="file that is written when the step begins", nohash=True)
    seconds = traits.Float(0.0, usedefault=True, nohash=True)


class _WorkOutputSpec(TraitedSpec):
    out = traits.Int()


class Work(SimpleInterface):
    """Add one to a number; or be killed, take 4 GB, fail, or wait."""

    input_spec = _WorkInputSpec
    output_spec = _WorkOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        if isinstance(inputs.start_file, str):
            Path(inputs.start_file).write_text(str(os.getpid()))
        time.sleep(inputs.seconds)
        if inputs.fate == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if inputs.fate == "eat":
            blocks = [bytearray(os.urandom(1 << 20) * 64) for _ in range(64)]
            raise MemoryError(
                f"{len(blocks)} pieces of 64 MB were there: this test needs a cluster that keeps"
                " limits"
            )
        if inputs.fate == "fail":
            raise ValueError("this step fails")
        if inputs.fate == "wait":
            time.sleep(600)
        self._results["out"] = inputs.value + 1
        return runtime
