"""What is done to each of many files, wherever it is read from and written to.

A job is a few settings that survive pickling; opened, in the process that does the work, it is a
function from a file's bytes to another file's.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, Protocol

from vaecodec.errors import ExitCode, OutputExistsError, described, is_debugged
from vaecodec.hushed import libraries_hushed
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.origin import Origin, origin_of
from vaecodec.rate import DEFAULT_QUALITY

if TYPE_CHECKING:
    from vaecodec.search import Target

SUFFIX = ".vaec"
"""Of compressed files."""
_M_ARENA_MAX = -8
"""What mallopt calls the number of heaps, in glibc's malloc.h."""
Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Task:
    """One file to read and one to write: paths, or addresses.

    Attributes:
        source: What is read.
        target: What is written.
        input_bytes: Size of the source.
        keep_times: Whether the target gets the modification time of the source.
    """

    source: str
    target: str
    input_bytes: int = 0
    keep_times: bool = False


@dataclass(frozen=True)
class Made:
    """What a job makes of one file.

    Attributes:
        data: the bytes to write.
        width: of the image, pixels.
        height: of the image, pixels.
        notices: what the user should know of it.
    """

    data: bytes | memoryview
    width: int
    height: int
    notices: tuple[str, ...] = ()


Work = Callable[[bytes], Made]


class Job(Protocol):
    """What the engines need to know of a job.

    Attributes:
        limits: sizes beyond which files are refused.
        suffix: what outputs are called.
    """

    @property
    def limits(self) -> Limits: ...  # noqa: D102

    @property
    def suffix(self) -> str: ...  # noqa: D102

    def takes(self, suffix: str) -> bool:
        """Tell whether files of that suffix, in lower case, are this job's."""
        ...

    def open(self, threads: int | None) -> Work:
        """Load what the work needs, once in each process."""
        ...


def is_image(suffix: str) -> bool:
    """Tell whether files of a suffix, in lower case, are images."""
    from vaecodec.image import IMAGE_SUFFIXES

    return suffix in IMAGE_SUFFIXES


def stem_of(name: str) -> str:
    """Return the name of a file without its suffix, if that is one of images or `.vaec` files.

    Any other, as in `photo v1.2`, is part of the name.
    """
    path = PurePath(name)
    suffix = path.suffix.lower()
    return path.stem if suffix == SUFFIX or is_image(suffix) else path.name


@dataclass(frozen=True)
class Compress:
    """Images to `.vaec` files; the attributes are as in `Codec` and `Codec.encode`.

    Attributes:
        goal: what each file is to reach, in place of a quality.
    """

    quality: float = DEFAULT_QUALITY
    goal: Target | None = None
    denoise: bool = False
    strip: tuple[str, ...] = ()
    bundle: str = "base"
    device: str = "cpu"
    limits: Limits = DEFAULT_LIMITS

    @property
    def suffix(self) -> str:
        """That of all outputs."""
        return SUFFIX

    def takes(self, suffix: str) -> bool:
        """Tell whether it is an image's."""
        return is_image(suffix)

    def open(self, threads: int | None) -> Work:
        """Load the encoder; see `Codec` for the errors."""
        from vaecodec.codec import Codec
        from vaecodec.image import read_image
        from vaecodec.search import encode_to

        codec = Codec(self.bundle, self.device, threads=threads, limits=self.limits)
        if self.denoise:
            codec.bundle.require_denoiser()

        def work(data: bytes) -> Made:
            image = read_image(data, self.limits)
            notices = image.notices
            if self.goal is None:
                coded = codec.encode(
                    image, quality=self.quality, denoise=self.denoise, strip=self.strip
                )
            else:
                reached = encode_to(codec, image, self.goal, denoise=self.denoise, strip=self.strip)
                coded = reached.data
                notices += (reached.notice,) if reached.notice else ()
            return Made(coded, image.width, image.height, notices)

        return work


