"""How far one large file is."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vaecodec.cli import progress
from vaecodec.codec import Codec
from vaecodec.trace import Trace


def told(trace: Trace) -> list[tuple[int, int]]:
    """Return a list that fills with what a trace tells."""
    steps: list[tuple[int, int]] = []
    trace.progress = lambda done, known: steps.append((done, known))
    return steps


def test_every_tile_is_told_and_all_are_known_from_the_start(tiny_bundle: Path):
    codec = Codec(tiny_bundle)
    image = Image.new("RGB", (400, 8200))
    traces = {name: Trace() for name in ("encode", "encode denoised", "decode", "denoise")}
    steps = {name: told(trace) for name, trace in traces.items()}
    data = codec.encode(image, trace=traces["encode"])
    codec.encode(image, denoise=True, trace=traces["encode denoised"])
    codec.decode(data, trace=traces["decode"])
    codec.denoise(image, trace=traces["denoise"])
    counts = {"encode": 4, "encode denoised": 8, "decode": 4, "denoise": 16}
    assert steps == {
        name: [(done + 1, count) for done in range(count)] for name, count in counts.items()
    }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, in seconds, which only a test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[progress.Progress]:
    """Return the bars that are going to be shown."""
    shown: list[progress.Progress] = []
    make = progress._progress

    def kept() -> progress.Progress:
        shown.append(make())
        return shown[-1]

    monkeypatch.setattr(progress, "_is_watched", lambda *, quiet: not quiet)
    monkeypatch.setattr(progress, "_progress", kept)
    return shown


def test_work_that_takes_long_has_a_bar(bars: list[progress.Progress], clock: list[float]):
    trace = Trace()
    with progress.working(trace, quiet=False):
        for step in trace.steps(range(4)):
            assert len(bars) == (step > 1)
            clock[0] += 0.75
        (task,) = bars[0].tasks
        assert (task.completed, task.total) == (4, 4)
    assert not bars[0].live.is_started


@pytest.mark.parametrize(("quiet", "step_s"), [(True, 10.0), (False, 0.1)])
def test_quick_work_and_quiet_commands_have_none(
    bars: list[progress.Progress], clock: list[float], quiet: bool, step_s: float
):
    trace = Trace()
    with progress.working(trace, quiet=quiet):
        for _ in trace.steps(range(4)):
            clock[0] += step_s
    assert not bars


def test_the_bar_goes_when_work_fails(bars: list[progress.Progress], clock: list[float]):
    trace = Trace()

    def fail() -> None:
        with progress.working(trace, quiet=False):
            for step in trace.steps(range(9)):
                clock[0] += 2
                if step == 3:
                    raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert bars
    assert not bars[0].live.is_started
