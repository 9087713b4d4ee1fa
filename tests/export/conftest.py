from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

# Networks this small lose more by sharing their work than they win.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _flushed() -> Iterator[None]:
    """Flush subnormal numbers as training does, and only here: hypothesis will not have it."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
