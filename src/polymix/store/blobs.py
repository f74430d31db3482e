"""What the ledger keeps beside its rows: tensors, arrays and states, as bytes in parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sqlalchemy import Connection, delete, insert, select

from polymix.errors import LedgerError
from polymix.store import weights as codec
from polymix.store.tables import PART, blobs, checkpoints


def write_blob(connection: Connection, name: str, data: bytes) -> None:
    """Keep bytes under a name that is not there yet."""
    parts = [
        {"name": name, "part": part, "data": data[start : start + PART]}
        for part, start in enumerate(range(0, len(data), PART))
    ]
    connection.execute(insert(blobs), parts)


def has_blob(connection: Connection, name: str) -> bool:
    """Whether bytes are kept under the name."""
    asked = select(blobs.c.part).where(blobs.c.name == name).limit(1)
    return connection.execute(asked).first() is not None


def read_blob(connection: Connection, name: str) -> bytes | None:
    """The bytes kept under the name, if any."""
    asked = select(blobs.c.data).where(blobs.c.name == name).order_by(blobs.c.part)
    parts = [bytes(part) for part in connection.execute(asked).scalars()]
    return b"".join(parts) if parts else None


def drop_blob(connection: Connection, name: str) -> None:
    """Forget the bytes kept under the name."""
    connection.execute(delete(blobs).where(blobs.c.name == name))


def write_checkpoint(connection: Connection, name: str, data: bytes, meta: str) -> None:
    """Keep a state's bytes under a name, in place of those that were there."""
    drop_checkpoint(connection, name)
    write_blob(connection, blob_of(name), data)
    row = {"name": name, "digest": codec.digest(data), "meta": meta}
    connection.execute(insert(checkpoints), row)


def drop_checkpoint(connection: Connection, name: str) -> None:
    """Forget the state kept under a name, if any."""
    connection.execute(delete(checkpoints).where(checkpoints.c.name == name))
    drop_blob(connection, blob_of(name))


def blob_of(name: str) -> str:
    """The name of a checkpoint's bytes."""
    return f"checkpoint:{name}"


def traceback_of(key: str) -> str:
    """The name of a failed trial's traceback."""
    return f"traceback:{key}"


def keep(kept: dict[str, bytes], data: bytes) -> str:
    """Put bytes among those to be kept; their name."""
    name = codec.digest(data)
    kept[name] = data
    return name


def read_kept(connection: Connection, name: str, digest: str | None = None) -> bytes:
    """Bytes that are kept, their digest checked."""
    data = read_blob(connection, name)
    if data is None:
        raise LedgerError(f"the ledger holds no weights or outputs named '{name}'")
    if codec.digest(data) != (digest or name):
        raise LedgerError(f"the ledger's '{name}' is damaged: it is not what was written")
    return data


def read_array(connection: Connection, name: str | None) -> np.ndarray | None:
    """The array kept under a name, if there is one."""
    if name is None:
        return None
    try:
        return codec.unpack_array(read_kept(connection, name))
    except ValueError as error:
        raise LedgerError(f"the ledger's outputs '{name}' cannot be read: {error}") from None


def to_tensors(data: bytes, name: str) -> dict[str, torch.Tensor]:
    """Tensors from bytes that were kept under a name."""
    try:
        return codec.unpack(data)
    except ValueError as error:
        raise LedgerError(f"the ledger's '{name}' cannot be read: {error}") from None


def packed(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Tensors as bytes to keep."""
    try:
        return codec.pack(tensors)
    except ValueError as error:
        raise LedgerError(f"the ledger cannot keep this: {error}") from None


def packed_array(array: np.ndarray) -> bytes:
    """An array as bytes to keep."""
    try:
        return codec.pack_array(array)
    except ValueError as error:
        raise LedgerError(f"the ledger cannot keep this: {error}") from None
