"""UTF-8 file names, whatever the locale."""

import os
import sys


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
