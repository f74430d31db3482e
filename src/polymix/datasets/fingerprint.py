"""What stands for raw files: their bytes, not their place or date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from polymix.errors import DataError


def fingerprint_files(files: Iterable[tuple[str, Path]]) -> str:
    """Sixteen hex digits from every file's role and content.

    Content rather than size and date: a copied or touched folder is not built again, and a
    file that was replaced by one of the same size is.

    Args:
        files: each file's role (a name that does not depend on where the folder lies) and path.

    Raises:
        DataError: files cannot be read; all of them are listed.
    """
    whole, problems = hashlib.sha256(), []
    for role, path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        whole.update(f"{len(role)}:{role}".encode() + content)
    if problems:
        raise DataError(problems)
    return whole.hexdigest()[:16]
