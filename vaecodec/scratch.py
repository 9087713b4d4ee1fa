"""Arrays that are used again and again.

What is larger than about 32 MB is taken from the system anew every time, which fills it with zeros
page by page: large images, of many tiles, then take longer for each pixel than small ones.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Memory for arrays that are needed for a moment: of each name one block is kept.

    What a codec keeps is of a tile: 90 MB at most, once there was an image of four megapixels.
    Threads may share it: whoever comes while a block is in use gets another one.
    """

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float32]] = {}

    @contextmanager
    def array(self, name: str, shape: tuple[int, ...]) -> Generator[NDArray[np.float32]]:
        """Lend an array, whose values may be anything, as long as the context lasts."""
        size = math.prod(shape)
        block = self._kept.pop(name, None)
        if block is None or block.size < size:
            block = np.empty(size, np.float32)
        yield block[:size].reshape(shape)
        self._kept[name] = block
