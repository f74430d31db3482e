"""A run's configuration: everything resolved, defaults included; `config.yaml` in its folder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polymix.errors import RunFolderError, describe
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


class RunConfig(BaseModel):
    """Everything that decides a run.

    Attributes:
        source: the rows.
        strategy: its name.
        options: its options, defaults included.
        metric: what is maximised.
        time_limit: seconds.
        trials: how many.
        seed: of everything.
        compare: how much random search gets.
        device: where models run.
        jobs: how many processes train.
        threads: of each.
        reuse: run folders whose trials may be taken over.
        ledger: a database's URL, in place of the folder's own ledger.
        ensemble: whether a weighted mean of what was trained is a finalist too.
        folds: into how many folds a table's rows are cut; by their number where not given, 0 for
            validation rows in their place.
        refit: whether what was chosen out of fold ships fitted on every row, sealed ones too.
        imports: modules whose parts it may use; opening the folder never imports them.
        class_weights: whether the loss weighs classes by how rare they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceConfig
    strategy: str
    options: dict[str, Any]
    metric: str
    time_limit: float | None = Field(default=None, gt=0)
    trials: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    compare: Literal["fifth", "full"] = "fifth"
    device: str = "cpu"
    jobs: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    reuse: tuple[str, ...] = ()
    ledger: str | None = None
    ensemble: bool = False
    folds: int | None = Field(default=None, ge=0, le=20)
    refit: bool = True
    class_weights: Literal["balanced"] | None = None
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
