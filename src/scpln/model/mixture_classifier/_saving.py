"""A fitted mixture classifier on disk, as models are: safetensors and JSON, nothing pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scpln.model.base.saving import read_model, write_model

from ._fitted import Fitted

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

#: What ``class`` of ``model.json`` says.
CLASS = "MixtureClassifier"


def write(
    dir_path: str | os.PathLike,
    params: dict[str, Any],
    fitted: Fitted,
    attributes: dict[str, Any],
    *,
    overwrite: bool,
    version: str,
) -> None:
    """Save arguments, what was fitted, and other attributes: arrays of numbers, and plain values."""
    plain, arrays = fitted.state()
    numbers = {name: value for name, value in attributes.items() if isinstance(value, np.ndarray)}
    metadata = {
        "class": CLASS,
        "scpln_version": version,
        "init_params": params,
        "fitted": plain,
        "results": {name: value for name, value in attributes.items() if name not in numbers},
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= {f"result_{name}": torch.from_numpy(np.array(value)) for name, value in numbers.items()}
    metadata["not_finite"] = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    write_model(dir_path, None, metadata=metadata, tensors=tensors, overwrite=overwrite)


def read(dir_path: str | os.PathLike) -> tuple[dict[str, Any], Fitted, dict[str, Any]]:
    """Arguments, what was fitted, and other attributes."""
    saved = read_model(dir_path, check=_check)
    arrays = {name: tensor.numpy() for name, tensor in saved.tensors.items()}
    numbers = {name.removeprefix("result_"): array for name, array in arrays.items() if name.startswith("result_")}
    with saved.described():
        fitted = Fitted.of_state(
            saved.metadata["fitted"], {name: each for name, each in arrays.items() if not name.startswith("result_")}
        )
        return saved.metadata["init_params"], fitted, {**saved.metadata["results"], **numbers}


def _check(path: Path, metadata: dict[str, Any], tensors: Mapping[str, torch.Tensor] | None) -> None:
    """Refuse what is no saved mixture classifier."""
    if metadata.get("class") != CLASS:
        msg = f"{str(path)!r} holds a {metadata.get('class')!r}, not a {CLASS}. Load it with scpln.model.{metadata.get('class')}.load."
        raise ValueError(msg)
