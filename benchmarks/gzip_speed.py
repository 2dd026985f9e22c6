"""Processor time and size of series that are compressed by ISA-L and by zlib, both at level 1.

python benchmarks/gzip_speed.py SERIES [SERIES ...]

Volumes are interpolated to half the voxel size in plane and stored in single precision, like the
super-resolved series of an output.
"""

import argparse
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from _table import keep
from isal import isal_zlib

from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid

LIBRARIES = {"ISA-L": isal_zlib, "zlib": zlib}
GZIP_WBITS = 16 + zlib.MAX_WBITS
FACTOR = (2.0, 2.0, 1.0)


def compress(path: Path) -> list[dict[str, Any]]:
    """Return processor time and size of one series by library."""
    compressors = {
        name: lib.compressobj(1, lib.DEFLATED, GZIP_WBITS) for name, lib in LIBRARIES.items()
    }
    seconds, sizes, n_bytes = dict.fromkeys(LIBRARIES, 0.0), dict.fromkeys(LIBRARIES, 0), 0
    with SeriesReader(path) as reader:
        grid = hr_grid(reader.shape, reader.affine, FACTOR)
        for volume in reader.volumes():
            content = sample_volume(volume, reader.affine, *grid).tobytes(order="F")
            n_bytes += len(content)
            for name, compressor in compressors.items():
                start = time.process_time()
                sizes[name] += len(compressor.compress(content))
                seconds[name] += time.process_time() - start
    for name, compressor in compressors.items():
        start = time.process_time()
        sizes[name] += len(compressor.flush())
        seconds[name] += time.process_time() - start
    return [
        {
            "series": "/".join(path.parts[-4:]),
            "size (GB)": n_bytes / 1e9,
            "library": name,
            "processor time (s)": seconds[name],
            "compressed": sizes[name] / n_bytes,
        }
        for name in LIBRARIES
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", type=Path, nargs="+")
    rows = [row for path in parser.parse_args().series for row in compress(path)]
    keep("gzip_speed", "Compression of series of two times higher resolution in plane", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
