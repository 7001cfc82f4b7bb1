"""New cells in the UMAP of a reference, through umap-learn's own ``transform``.

``scanpy.tl.ingest`` does the same, and fails with pynndescent 0.7.0 (in scanpy up to 1.11.5).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from scpln.cli._embedding import cluster_and_embed, draw_umap, require_cells
from scpln.cli._errors import CommandError
from scpln.cli._neighbors import N_NEIGHBORS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from scpln.data import Data

#: Of scanpy's UMAP, whose layouts are continued.
_MIN_DISTANCE = 0.5


def check_reference(reference: Data, path: Path, key: str, basis: str | None) -> None:
    """Refuse a reference without latent states, or without the embedding that was named."""
    require_cells(reference)
    if f"X_{key}" not in reference.obsm:
        msg = f"{path} has no obsm['X_{key}'] (--reference); pass what `scpln fit` wrote as it fitted the model, with the same --key-added"
        raise CommandError(msg)
    if basis is not None and _entry(reference, basis) is None:
        msg = f"{path} has no embedding {basis!r} (--basis); there are: {', '.join(reference.obsm)}"
        raise CommandError(msg)


def place(adata: Data, reference: Data, key: str, *, basis: str | None, seed: int) -> None:
    """Add ``obsm["X_{key}_umap"]``: the cells in the reference's embedding, which is made if there is none.

    Parameters
    ----------
    adata, reference
        New cells and those of the reference, both with latent states ``obsm["X_{key}"]``, of one model.
    key
        Name of the results.
    basis
        Embedding of the reference; by default that of the latent state, ``X_{key}_umap`` or ``X_umap``.
    seed
        Of the reference's embedding, if it is made.
    """
    from scpln.model.base import claim

    name = basis or next((name for name in (f"X_{key}_umap", "X_umap") if name in reference.obsm), None)
    if name is None:
        cluster_and_embed(reference, key, seed=seed)
    entry = _entry(reference, name or f"X_{key}_umap")
    assert entry is not None
    states = reference.obsm[f"X_{key}"]
    adata.obsm[f"X_{key}_umap"] = positions_in(reference.obsm[entry], states, adata.obsm[f"X_{key}"])
    claim(adata, key, [f"obsm['X_{key}_umap']"])


def positions_in(embedding: NDArray, states: NDArray, new_states: NDArray) -> NDArray[np.float32]:
    """Where new cells (m × 2) belong in the embedding (n × 2) of others, by their latent states (n × q and m × q).

    The others stay where they are.
    """
    import numpy as np
    from umap import UMAP

    placed = np.ascontiguousarray(np.asarray(embedding)[:, :2], dtype=np.float32)
    latent, new = (np.ascontiguousarray(each, dtype=np.float32) for each in (states, new_states))
    n = min(N_NEIGHBORS, len(latent) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a seed means one thread, which is what a seed is for
        layout = UMAP(n_neighbors=n, min_dist=_MIN_DISTANCE, init=placed, n_epochs=0, random_state=0).fit(latent)
        layout.embedding_ = placed  # fit() scales where it starts from
        layout.n_epochs = None  # as many as suit the number of new cells
        return np.asarray(layout.transform(new), dtype=np.float32)


def draw_both(adata: Data, reference: Data, key: str, path: Path, *, basis: str | None, colors: Sequence[str]) -> None:
    """Draw new cells in colours on the reference's cells, which are grey."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scanpy as sc

    columns = sc.get.obs_df(adata, keys=list(colors)) if colors else pd.DataFrame({"new": "new"}, index=adata.obs_names)
    grey = pd.DataFrame(index=reference.obs_names, columns=columns.columns)
    obs = pd.concat(
        [grey.astype({name: columns[name].dtype for name in columns if columns[name].dtype.kind == "f"}), columns]
    )
    for name in columns:
        obs[name] = (
            obs[name].astype(float) if pd.api.types.is_numeric_dtype(columns[name]) else obs[name].astype("category")
        )
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    entry = basis and _entry(reference, basis)
    where = entry or next(name for name in (f"X_{key}_umap", "X_umap") if name in reference.obsm)
    both = np.concatenate([np.asarray(reference.obsm[where])[:, :2], adata.obsm[f"X_{key}_umap"]])
    draw_umap(ad.AnnData(obs=obs, obsm={f"X_{key}_umap": both}), key, path, colors=list(columns))


def _entry(reference: Any, name: str) -> str | None:
    """Name of an embedding in ``obsm``, which may lack the ``X_``."""
    return next((each for each in (name, f"X_{name}") if each in reference.obsm), None)
