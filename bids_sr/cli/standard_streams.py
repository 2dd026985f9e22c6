"""Standard streams that may be closed, so that work continues without a reader of the output."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


def restart_in_utf8() -> None:
    """Restart the program in Python's UTF-8 mode if the locale only supports ASCII.

    In the locale C, Python uses this mode by default unless PYTHONUTF8=0 is set. Without it, UTF-8
    file names cannot be stored in the index of the data set. Names in other encodings are reported
    in either mode.
    """
    name = "PYTHONUTF8"
    if sys.getfilesystemencoding() == "ascii" and os.environ.get(name) != "1":
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, name: "1"})


class TolerantStream:
    """Text stream that drops output after its reader has closed it (``… | head``)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text and return the number of characters."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # such as half of a surrogate pair in a sidecar
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except BrokenPipeError:
            self._detach()
            return len(text)

    def flush(self) -> None:
        """Write buffered text."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._detach()

    def _detach(self) -> None:
        """Redirect the stream to the null device, also for processes started later."""
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, self._stream.fileno())
        os.close(null_device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[None]:
    """Let a program run to its end even if standard output or error are closed."""
    _open_closed_descriptors()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (TolerantStream(stream) for stream in streams)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = streams


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors (``>&-``), so that they are not reused for other files."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free descriptor is used, which is this one
            descriptor = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            # otherwise, another file would use it in worker processes
            os.set_inheritable(descriptor, True)
    # closed before Python started
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
