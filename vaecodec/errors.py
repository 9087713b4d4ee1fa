"""Every exception that vaecodec raises on purpose, and the exit code each one maps to.

    VaecodecError                       1  our bug, unless a subclass says otherwise
    ├── FormatError (also ValueError)   3  the bytes are not a .vaec file this version reads
    │   ├── NotVaecError                   the magic is wrong: some other kind of file
    │   ├── UnsupportedVersionError        a later version wrote it
    │   ├── TruncatedError                 it ends too early
    │   ├── ChecksumError                  a stored CRC does not match: damage
    │   └── CorruptError                   the CRCs match, yet a field breaks the rules
    ├── ImageError                      3  a source image cannot be used
    ├── InputError                      3  an input path or pipe cannot be read
    ├── ModelError                      4  the bundle is the matter
    │   ├── ModelNotFoundError             no bundle of that name or id
    │   └── ModelMismatchError             a bundle, but not the one that is needed
    ├── RuntimeUnavailableError         4  a run-time package or device is missing
    ├── LimitError                      5  a size exceeds a configured limit
    ├── TargetError                     5  no quality reaches the target of an encoding
    ├── InsufficientMemoryError         5  this machine has not the memory (also MemoryError)
    └── OutputError                     6  an output cannot be written
        ├── OutputExistsError              it exists, and overwriting was not asked for
        └── UnfitFormatError               its format cannot hold the image (also ImageError)

`vaecodec.pillow_plugin` raises two more, which are errors of Pillow's, too. Catching
`VaecodecError` catches them all. Every one survives pickling, because batches hand
errors from worker processes to their parent.
"""

import os
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process tells its shell."""

    OK = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    MODEL = 4
    LIMIT = 5
    OUTPUT = 6


class VaecodecError(Exception):
    """Base of every error raised on purpose."""

    exit_code: ClassVar[int] = ExitCode.BUG


class FormatError(VaecodecError, ValueError):
    """The bytes are not a `.vaec` file that this version reads."""

    exit_code = ExitCode.INPUT


class NotVaecError(FormatError):
    """The file does not begin with the magic."""


class UnsupportedVersionError(FormatError):
    """The file needs a later version of this package."""


class TruncatedError(FormatError):
    """The file ends before the structure it announces."""


class ChecksumError(FormatError):
    """A stored CRC does not match the bytes it covers."""


class CorruptError(FormatError):
    """The checksums match, but what they cover breaks a rule of the format."""


class ImageError(VaecodecError):
    """A source image cannot be read, or is of a kind that cannot be encoded."""

    exit_code = ExitCode.INPUT


class InputError(VaecodecError):
    """An input cannot be read at all: missing, a folder, not permitted."""

    exit_code = ExitCode.INPUT


class ModelError(VaecodecError):
    """A bundle is missing, damaged or the wrong one."""

    exit_code = ExitCode.MODEL


class ModelNotFoundError(ModelError):
    """No installed bundle has the name or id asked for."""


class ModelMismatchError(ModelError):
    """A bundle was found, but its content is not what the file or manifest names."""


class RuntimeUnavailableError(VaecodecError):
    """A run-time package, provider or device is missing.

    Attributes:
        message: What is missing, as one sentence.
        pip_line: The command that installs it; empty where none would help.
    """

    exit_code = ExitCode.MODEL

    def __init__(self, message: str, pip_line: str = "") -> None:
        # The arguments go to the base unchanged: pickle rebuilds an exception from `args`.
        super().__init__(message, pip_line)
        self.message = message
        self.pip_line = pip_line

    def __str__(self) -> str:
        if not self.pip_line:
            return self.message
        return f"{self.message} (try: {self.pip_line})"


class LimitError(VaecodecError):
    """A size exceeds a configured limit.

    Attributes:
        what: The quantity, with its unit where it has one, as in "file size in bytes".
        value: Its value.
        limit: The greatest value allowed.
    """

    exit_code = ExitCode.LIMIT

    def __init__(self, what: str, value: int, limit: int) -> None:
        super().__init__(what, value, limit)
        self.what = what
        self.value = value
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.what} is {self.value:,}, over the limit of {self.limit:,}"


class TargetError(VaecodecError):
    """No quality makes a file as small, or an image as good, as was asked for."""

    exit_code = ExitCode.LIMIT


class InsufficientMemoryError(VaecodecError, MemoryError):
    """This machine has not the memory that an image of this size takes."""

    exit_code = ExitCode.LIMIT


class OutputError(VaecodecError):
    """An output cannot be written."""

    exit_code = ExitCode.OUTPUT


class OutputExistsError(OutputError):
    """The output exists already, and overwriting it was not asked for."""


class UnfitFormatError(OutputError, ImageError):
    """A file of the format that was asked for cannot hold the image."""


def described(error: BaseException) -> tuple[str, ExitCode]:
    """Return what to say of any exception, in one line, and the code to exit with."""
    if isinstance(error, VaecodecError):
        message = ": ".join((*getattr(error, "__notes__", ()), str(error)))
        code = ExitCode(error.exit_code)
    elif isinstance(error, MemoryError):
        message, code = "not enough memory for an image of this size", ExitCode.LIMIT
    elif isinstance(error, OSError):
        message, code = str(error), ExitCode.OUTPUT
    else:
        message = (
            f"this is a bug, please report it ({type(error).__name__}: {error}); "
            "VAECODEC_DEBUG=1 shows where it happened"
        )
        code = ExitCode.BUG
    return " ".join(message.split()), code


def is_debugged() -> bool:
    """Tell whether the user wants to see the tracebacks of bugs."""
    return os.environ.get("VAECODEC_DEBUG") == "1"
