"""Names for the array types that walk through the code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]
Bytes8 = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Array = NDArray[Any]
