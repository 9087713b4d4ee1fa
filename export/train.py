"""Training: warm-up, stable, decay; exact resumption; averaged weights.

Everything random in step s is drawn from generators seeded by (seed, s), so on a CPU a run that was
interrupted continues to the same weights as one that was not. The next batch is made while a step
is computed; on a GPU, where images and crops stay, a step is one recorded graph.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from export.autoencoding import Autoencoding
from export.capture import Captured
from export.data import Crops, read_images
from export.denoiser import Denoiser
from export.denoising import Denoising
from export.log import Log, append_rows, drop_rows_after
from export.optimizers import move_optimizers, set_rates
from export.recipe import Recipe
from export.state import CHECKPOINT, State, save
from export.task import Batch, Task

VALIDATION_IMAGES = 16
VALIDATION_CROP = 256
LOG_EVERY = 50
OUTLIER = 1e4
"""Norm of a gradient beyond which a step is left out: usual ones are from 1 to 1,000."""
OUTLIERS_MOST = 0.1
"""Share of the steps between two rows of the log that may be left out; with more, weights are lost.
"""
NOTE_SECONDS = 1.0
LOG = "log.csv"
VALIDATION = "validation.csv"


def draw_levels(count: int, levels: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Return levels ``(count,)``: one from each of `count` equal parts of the range, shuffled.

    The levels' losses and gradients differ far more than two images' do, so a batch in which all
    parts are there makes a gradient of less noise.
    """
    low, high = levels
    at = {"generator": generator, "device": generator.device}
    return low + (torch.randperm(count, **at) + torch.rand(count, **at)) / count * (high - low)


