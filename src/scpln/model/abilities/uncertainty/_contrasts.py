"""Contrasts of coefficients, as a user names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scpln.data import Design

#: Singular values of contrasts below this share of the largest say that one follows from others.
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Contrasts:
    """Linear combinations of a gene's coefficients.

    Parameters
    ----------
    names
        Of each.
    matrix
        L (r, d), of full row rank.
    """

    names: list[str]
    matrix: np.ndarray

    @classmethod
    def of(cls, contrast: Any, covariates: list[str], design: Design) -> Contrasts:
        """From a name of a coefficient or of a registered key, a mapping of names to weights, a vector, or a list of these.

        Raises
        ------
        ValueError
            If there is no such coefficient, a vector has another length, or one contrast follows from the others.

        Examples
        --------
        >>> import pandas as pd
        >>> from scpln.data import Design
        >>> design = Design.learn(pd.DataFrame({"batch": ["a", "b", "c"]}), batch_key="batch")
        >>> Contrasts.of({"batch[T.b]": 1, "batch[T.c]": -1}, design.names, design).matrix
        array([[ 0.,  1., -1.]])
        >>> Contrasts.of("batch", design.names, design).names
        ['batch[T.b]', 'batch[T.c]']
        """
        array = None if isinstance(contrast, str | Mapping) else _as_array(contrast)
        given = (
            [contrast]
            if isinstance(contrast, str | Mapping) or (array is not None and array.ndim == 1)
            else list(contrast)
        )
        rows: list[tuple[str, np.ndarray]] = []
        for one in given:
            rows.extend(_rows(one, covariates, design))
        if not rows:
            msg = f"contrast={contrast!r} names no coefficient. Pass one of {covariates}."
            raise ValueError(msg)
        matrix = np.stack([row for _, row in rows])
        values = np.linalg.svd(
            matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-300), compute_uv=False
        )
        if (
            not np.isfinite(matrix).all()
            or values[-1] <= LEAST_SHARE * max(values[0], 1e-300)
            or len(rows) > len(covariates)
        ):
            msg = f"contrast={contrast!r} has a part that is 0 or follows from the others. Leave it out."
            raise ValueError(msg)
        return cls([name for name, _ in rows], matrix)


def _as_array(contrast: Any) -> np.ndarray | None:
    """Numbers, if it is made of them."""
    try:
        return np.asarray(contrast, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _rows(one: Any, covariates: list[str], design: Design) -> list[tuple[str, np.ndarray]]:
    """Names and vectors of what was given as one contrast: those of all levels, of a key."""
    if isinstance(one, str):
        if one in covariates:
            return [(one, _unit(one, covariates))]
        if one in design.factors:
            names = [covariates[column] for column in design.columns_of([one])]
            if not names:
                msg = f"contrast={one!r} has one level only, which there is no coefficient of. Name another."
                raise ValueError(msg)
            return [(name, _unit(name, covariates)) for name in names]
    if isinstance(one, Mapping):
        row = sum(float(weight) * _unit(name, covariates) for name, weight in one.items())
        name = " ".join(f"{float(weight):+g} {name}" for name, weight in one.items())
        return [(name, np.broadcast_to(np.asarray(row, np.float64), (len(covariates),)).copy())]
    array = None if isinstance(one, str) else _as_array(one)
    if array is None:
        msg = f"contrast={one!r} is no coefficient of this model, which has {covariates}."
        raise ValueError(msg)
    if array.shape != (len(covariates),):
        msg = f"contrast has shape {array.shape}, but there are {len(covariates)} coefficients of a gene, {covariates}."
        raise ValueError(msg)
    name = " ".join(f"{weight:+g} {covariate}" for weight, covariate in zip(array, covariates, strict=True) if weight)
    return [(name, array)]


def _unit(name: Any, covariates: list[str]) -> np.ndarray:
    if name not in covariates:
        msg = f"contrast={name!r} is no coefficient of this model, which has {covariates}."
        raise ValueError(msg)
    return np.eye(len(covariates))[covariates.index(name)]
