"""New cells from the prior of codes, and the genes of a code."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from scpln.data import read_labels, setup_args
from scpln.utils import as_mapping, in_range, positive_integer, resolve_seed

from ._codes import Codes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from scpln.core import CountData

#: Cells that differences between codes are averaged over, at most.
_CELLS = 500
#: New cells that are drawn together.
_BLOCK = 1000


class Generation(Codes):
    """Models with codes that make new cells."""

    size_factors: bool

    @property
    @abstractmethod
    def _n_groups(self) -> int:
        """Groups that the prior of codes may be given."""

    def sample(
        self, n_samples: int = 1, *, given: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> ad.AnnData:
        """Draw new cells: codes from their prior, then counts.

        Size factors and covariates are those of training cells that are chosen at random, among those that have what is `given`. Unlike `prior_predictive_sample`, whose cells all
        have the average depth, new cells are then as different in depth as those that the model was trained on.

        Parameters
        ----------
        n_samples
            Cells.
        given
            Columns of ``obs`` and their values, such as ``{"batch": "a"}``: batches, covariates, or, with ``prior_given="labels"``, labels. What the prior of codes is given changes the codes;
            anything else, as a covariate of the decoder, counts only.
        seed
            Of the draws; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Annotated data: counts in ``X``, columns of ``obs`` that the model was set up with (labels only if codes depend on them), and codes in ``obsm["codes"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If no training cell has what is given, labels are given that codes do not depend on, or the model was loaded without its AnnData.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata, batch_key="batch")
        >>> model = scpln.model.CountVQVAE(adata, n_codes=2, codebook_size=4, prior_given="batch", n_hidden=16)
        >>> model.train(max_epochs=5, progress=False)
        >>> cells = model.sample(50, given={"batch": adata.obs["batch"].iloc[0]})
        >>> cells.shape, cells.obs["batch"].nunique()
        ((50, 30), 1)
        """
        self._require_trained()
        n, seed = positive_integer("n_samples", n_samples), resolve_seed(seed)
        wanted = {} if given is None else dict(as_mapping("given", given))
        chosen = self._like_cells(n, wanted, np.random.default_rng(seed))
        adata = self._data_or_own(None)
        rows = np.unique(chosen)
        data = self._read(adata, rows).data.subset(np.searchsorted(rows, chosen))
        groups = self._groups_to_draw(data, adata, chosen)
        generator = torch.Generator().manual_seed(seed)
        codes = copy.deepcopy(self.module.states.codes).cpu().sample(n, generator, groups)
        counts = self._draw(data, codes, seed)
        obs = adata.obs.iloc[chosen][self._columns()].reset_index(drop=True)
        obs.index = [f"sample_{i}" for i in range(n)]
        return ad.AnnData(
            sp.csr_matrix(counts) if self.is_count_data else counts,
            obs=obs,
            var=pd.DataFrame(index=self.genes),
            obsm={"codes": codes.numpy()},
        )

    def _like_cells(self, n: int, wanted: dict[str, Any], random: np.random.Generator) -> NDArray[np.intp]:
        """Training cells whose size factors and covariates new cells have."""
        obs, columns = self._data_or_own(None).obs, self._columns()
        has = np.ones(len(obs), dtype=bool)
        for name, value in wanted.items():
            if name not in columns and name == setup_args(self.registry)["labels_key"]:
                msg = f"given has labels {name!r}, but codes do not depend on labels. Train CountVQVAE(adata, prior_given='labels') for new cells of a label."
                raise ValueError(msg)
            if name not in columns:
                msg = f"given has {name!r}, but the model was set up with these columns of obs: {columns}."
                raise ValueError(msg)
            has &= (obs[name].astype(str) == str(value)).to_numpy()
        if not has.any():
            msg = f"given={wanted!r}, but no training cell is so. Give values that some of them have."
            raise ValueError(msg)
        return random.choice(np.flatnonzero(has), n)

    def _columns(self) -> list[str]:
        """Columns of ``obs`` that new cells have: those of set-up, labels only if codes depend on them."""
        args = setup_args(self.registry)
        keys = [args[name] for name in ("batch_key", "size_factor_key")]
        if self.options.prior_given == "labels":
            keys.append(args["labels_key"])
        for name in ("categorical_covariate_keys", "continuous_covariate_keys"):
            keys += args[name] or []
        known = self._data_or_own(None).obs.columns
        return list(dict.fromkeys(key for key in keys if key is not None and key in known))

    def _groups_to_draw(self, data: CountData, adata: ad.AnnData, chosen: NDArray[np.intp]) -> torch.Tensor | None:
        """Groups for the prior of codes of new cells that are like these; −1 where they are drawn, too."""
        groups = self._groups_of(data)
        if self.options.prior_given == "labels" and setup_args(self.registry)["labels_key"] in adata.obs:
            labels = read_labels(adata, self.registry)
            groups = None if labels is None else labels[0][chosen]
        return None if groups is None else torch.from_numpy(groups)

    def _draw(self, data: CountData, codes: torch.Tensor, seed: int) -> NDArray:
        """Counts of new cells with these codes, and the offsets and design of the data."""
        z = self.module.quantizer.lookup(codes.to(self.module.device)).cpu().numpy()
        parts = []
        for number, start in enumerate(range(0, len(z), _BLOCK)):
            some = slice(start, start + _BLOCK)
            batches = None if data.batches is None else data.batches[some]
            eta, deviations = self.module.decode(z[some], data.design[some], batches)
            stream = int(np.random.SeedSequence([seed, 1, number]).generate_state(1)[0])
            eta = eta + torch.as_tensor(data.gene_offsets(some))
            parts.append(self.module.draw(eta, stream, deviations=deviations))
        return np.concatenate(parts)

    def get_code_genes(self, position: int = 0, *, n_cells: int = _CELLS, seed: int | None = None) -> pd.DataFrame:
        r"""How log-rates of genes change with the codes of a position.

        .. math::
            \delta_{jk} = \frac1n \sum_i \Bigl[\eta_{ij}(k) - \sum_l \pi_l \, \eta_{ij}(l)\Bigr]

        with the log-rate :math:`\eta_{ij}(k)` of training cell i if it had code k at this position, and its own at the others, and the share π of cells that have a code.

        Parameters
        ----------
        position
            From 0.
        n_cells
            Training cells that are averaged over, chosen at random, if there are more.
        seed
            Of this choice; by default ``scvi.settings.seed``, or 0.

        Returns
        -------
        Genes × codes: differences of log-rates, in natural logarithms. Those of codes that no cell has mean nothing, and are NaN.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such position, or the model was loaded without its AnnData.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=100, n_vars=30, n_latent=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.CountVQVAE(adata, n_codes=1, codebook_size=4, n_hidden=16)
        >>> model.train(max_epochs=5, progress=False)
        >>> genes = model.get_code_genes()
        >>> genes.shape, genes[0].nlargest(3).index.to_list()  # genes by which cells with code 0 differ
        ((30, 4), [...])
        """
        self._require_trained()
        n, seed = positive_integer("n_cells", n_cells), resolve_seed(seed)
        last = self.options.n_codes - 1
        if int(in_range("position", position, 0, last)) != position:
            msg = f"position={position!r}, but it must be a whole number from 0 to {last}."
            raise ValueError(msg)
        data, codes = self._data_and_codes(None, None)
        size, m = self.options.codebook_size, int(position)
        counts = np.bincount(codes[:, m], minlength=size)
        some = np.random.default_rng(seed).choice(len(codes), min(n, len(codes)), replace=False)
        batches = None if data.batches is None else data.batches[some]
        means = np.empty((len(self.genes), size))
        for code in range(size):
            changed = torch.from_numpy(codes[some])
            changed[:, m] = code
            z = self.module.quantizer.lookup(changed.to(self.module.device)).cpu().numpy()
            means[:, code] = self.module.decode(z, data.design[some], batches)[0].mean(0).numpy()
        means -= (means @ (counts / counts.sum()))[:, None]
        means[:, counts == 0] = np.nan
        return pd.DataFrame(means, index=self.genes, columns=pd.RangeIndex(size, name="code"))
