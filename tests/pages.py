"""How many pages a process has the system map: for workers, so nothing here imports torch."""

from __future__ import annotations

ROUNDS = 20
BLOCKS = 16  # at once: glibc learns to keep what a program frees, but never more than 64 MiB
SIZE = 8 << 20  # bytes of a block
EVERY = ROUNDS * BLOCKS * SIZE // 4096  # pages, if each is mapped anew in every round


def mapped_anew() -> int:
    """Pages mapped while blocks are made and freed in turn, again and again."""
    import resource  # noqa: PLC0415 - Windows has none

    def once() -> None:
        blocks = [bytearray(SIZE) for _ in range(BLOCKS)]
        del blocks

    once()  # the first time they are new in any case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        once()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
