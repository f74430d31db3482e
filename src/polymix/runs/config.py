"""A run's configuration: everything resolved, defaults included; `config.yaml` in its folder."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from polymix.errors import RunFolderError, describe
from polymix.runs.options import SharedOptions
from polymix.store.run_folder import RunFolder


class SourceConfig(BaseModel):
    """Where the rows come from.

    Attributes:
        name: a dataset's name; one given as an object has no name that can be opened again.
        raw: folder of its raw files.
        options: of a dataset opened by name.
        rows: training rows used; all where not given.
        table: where a table lies (`path`, none for a frame), and how it is read (`options`).
        reopen: whether `name`, `raw` and `options` are enough to open it again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    raw: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    rows: int | None = Field(default=None, ge=1)
    table: dict[str, Any] | None = None
    reopen: bool = True

    @field_validator("table")
    @classmethod
    def _of_a_table(cls, told: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in ("path", "tuning", "test"):
            place = (told or {}).get(name)
            if not (place is None or (isinstance(place, str) and "\0" not in place)):
                raise ValueError(f"{name} is a path")
        if not isinstance((told or {}).get("options", {}), dict):
            raise ValueError("options are options")
        return told


class RunConfig(SharedOptions):
    """Everything that decides a run: what was asked, and what was found where nothing was.

    Attributes:
        source: the rows.
        strategy: its name.
        options: its options, defaults included.
        metric: what is maximised.
        device: where models run.
        threads: of each process that trains.
        reuse: run folders whose trials may be taken over.
        imports: modules whose parts it may use; opening the folder never imports them.
    """

    source: SourceConfig
    strategy: str
    options: dict[str, Any]
    metric: str
    device: str = "cpu"
    threads: int = Field(default=1, ge=1, le=1024)
    reuse: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: RunFolder) -> RunConfig:
        """A run folder's.

        Raises:
            RunFolderError: it is not a configuration; every problem is listed.
        """
        return cls.parse(dict(folder.config), str(folder.path / "config.yaml"))

    @classmethod
    def parse(cls, fields: dict[str, Any], where: str) -> RunConfig:
        """Read one.

        Raises:
            RunFolderError: it is not a configuration; every problem is listed.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise RunFolderError(
                [f"{where}: {describe(dict(p))}" for p in error.errors()]
            ) from None
