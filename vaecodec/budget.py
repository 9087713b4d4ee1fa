"""What a file's segments are to take together, so that it ends at a size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Allowance(NamedTuple):
    """What something is to take, in bits: at least, and at most."""

    least: float
    most: float

    def without(self, bits: float) -> Allowance:
        """Return what is left when a part is spent."""
        return Allowance(self.least - bits, self.most - bits)


class Budget:
    """Divides the bytes of a file among its segments, one after the other.

    What one of them takes too much or too little is divided among those that follow.

    Attributes:
        spent_bytes: of each segment that is done.
    """

    def __init__(self, least_bytes: float, most_bytes: float, shares: Mapping[int, float]) -> None:
        """Set up a budget.

        Args:
            least_bytes: what all payloads are to take, at least.
            most_bytes: and at most.
            shares: of each segment, by number, in any unit; such as what it took in another
                encoding. Segments without one keep to nothing.
        """
        self._left = Allowance(8 * least_bytes, 8 * most_bytes)
        self._shares = dict(shares)
        self.spent_bytes: dict[int, int] = {}

    def allow(self, segment: int) -> Allowance | None:
        """Return what the payload of a segment is to take; None is anything."""
        if segment not in self._shares:
            return None
        share = self._shares[segment] / sum(self._shares.values())
        return Allowance(share * self._left.least, share * self._left.most)

    def spend(self, segment: int, payload: bytes) -> None:
        """Take note of a segment's payload."""
        self.spent_bytes[segment] = len(payload)
        self._left = self._left.without(8 * len(payload))
        self._shares.pop(segment, None)
