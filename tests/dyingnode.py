"""Nodes that fail in different ways, in a module that worker processes can import."""

import errno
import logging
import os
import re
import signal
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits


class _DieInputSpec(BaseInterfaceInputSpec):
    value = traits.Int(mandatory=True)
    marker = traits.Str(desc="killed while this file is absent")
    always = traits.Bool(False, usedefault=True)


class _DieOutputSpec(TraitedSpec):
    out = traits.Int()


class Die(SimpleInterface):
    """Kill the process of the node, once or always."""

    input_spec = _DieInputSpec
    output_spec = _DieOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        if self.inputs.always:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(self.inputs.marker, str) and not Path(self.inputs.marker).exists():
            Path(self.inputs.marker).write_text("was here")
            os.kill(os.getpid(), signal.SIGKILL)
        logging.getLogger("bids_sr.dying").warning("the value\nis %d", self.inputs.value % 2)
        self._results["out"] = self.inputs.value + 1
        return runtime


class Full(SimpleInterface):
    """Raise the error of a full disk."""

    input_spec = _DieInputSpec
    output_spec = _DieOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"file{self.inputs.value}")


class _SpinInputSpec(BaseInterfaceInputSpec):
    file = traits.Str(mandatory=True, desc="gets the number of the process")


class Spin(SimpleInterface):
    """Run compiled code that never releases the GIL."""

    input_spec = _SpinInputSpec
    output_spec = _DieOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        Path(self.inputs.file).write_text(str(os.getpid()))
        re.match("(a+)+b", "a" * 60)
        return runtime