class Trainer:
    """One training run in a folder: checkpoint.pt, log.csv, validation.csv, curve.png.

    Args:
        recipe: what the run does.
        state: where it is.
        crops: what it sees.
        validation: held-out images ``(n, 3, h, w)`` uint8.
        folder: where checkpoint and logs go.
        cpu: whether GPUs are left aside.
        compiled: whether to compile the loss (`torch.compile`): minutes at the start, and faster
            steps on a GPU.
    """

    def __init__(
        self,
        recipe: Recipe,
        state: State,
        crops: Crops,
        validation: Tensor,
        folder: Path,
        *,
        cpu: bool,
        compiled: bool = False,
    ) -> None:
        self.recipe, self.state, self.crops, self.folder = recipe, state, crops, folder
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")
        self.device = self.accelerator.device
        state.model.to(self.device)
        state.averaged.to(self.device)
        move_optimizers(state.optimizers, self.device)
        self.network = self.accelerator.prepare_model(state.model)
        self.task: Task = (
            Denoising(state.model, validation)
            if isinstance(state.model, Denoiser)
            else Autoencoding(state.model, validation, recipe.training)
        )
        self._average = get_ema_multi_avg_fn(recipe.training.ema_decay)
        self._loss = torch.compile(self._objective) if compiled else self._objective
        self._compute: Callable[[Batch], dict[str, Tensor]] = self._optimise
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.backends.cudnn.benchmark = True
        if on_gpu and self.accelerator.num_processes == 1:
            self._compute = Captured(self._optimise)
        # What prepares the next batch has a stream of its own, and the device of this process.
        self._stream = torch.cuda.Stream() if on_gpu else None
        chosen = partial(torch.cuda.set_device, self.device) if on_gpu else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="crops", initializer=chosen)
        self._ahead: tuple[int, Future[Batch]] | None = None

    def run(self) -> None:
        """Train to the recipe's last step, or until SIGINT or SIGTERM.

        A checkpoint is written on the way and at the end, always between two steps.
        """
        training, state = self.recipe.training, self.state
        if self.accelerator.is_main_process:
            for name in (LOG, VALIDATION):
                drop_rows_after(self.folder / name, state.step)
        log = Log(self.folder / LOG)
        images = training.batch * self.accelerator.num_processes
        saved = time.monotonic()
        noted = saved
        with self._worker, self._progress() as progress, _stop_on_signal() as stop:
            task = progress.add_task("train", total=training.steps, completed=state.step, note="")
            while state.step < training.steps and not self._any(stop.is_set()):
                began = time.monotonic()
                measured = self.step()
                if not self.accelerator.is_main_process:
                    continue
                log.add(measured, images)
                if began - noted > NOTE_SECONDS:
                    noted = began
                    progress.update(task, completed=state.step, note=log.note())
                if state.step % LOG_EVERY == 0:
                    self._check(log)
                    log.write(state.step, training.rate_factor(state.step))
                state.seconds += time.monotonic() - began
                if state.step % training.validate_every == 0:
                    self._check(log)
                    self.validate()
                if time.monotonic() - saved > 60 * training.checkpoint_minutes:
                    self._save(log)
                    saved = time.monotonic()
        if self.accelerator.is_main_process:
            self._save(log)

    def _save(self, log: Log) -> None:
        self._check(log)
        save(self.folder / CHECKPOINT, self.recipe, self.state)

    def _check(self, log: Log) -> None:
        """See that the steps since the last row were sound, so that what is saved is.

        Raises:
            FloatingPointError: one was not finite, or too many were outliers; the checkpoint is
                still that before.
        """
        norms = log.column("gradient_norm")
        first = self.state.step - len(norms)
        outliers = [step for step, norm in enumerate(norms, first) if not norm < OUTLIER]
        lost = any(not math.isfinite(norm) for norm in norms)
        if lost or len(outliers) > max(1, OUTLIERS_MOST * len(norms)):
            raise FloatingPointError(
                f"training has diverged: the gradient of step {outliers[0]:,} has the norm "
                f"{norms[outliers[0] - first]:.3g}; go on from the checkpoint with lower rates"
            )

    def step(self) -> dict[str, Tensor]:
        """Take one optimiser step; return its loss, what else it measured, the gradient's norm.

        On a GPU this returns before they are computed.
        """
        training, state = self.recipe.training, self.state
        batch = self._batch(state.step)
        torch.manual_seed(self._seed(state.step))
        set_rates(state.optimizers, training.rate_factor(state.step))
        if self._stream is None:
            self._prepare_ahead(state.step + 1)
        measured = self._compute(batch)
        if self._stream is not None:  # computing yet, and free of others while it is recorded
            self._prepare_ahead(state.step + 1)
        state.step += 1
        return measured

    def _optimise(self, batch: Batch) -> dict[str, Tensor]:
        training, state = self.recipe.training, self.state
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        objective, measured = self._loss(batch)
        self.accelerator.backward(objective)
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), training.clip_norm)
        is_sound = (norm < OUTLIER).float()
        for parameter in state.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(is_sound)
        for optimizer in state.optimizers:
            optimizer.step()
        pairs = zip(state.averaged.parameters(), state.model.parameters(), strict=True)
        averaged, current = zip(*((a, p) for a, p in pairs if p.requires_grad), strict=True)
        self._average(averaged, current, None)
        return {"loss": objective.detach(), **measured, "gradient_norm": norm}

    def _objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.objective(self._forward, batch)

    def _forward(self, *inputs: Any) -> dict[str, Tensor]:
        bfloat16 = self.recipe.training.autocast == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return self.network(*inputs)

    def _seed(self, step: int) -> int:
        seed = self.recipe.training.seed * 1_000_003 + step
        return seed * 1_009 + self.accelerator.process_index

    def _batch(self, step: int) -> Batch:
        """Return what a step takes."""
        ahead = self._ahead
        if ahead is None or ahead[0] != step:
            ahead = self._prepare_ahead(step)
        batch = ahead[1].result()
        if self._stream is not None:
            for tensor in batch.values():
                tensor.record_stream(torch.cuda.current_stream())
        return batch

    def _prepare_ahead(self, step: int) -> tuple[int, Future[Batch]]:
        self._ahead = (step, self._worker.submit(self._prepare, step))
        return self._ahead

    def _prepare(self, step: int) -> Batch:
        with torch.cuda.stream(self._stream):
            batch = self._drawn(step)
        if self._stream is not None:
            self._stream.synchronize()
        return batch

    @torch.no_grad()
    def _drawn(self, step: int) -> Batch:
        x = self.crops.get(step, self.accelerator.process_index).to(self.device).float().div(255)
        x = x.contiguous(memory_format=torch.channels_last)
        generator = torch.Generator(self.device).manual_seed(self._seed(step))
        anchor = draw_levels(len(x), self.recipe.training.levels, generator)
        return {"anchor": anchor, **self.task.prepare(x, generator)}

    @torch.no_grad()
    def validate(self) -> None:
        """Measure the averaged weights on held-out images; log and plot."""
        rows = self.task.validate(self.state.averaged)
        fields = ("step", *self.task.validation_fields)
        path = self.folder / VALIDATION
        append_rows(path, fields, [[self.state.step, *row] for row in rows])
        self.task.plot(path, self.folder / "curve.png")

    def _any(self, flag: bool) -> bool:
        """Tell whether a flag is set in any process, so that all of them stop together."""
        if self.accelerator.num_processes == 1:
            return flag
        count = self.accelerator.reduce(torch.tensor(float(flag), device=self.device))
        return bool(torch.as_tensor(count) > 0)

    def _progress(self) -> Progress:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        shown = self.accelerator.is_main_process
        return Progress(*columns, TimeRemainingColumn(), disable=not shown)


def training_device(*, cpu: bool) -> torch.device:
    """Return where images are held: on the GPU that trains, if one does.

    Args:
        cpu: whether GPUs are left aside.
    """
    device = Accelerator(cpu=cpu).device
    return device if device.type == "cuda" else torch.device("cpu")


def computes_bfloat16(*, cpu: bool) -> bool:
    """Tell whether what trains multiplies in bfloat16: a CPU that does not is ten times slower.

    Args:
        cpu: whether GPUs are left aside.
    """
    able = torch.cpu.get_capabilities()
    names = ("avx512_bf16", "amx_bf16", "bf16")  # the last is of ARM
    gpu = not cpu and torch.accelerator.is_available()
    return gpu or any(able.get(name, False) for name in names)


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one acts as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()


def validation_crops(sources: list[Path]) -> Tensor:
    """Return the middles of the first held-out images, ``(n, 3, 256, 256)`` uint8."""
    crops: list[Tensor] = []
    for image in read_images(sources, VALIDATION_CROP):
        top = (image.shape[0] - VALIDATION_CROP) // 2
        left = (image.shape[1] - VALIDATION_CROP) // 2
        middle = image[top : top + VALIDATION_CROP, left : left + VALIDATION_CROP]
        crops.append(torch.from_numpy(middle.copy()).permute(2, 0, 1))
        if len(crops) == VALIDATION_IMAGES:
            break
    if not crops:
        raise ValueError(f"no image of {VALIDATION_CROP} pixels a side in the validation data")
    return torch.stack(crops)
