"""What the user can mend, told from bugs: ours, PyTorch's or another library's."""

from __future__ import annotations

import dis
from pathlib import Path
from types import TracebackType

import vaecodec
from vaecodec.errors import VaecodecError

_WINGS = (Path(__file__).parent, Path(vaecodec.__file__).parent)
_RAISE = dis.opmap["RAISE_VARARGS"]


def can_be_mended(error: Exception) -> bool:
    """Tell whether an error says what is wrong with an input, a disk or a run.

    Built-in errors do if a check of ours raised them. The same kinds come from libraries whose
    bugs, or our wrong use of them, a line would hide.
    """
    if isinstance(error, OSError | VaecodecError):
        return True
    return isinstance(error, ValueError | ArithmeticError) and _is_raised_here(error.__traceback__)


def _is_raised_here(traceback: TracebackType | None) -> bool:
    """Tell whether an error comes from a `raise` in a module of the two wings."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    is_ours = any(Path(code.co_filename).is_relative_to(wing) for wing in _WINGS)
    # Elsewhere than at a `raise`, it is what a function in C was called with.
    return is_ours and code.co_code[traceback.tb_lasti] == _RAISE
