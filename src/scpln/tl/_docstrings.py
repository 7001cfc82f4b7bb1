"""Passages that the docstrings of one-call functions share, and the decorator that puts them in.

A line of a docstring that is nothing but ``{name}`` stands for the passage of that name, so that the source says each once and
``help`` shows them all.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, TypeVar

from scpln._catalogue import of_function

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Function = TypeVar("Function", bound=Callable[..., Any])

_PLACE = re.compile(r"^( *)\{(\w+)\}$", re.MULTILINE)

PASSAGES = {
    "steps": """\
The same as :func:`scpln.model.setup_anndata`, :class:`scpln.model.CLASS`, its ``train`` and its ``annotate``; use
those to keep the fitted model, for instance to save it or to place new cells.""",
    "adata": """\
adata
    Cells by genes, with raw counts (or other values, see `is_count_data`) in `layer`.""",
    "n_latent": """\
n_latent
    Latent dimensions q.""",
    "registration": """\
layer
    Layer that holds the counts or other values; by default ``adata.X`` does.
batch_key
    Column of ``obs`` with each cell's batch, whose effect on every gene is taken out of the latent state.
size_factor_key
    Column of ``obs`` with size factors on the natural scale, for instance total counts over all genes where `adata`
    holds some of them only. By default, the totals of the counts given, and none for values that are not counts.
offset_key, mask_key
    Layers, or entries of ``obsm``, with an offset of every entry (logarithms), in place of size factors or beside those that
    are named; and of which entries were observed.
design
    Formula of columns of ``obs``, such as ``"~ condition * age"``, in place of covariate keys: see
    :func:`scpln.model.setup_anndata`.
categorical_covariate_keys, continuous_covariate_keys
    Further columns of ``obs`` whose effects are taken out.""",
    "networks": """\
n_hidden, n_layers
    Width and number of the hidden layers of encoder and decoder. 0 layers make the decoder linear.
likelihood
    Distribution of the counts: ``"nb"``, ``"poisson"``, ``"zip"``, ``"zinb"``, ``"poisson_lognormal"`` or ``"bernoulli"``; or
    ``"gaussian"``, for other values.
k_max
    Give counts below `k_max` probabilities of their own: a piecewise-categorical likelihood.
dispersion
    Whether parameters of the likelihood besides the rate are those of a gene (``"gene"``), of a gene in a batch
    (``"gene-batch"``), or of a gene in a cell (``"gene-cell"``).
scale_activation
    Whether each gene has a rate of its own (``"exp"``), or rates are shares of the size factor's total
    (``"softmax"``).""",
    "posterior": """\
posterior
    Family of each cell's posterior: a Gaussian with any covariance (``"fullrank"``) or a diagonal one
    (``"meanfield"``), or a normalizing flow on top of the former (``"flow"``).
flow
    Kind of flow, for ``posterior="flow"``; by default ``"sylvester"``.""",
    "size_factors": """\
size_factors
    Whether the model is given the size factors, or has to explain them. Bounds with and without cannot be compared.""",
    "is_count_data": """\
is_count_data
    Whether `layer` holds raw counts; False for real values such as log-normalised expression, with
    ``likelihood="gaussian"``.""",
    "round_counts": """\
round_counts
    Whether to round the values to the nearest whole numbers, for estimated counts (salmon, kallisto, SoupX, CellBender).""",
    "output": """\
key_added
    Name under which results are stored; by default ``"KEY"``.
diagnostics
    Whether to write how close each cell's posterior is to the exact one, too, which may take longer than training.
copy
    Leave `adata` alone and return an annotated copy.""",
    "more": """\
**more
    Further arguments of :class:`scpln.model.CLASS`, and of its ``train``, each given to the one that has it:""",
    "loadings": """\
``varm["{key_added}_loadings"]``, ``varm["{key_added}_expression_loadings"]``
    Loadings (p × q), with ``n_layers=0``; the same on the scale of expression, by which figures rank genes.""",
    "annotated": "None, or the annotated copy. Either is annotated with",
    "elbo": """\
``obs["{key_added}_elbo"]``
    Each cell's contribution to the bound, nats.
``obs["{key_added}_iw_bound"]``, ``…_gap``, ``…_ess``, ``…_pareto_k``
    How close its posterior is to the exact one, with `diagnostics`: see
    :meth:`scpln.model.CLASS.get_posterior_diagnostics`.
``var["{key_added}_inverse_dispersion"]``, ``var["{key_added}_zero_inflation"]``
    Parameters that the likelihood has by gene.
``uns["{key_added}"]``
    What was fitted and how: parameters, bound per cell, history, keys used.""",
}
"""By name; ``CLASS`` and ``KEY`` stand for those of the model."""


def documented(function: Function) -> Function:
    """Put the passages into the docstring of a function of a model.

    Examples
    --------
    >>> def count_vae(adata, n_latent=10):
    ...     '''Fit.
    ...
    ...     {n_latent}
    ...         At least 1.
    ...     '''
    >>> print(documented(count_vae).__doc__)
    Fit.
    <BLANKLINE>
    n_latent
        Latent dimensions q.
        At least 1.
    <BLANKLINE>
    """
    if function.__doc__ is None:  # python -OO leaves docstrings out
        return function
    entry = of_function(function.__name__)

    def passage(match: re.Match[str]) -> str:
        text = PASSAGES[match[2]].replace("CLASS", entry.class_name).replace("KEY", entry.key)
        return textwrap.indent(text, match[1])

    function.__doc__ = _PLACE.sub(passage, inspect.cleandoc(function.__doc__) + "\n")
    return function
