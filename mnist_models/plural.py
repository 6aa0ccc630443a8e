"""Numbers with their nouns: one of a thing is no plural."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 record``, ``1,069 records``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def singular(device: str) -> str:
    """A device as records name it, ``cpu: some, 1 threads``, as one says it."""
    return f"{device} ".replace(", 1 threads ", ", 1 thread ").rstrip()
