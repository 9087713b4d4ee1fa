from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import make_tiny_bundle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless it is asked for."""
    if os.environ.get("VAECODEC_EXHAUSTIVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.skip(reason="runs where VAECODEC_EXHAUSTIVE=1"))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle, made here: a small network, most of it at random."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
