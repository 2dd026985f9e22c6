"""Gzip for measured values: coded byte by byte, without the search for repetitions that noise does not have.

Series that were interpolated repeat nothing but their empty background of zeros. Looking only for runs of one byte
takes half the time of gzip's fastest level for them, and the files come out no larger. For masks, labels and whatever
is smooth gzip's own search is better.
"""

import io
import zlib
from typing import IO, Any

_GZIP = 16 + zlib.MAX_WBITS  # a gzip header, and with zlib's own it carries neither time nor name


class PackedStream(io.RawIOBase):
    """A file that packs what is written to it into another, buffered one, which stays open when this one is closed.

    Equal content gives equal bytes. Closing writes what is left, and the checksum.
    """

    def __init__(self, below: IO[bytes]) -> None:
        super().__init__()
        self._below = below
        self._packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)

    def writable(self) -> bool:
        """It is for writing alone."""
        return True

    def write(self, data: Any, /) -> int:
        """Pack more; returns the bytes taken, which are all."""
        view = memoryview(data)
        self._below.write(self._packer.compress(view))
        return view.nbytes

    def close(self) -> None:
        """Write what is left; again it does nothing."""
        if not self.closed:
            try:
                self._below.write(self._packer.flush())
            finally:
                super().close()
