"""What MLX says when there is no more memory, as the error that every backend's user can catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# an allocator refuses ("[metal::malloc] ...", "[malloc] Unable to allocate ..."), or the GPU does
SAID = ("malloc]", "Insufficient Memory", "out of memory")


@contextmanager
def within_memory() -> Iterator[None]:
    """Raise MemoryError for MLX's own errors of that kind."""
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in SAID):
            raise MemoryError(f"mlx: {str(error).splitlines()[0]}") from error
        raise