@dataclass(frozen=True)
class Decompress:
    """`.vaec` files to images of one format; the attributes are as in `Codec`.

    Attributes:
        suffix: of the images, which names their format.
        bundle: the model; None takes the one that each file names.
    """

    suffix: str = ".png"
    strip: tuple[str, ...] = ()
    bundle: str | None = None
    device: str = "cpu"
    limits: Limits = DEFAULT_LIMITS

    def takes(self, suffix: str) -> bool:
        """Tell whether it is `.vaec`."""
        return suffix == SUFFIX

    def open(self, threads: int | None) -> Work:
        """Return the decoder; a model is loaded when the first file needs it."""
        from vaecodec.bundle import find_bundle, find_by_id
        from vaecodec.codec import Codec
        from vaecodec.container import read_header
        from vaecodec.image import check_suffix, write_image, writing_notices
        from vaecodec.runtime import load_onnxruntime

        check_suffix(self.suffix)
        load_onnxruntime(self.device)
        given = None if self.bundle is None else find_bundle(self.bundle)
        codecs: dict[bytes, Codec] = {}

        def work(data: bytes) -> Made:
            model_id = read_header(data).model_id if given is None else given.model_id
            if model_id not in codecs:
                chosen = given or find_by_id(model_id)
                codecs.clear()  # folders of several models are rare, and memory is not plenty
                codecs[model_id] = Codec(chosen, self.device, threads=threads, limits=self.limits)
            image = codecs[model_id].decode_raster(data, strip=self.strip)
            notices = writing_notices(image, self.suffix)
            return Made(write_image(image, self.suffix), image.width, image.height, notices)

        return work


@dataclass(frozen=True)
class Denoise:
    """Noisy images to clean ones; the attributes are as in `Codec` and `Codec.denoise`.

    Attributes:
        suffix: of the clean images, which names their format.
    """

    strength: float = 1.0
    suffix: str = ".png"
    strip: tuple[str, ...] = ()
    bundle: str = "base"
    device: str = "cpu"
    limits: Limits = DEFAULT_LIMITS

    def takes(self, suffix: str) -> bool:
        """Tell whether it is an image's."""
        return is_image(suffix)

    def open(self, threads: int | None) -> Work:
        """Open the bundle; see `Codec` and `Bundle.require_denoiser` for the errors."""
        from vaecodec.codec import Codec
        from vaecodec.image import check_suffix, read_image, write_image, writing_notices

        check_suffix(self.suffix)
        codec = Codec(self.bundle, self.device, threads=threads, limits=self.limits)
        codec.bundle.require_denoiser()

        def work(data: bytes) -> Made:
            image = read_image(data, self.limits)
            clean = codec.denoise(image, strength=self.strength, strip=self.strip)
            written = write_image(clean, self.suffix)
            notices = image.notices + writing_notices(clean, self.suffix)
            return Made(written, clean.width, clean.height, notices)

        return work


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Attributes:
        source: what was read.
        target: what was written, or was to be.
        status: "done", "skipped" (it was done before) or "failed".
        input_bytes: size of the source.
        output_bytes: size of the target; 0 if it failed.
        width: of the image, pixels; 0 where that was not found out.
        height: of the image, pixels.
        seconds: spent on it.
        notices: what the user should know of it.
        error: what is wrong, in one line, if it failed.
        exit_code: the `ExitCode` of the error.
    """

    source: str
    target: str
    status: Status
    input_bytes: int = 0
    output_bytes: int = 0
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = ExitCode.OK


def bound_memory() -> None:
    """Have the C library take all memory from one heap, for a process that does many tasks.

    glibc has one for each thread, in which the holes between what images leave behind add up: a
    worker grew by 1 MB with every image of one megapixel. Elsewhere nothing is done.
    """
    import ctypes  # only here: a command should not wait for it

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def failed(task: Task, error: BaseException) -> Outcome:
    """Return the outcome of a task that an exception ended."""
    message, code = described(error)
    return Outcome(
        task.source, task.target, "failed", task.input_bytes, error=message, exit_code=int(code)
    )


def carry_out(
    task: Task,
    work: Work,
    read: Callable[[str], bytes],
    write: Callable[[str, bytes | memoryview, Origin], None],
) -> Outcome:
    """Do one task; whatever goes wrong with it is told, and stops no other one.

    Args:
        task: the task.
        work: an opened job.
        read: returns the bytes of a source.
        write: puts a target in place, whole or not at all, with permissions and times.
    """
    began = time.perf_counter()
    try:
        origin = origin_of(task.source, keep_times=task.keep_times)
        data = read(task.source)
        with libraries_hushed():
            made = work(data)
        write(task.target, made.data, origin)
    except OutputExistsError:  # another process was faster
        return Outcome(task.source, task.target, "skipped", task.input_bytes)
    except Exception as error:
        outcome = failed(task, error)
        if outcome.exit_code == ExitCode.BUG and is_debugged():
            traceback.print_exc()  # here, as it would not survive the way to the parent
        return outcome
    return Outcome(
        task.source,
        task.target,
        "done",
        len(data),
        len(made.data),
        made.width,
        made.height,
        time.perf_counter() - began,
        made.notices,
    )
