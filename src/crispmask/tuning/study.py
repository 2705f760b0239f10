"""The measured points: an Optuna study in an SQLite file, which stays readable after a kill at any moment.

Optuna's JournalStorage does not: after a kill in the middle of a write, the next record is appended to the incomplete
line, and the file can no longer be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from crispmask.errors import DataError, MissingExtraError
from crispmask.files import refuse_other_settings
from crispmask.tuning.space import Choice, Range, Space, Values, legal_choices
from crispmask.tuning.task import Scores

Method = Literal["grid", "tpe"]

_NAME = "crispmask"
_NOT_WRITTEN = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@dataclass(frozen=True)
class Trial:
    """A point that was measured."""

    values: Values
    scores: Scores


class Study:
    """Measured points, each kept on disk as soon as it is known; a context manager that closes the file.

    Args:
        path: the SQLite file, created where needed.
        method: how points are chosen.
        settings: what decides the scores, JSON-like; only a study with the same settings is continued.
        restart: drop a study that is there.

    Attributes:
        trials: the points in the order of their measurement.
        references: scores by name of what the points are compared with.

    Raises:
        MissingExtraError: Optuna is not installed.
        ParamsError: a study of other settings, with what differs.
        DataError: a file that is no such study or is damaged.
    """

    def __init__(self, path: str | Path, method: Method, settings: Mapping[str, Any], restart: bool = False) -> None:
        self.path, self.method = Path(path), method
        settings = {"method": method, **settings}
        if restart:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            import optuna
            from sqlalchemy.exc import SQLAlchemyError
        except ModuleNotFoundError:
            raise MissingExtraError("optuna", "tune") from None
        self._optuna = optuna
        try:
            self._storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": self._connect})
            self._study = optuna.create_study(
                storage=self._storage, study_name=_NAME, direction="maximize", load_if_exists=True
            )
            known = self._study.user_attrs
            self.references = {name: _scores(found) for name, found in known.get("references", {}).items()}
            self.trials = [Trial(t.params, _scores(t.user_attrs["scores"])) for t in self._complete()]
        except (
            SQLAlchemyError,
            sqlite3.Error,
            optuna.exceptions.OptunaError,
            RuntimeError,
            KeyError,
            ValueError,
            TypeError,
        ) as error:
            self._refuse_full_disk(error)
            raise DataError(
                f"{self.path} is not a study of crispmask, or is damaged: choose another folder, or begin anew with "
                "--restart"
            ) from None
        if "settings" in known:
            refuse_other_settings(self.path.parent, known["settings"], settings)
        else:
            with self._writing():
                self._study.set_user_attr("settings", dict(settings))
        for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # a killed run was at it

    def _connect(self) -> sqlite3.Connection:
        """With a write-ahead log, which is complete after a kill and does not wait for the disk at every commit."""
        connection = sqlite3.connect(self.path, timeout=60)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around what writes the file."""
        try:
            yield
        except Exception as error:
            self._refuse_full_disk(error)
            raise

    def _refuse_full_disk(self, error: BaseException | None) -> None:
        """Raise DataError where SQLite could not write, which Optuna and SQLAlchemy wrap in errors of their own."""
        while error is not None:
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_WRITTEN:
                raise DataError(
                    f"cannot write {self.path}: {error}: make room, or choose another folder; the points that were "
                    "measured are kept, and the same command goes on"
                ) from None
            error = error.__cause__ or error.__context__

    def _complete(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,))

    def close(self) -> None:
        """Close the file, so that no temporary files stay beside it."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def refer(self, references: Mapping[str, Scores]) -> None:
        """Keep scores that the points are compared with."""
        self.references = dict(references)
        with self._writing():
            self._study.set_user_attr("references", {name: asdict(scores) for name, scores in references.items()})

    def add(self, values: Values, scores: Scores, space: Space) -> None:
        """Keep a point that was measured."""
        distributions = {name: self._distribution(name, space[name]) for name in values}
        with self._writing():
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    params=values, distributions=distributions, value=scores.all, user_attrs={"scores": asdict(scores)}
                )
            )
        self.trials.append(Trial(values, scores))

    def propose(self, space: Space, seed: int) -> tuple[Any, Values]:
        """A point to measure next, by the tree-structured Parzen estimator, and its handle for `tell`."""
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        with self._writing():
            trial = self._study.ask({name: self._distribution(name, part) for name, part in space.items()})
        return trial, dict(trial.params)

    def tell(self, handle: Any, values: Values, scores: Scores) -> None:
        """Keep the scores of a proposed point."""
        with self._writing():
            handle.set_user_attr("scores", asdict(scores))
            self._study.tell(handle, scores.all)
        self.trials.append(Trial(values, scores))

    def _distribution(self, name: str, part: Choice | Range) -> Any:
        """Of a search, what it draws from; of a grid, one that also holds the values of a grid that grows later."""
        made = self._optuna.distributions
        if isinstance(part, Choice):
            legal = legal_choices(name)
            if self.method == "tpe" or legal:
                return made.CategoricalDistribution(part.values if self.method == "tpe" else legal)
            part = Range(min(part.values), max(part.values))
        kind = made.IntDistribution if isinstance(part.low, int) else made.FloatDistribution
        return kind(part.low, part.high, log=part.log)


def _scores(found: Mapping[str, Any]) -> Scores:
    return Scores(float(found["all"]), tuple(map(float, found["fitted"])), tuple(map(float, found["held_out"])))
