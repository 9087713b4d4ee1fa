"""Standard error without the lines of libraries, in a process that is a command's own.

Pillow warns, and libtiff prints, of what is wrong with a file; a command says it in a line of its
own. Both are states of a whole process, so this is for commands and their workers, never for the
package in somebody else's program.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Generator

from vaecodec.errors import is_debugged

_STDERR = 2


@contextlib.contextmanager
def libraries_hushed() -> Generator[None]:
    """Drop what is written to standard error meanwhile, unless the user looks for bugs."""
    if is_debugged():
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # where it is closed
            sys.stderr.flush()
            real = os.dup(_STDERR)
            stack.callback(os.close, real)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
            stack.callback(os.dup2, real, _STDERR)
        yield
