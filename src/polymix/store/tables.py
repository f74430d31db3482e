"""The ledger's tables: one row a trial, its columns what people ask for."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

FORMAT = 1
"""The tables' version; a ledger of a newer one is not touched."""

PART = 256 << 20
"""Bytes that a part of a blob may have."""

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

# SQLite holds neither NaN nor -0.0 in a column of reals, so `exact` has those columns' numbers
# to the bit. A trial without a score is told by its `best_epoch`, which is then NULL.
trials = Table(
    "trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("origin", String, nullable=False),
    Column("role", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("kind", String, nullable=False, index=True),
    Column("genotype", Text, nullable=False),
    Column("genotype_digest", String, nullable=False, index=True),
    Column("stage", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("epochs", BigInteger, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("sampler", String(20), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("init", Text, nullable=False),
    Column("keep", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("score", Double),
    Column("loss", Double),
    Column("best_epoch", BigInteger),
    Column("unimodal", Text, nullable=False),
    Column("curve", Text, nullable=False),
    Column("params", BigInteger, nullable=False),
    Column("flops", BigInteger, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("cpu_s", Double),
    Column("wall_s", Double),
    Column("exact", Text, nullable=False),
    Column("error", Text),
    Column("weights", String),
    Column("predictions", String),
)

# Named by their content's digest, by `checkpoint:NAME`, or by `traceback:KEY` (beside the trials
# and not among their columns, so that older ledgers open as they are); in parts, since SQLite and
# PostgreSQL take at most a gigabyte a value.
blobs = Table(
    "blobs",
    metadata,
    Column("name", String, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("created_at", String, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("meta", Text, nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("name", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("numbers", Text, nullable=False),
)

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seconds", Double, nullable=False),
)
