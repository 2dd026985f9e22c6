"""Types of NumPy arrays by their elements, for annotations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Real = NDArray[np.floating]
Mask = NDArray[np.bool_]
