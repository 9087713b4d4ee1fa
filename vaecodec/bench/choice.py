"""Lists of what to measure besides ours, as a command line names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from vaecodec.bench.results import PeerInfo
from vaecodec.errors import RuntimeUnavailableError

INSTALLED, ALL = "installed", "all"
"""What stands in a list for those that are there, and for every one."""


class Measurable(Protocol):
    """What can tell of itself, if its library is there."""

    def info(self) -> PeerInfo:
        """Return what reports say of it.

        Raises:
            RuntimeUnavailableError: If its library is missing.
        """
        ...


T = TypeVar("T", bound=Measurable)


def choose(names: Sequence[str], known: Mapping[str, T], forms: Sequence[str] = ()) -> list[T]:
    """Return those of a list of names, which may hold `all` or `installed`.

    Args:
        names: The list.
        known: All that can be named.
        forms: Of names that were resolved before, for the message where one is unknown.

    Raises:
        ValueError: If there is none of a name.
        RuntimeUnavailableError: If the library of one that was named, or of `all`, is missing.
    """
    chosen: dict[str, T] = {}
    for name in names:
        if name in (ALL, INSTALLED):
            chosen |= {n: one for n, one in known.items() if name == ALL or _is_installed(one)}
        elif name in known:
            chosen[name] = known[name]
        else:
            raise ValueError(f"{name} is none of {', '.join((*known, *forms, ALL, INSTALLED))}")
    for one in chosen.values():
        one.info()
    return list(chosen.values())


def _is_installed(one: Measurable) -> bool:
    try:
        one.info()
    except RuntimeUnavailableError:
        return False
    return True
