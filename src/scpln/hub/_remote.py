"""To the Hugging Face Hub, and from there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._directory import CARD, METADATA, load

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

    from scpln.model import ScplnModel

#: What belongs to a model; nothing else is downloaded, least of all pickles.
_FILES = ["model.json", "model*.safetensors", "adata*.h5ad", "mdata*.h5mu", CARD, METADATA]


def push(
    local_dir: str | os.PathLike, repo_id: str, *, token: str | None = None, private: bool = False, **options: Any
) -> str:
    """Upload a directory that `write` has made, to a repository that is made if necessary.

    Parameters
    ----------
    local_dir
        Directory.
    repo_id
        Name of the repository, ``"user/name"``.
    token
        Token of the Hub with the right to write; by default the one that ``hf auth login`` has stored.
    private
        Whether a new repository is private.
    **options
        Further arguments of ``huggingface_hub.HfApi.upload_folder``, such as ``commit_message`` and ``revision``.

    Returns
    -------
    Address of the repository.
    """
    if not (Path(local_dir) / CARD).is_file():
        msg = f"{str(local_dir)!r} has no {CARD}. Make it by scpln.hub.write(model, {str(local_dir)!r}, license=...)."
        raise ValueError(msg)
    api = _huggingface_hub().HfApi(token=token)
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(folder_path=local_dir, repo_id=repo_id, allow_patterns=_FILES, **options)
    return str(url)


def pull(
    repo_id: str,
    adata: AnnData | MuData | bool | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | None = None,
    **options: Any,
) -> ScplnModel:
    """Download a model, or take it from the cache, and load it. No code in it is run.

    Parameters
    ----------
    repo_id
        Name of the repository, ``"user/name"``.
    adata
        Annotated data with the model's genes; by default those shared with it. With data, or False, these are not
        downloaded.
    revision
        Branch, tag or commit; say which one for results that are to be repeated.
    cache_dir, token
        As `huggingface_hub` has them.
    **options
        Further arguments of the model's ``load``.
    """
    patterns = _FILES if adata is None else [name for name in _FILES if not name.endswith((".h5ad", ".h5mu"))]
    directory = _huggingface_hub().snapshot_download(
        repo_id, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=patterns
    )
    return load(directory, adata, **options)


def _huggingface_hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        msg = "Uploads and downloads need huggingface_hub, which is not installed: `pip install huggingface_hub`."
        raise ImportError(msg) from error
