"""Settings of the whole package: seed, verbosity, threads and the style of progress bars."""

from __future__ import annotations

import logging
import operator
import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

Style = Literal["tqdm", "rich"]

_logger = logging.getLogger("scpln")


class Settings:
    """What holds for all models until it is said otherwise.

    Seed, threads and progress bars are those of ``scvi.settings``: what is set in one place holds in the other.

    Examples
    --------
    >>> import scpln
    >>> scpln.settings.verbosity = "warning"
    >>> scpln.settings
    Settings(seed=None, verbosity='warning', threads=None, progress_bar_style='tqdm')
    >>> with scpln.settings.override(seed=1, verbosity="error"):
    ...     scpln.settings.seed
    1
    >>> scpln.settings.seed
    >>> scpln.settings.verbosity = "info"
    """

    _NAMES = ("seed", "verbosity", "threads", "progress_bar_style")

    @property
    def seed(self) -> int | None:
        """Seed of everything that has no ``seed=`` of its own; None, the default, is a seed of 0.

        Models have random numbers of their own: the same seed gives the same results, whatever was drawn before, and
        leaves other random numbers as they are. Besides, setting it seeds those of Python, NumPy and torch, as
        ``scvi.settings.seed`` does, for scvi-tools' and scanpy's functions that draw from these.
        """
        return _scvi_setting("seed", None)

    @seed.setter
    def seed(self, seed: int | None) -> None:
        if seed is not None:
            seed = _integer("seed", seed)
            if not 0 <= seed < 2**32:
                msg = f"seed={seed}, but it must be from 0 to 2**32 - 1, or None."
                raise ValueError(msg)
        with quiet("lightning.fabric"):  # which says what the seed is
            _scvi_settings().seed = seed

    @property
    def verbosity(self) -> int:
        """Level from which on messages are shown, as a number; by default that of ``"info"``.

        It can be set by name: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``, and is the level of
        ``logging.getLogger("scpln")``. At ``"debug"``, training says how far it is. Messages go to standard error, or wherever `logging` has been told to write.
        """
        return _logger.getEffectiveLevel()

    @verbosity.setter
    def verbosity(self, level: int | str) -> None:
        _logger.setLevel(_level(level))

    @property
    def threads(self) -> int | None:
        """Threads of functions that have no ``n_threads=`` of their own; None, the default, lets them choose."""
        return _scvi_setting("num_threads", None)

    @threads.setter
    def threads(self, threads: int | None) -> None:
        if threads is None:
            # scvi-tools' setter takes numbers only, and has no way back to its own default.
            _scvi_settings()._num_threads = None
            return
        threads = _integer("threads", threads)
        if threads < 1:
            msg = f"threads={threads}, but it must be at least 1, or None."
            raise ValueError(msg)
        _scvi_settings().num_threads = threads

    @property
    def progress_bar_style(self) -> Style:
        """``"tqdm"``, the default, or ``"rich"``."""
        return _scvi_setting("progress_bar_style", "tqdm")

    @progress_bar_style.setter
    def progress_bar_style(self, style: Style) -> None:
        if style not in get_args(Style):
            msg = f"progress_bar_style={style!r} is not available; choose from {list(get_args(Style))}."
            raise ValueError(msg)
        _scvi_settings().progress_bar_style = style

    @contextmanager
    def override(self, **settings: Any) -> Iterator[None]:
        """Change settings for a ``with`` block only.

        Afterwards they are what they were before, and so are the random numbers that a seed has set, and torch's
        number of threads.
        """
        unknown = [name for name in settings if name not in self._NAMES]
        if unknown:
            msg = f"{unknown[0]!r} is not a setting; there are {list(self._NAMES)}."
            raise ValueError(msg)
        before = {name: getattr(self, name) for name in settings}
        level = _logger.level
        with _kept_by_torch(seed="seed" in settings, threads="threads" in settings):
            try:
                for name, value in settings.items():
                    setattr(self, name, value)
                yield
            finally:
                for name, value in before.items():
                    setattr(self, name, value)
                _logger.setLevel(level)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self._NAMES:
            msg = f"There is no setting {name!r}; there are {list(self._NAMES)}."
            raise AttributeError(msg)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        name = logging.getLevelName(self.verbosity)
        known = self.verbosity in logging.getLevelNamesMapping().values()
        values = {"seed": self.seed, "verbosity": name.lower() if known else self.verbosity}
        values |= {name: getattr(self, name) for name in self._NAMES[2:]}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


class Console(logging.Handler):
    """Writes to standard error, as long as nobody has said otherwise where messages go.

    With a handler of the root logger (`logging.basicConfig`), or another one of scpln's, it is silent, so that no
    message is seen twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)-8s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless another handler has it."""
        if logging.getLogger().handlers or any(each is not self for each in _logger.handlers):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 (as logging's own handlers do)
            self.handleError(record)


def show_messages() -> None:
    """Show scpln's messages from INFO on, unless its logger has been configured already."""
    if not any(isinstance(each, Console) for each in _logger.handlers):
        _logger.addHandler(Console())
    if _logger.level == logging.NOTSET:
        _logger.setLevel(logging.INFO)


def _scvi_settings() -> Any:
    """scvi-tools' settings; importing it takes seconds, which is why nothing here does before it has to."""
    import scvi

    return scvi.settings


def _scvi_setting(name: str, default: Any) -> Any:
    """A setting of scvi-tools, or its default as long as nobody has imported it."""
    return getattr(_scvi_settings(), name) if "scvi" in sys.modules else default


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        msg = f"{name}={value!r}, but it must be a whole number, or None."
        raise TypeError(msg)
    return operator.index(value)


def _level(level: int | str) -> int:
    """A level by its number or name.

    Examples
    --------
    >>> _level("warning"), _level(15)
    (30, 15)
    """
    names = logging.getLevelNamesMapping()
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    if isinstance(level, str) and level.upper() in names:
        return names[level.upper()]
    choices = ["debug", "info", "warning", "error", "critical"]
    msg = f"verbosity={level!r} is not a level; choose from {choices}, or a number, such as logging.INFO."
    raise ValueError(msg) if isinstance(level, str) else TypeError(msg)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep the logger of another package quiet, but for its warnings."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _kept_by_torch(*, seed: bool, threads: bool) -> Iterator[None]:
    """Put back random numbers, and torch's number of threads."""
    if not (seed or threads):
        yield
        return
    import numpy as np
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    ours, numpys, n_threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    with torch.random.fork_rng(devices=gpus, enabled=seed):
        try:
            yield
        finally:
            if seed:
                random.setstate(ours)
                np.random.set_state(numpys)  # noqa: NPY002
            if threads:
                torch.set_num_threads(n_threads)


settings = Settings()
