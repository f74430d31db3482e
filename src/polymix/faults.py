"""What the system refuses: memory, or room on a disk. It is no fault of what was being done."""

from __future__ import annotations

import errno

NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "bad_alloc",
    "bad allocation",
    "can't start new thread",
)
"""What libraries say, in errors of their own kinds, where the system gives them no memory."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})

LESS_MEMORY = "a smaller preset, a smaller batch_size or fewer --rows need less"
"""The cure where memory is short."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, to Python, NumPy, PyTorch or a library of trees.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    >>> is_out_of_memory(ValueError("a memory of childhood"))
    False
    """
    # PyTorch has its own class for accelerators; by name, as not everyone here knows PyTorch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    return any(words in said for words in NO_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk took no more: it is full, beyond its quota, read-only or broken.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    return isinstance(error, OSError) and error.errno in NO_ROOM
