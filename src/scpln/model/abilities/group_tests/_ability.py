"""Differential expression of groups: tests of their means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scpln.data import has_entries, is_joint, validated_once
from scpln.inference.comparison import FEWEST_FOR_SHIFT
from scpln.model.abilities._latent import LatentModel
from scpln.utils import as_bool

from ._plan import Plan
from ._tests import GroupTest

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray


class GroupTests(LatentModel):
    """Models whose data can be tested for differences between groups."""

    def test_groups(
        self,
        adata: AnnData | None = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: Any = None,
        *,
        within: str | None = None,
        sample_key: str | None = None,
        covariate_keys: Any = None,
        adjust_for_state: bool = False,
        composition: bool = True,
        min_cells: int = 3,
    ) -> pd.DataFrame:
        r"""Test, gene by gene, whether groups have the same mean expression on the log scale.

        .. math:: E\,y_{ij} = \exp(o_i + a_j + b_j g_i + x_i \cdot c_j), \quad
            \mathrm{Var}\,y_{ij} = \phi_{js} (\mu_{ij} + \alpha_j \mu_{ij}^2), \quad H_0: b_j = 0

        with the model's size factors o and registered batches and covariates x; g says which group. Dispersions α are
        those of genes of about the same mean, the scales φ are a gene's own on each side of the comparison, moderated by all
        genes, and the signed root of the likelihood ratio is referred to Student's t distribution. Real values are
        compared by least squares with moderated variances. The p values hold if cells (or, with `sample_key`, samples) are
        independent, whatever the distribution of counts. The fitted model brings the size factors, the design and the
        latent states: without the latter, :func:`scpln.tl.rank_genes` says the same without a model.

        Parameters
        ----------
        adata
            As in `get_posterior`.
        groupby
            Column of ``adata.obs`` with the groups, of any type. If it is registered as a batch or covariate, it is not held.
        group1, group2
            Group, or several to compare one after another, by default all others, up to 100; and the group, or several
            taken together, to compare with, by default all other cells, those without a group among them.
        within
            Column of clusters: groups are compared within each, as conditions within cell types are.
        sample_key
            Column of samples, such as donors: counts are summed over the cells of a sample in a group, and it is these sums
            whose variation is compared with. Samples that are in both groups are compared with themselves, if all are.
            Cells of the same sample are not independent: where groups are of different samples, only this controls
            false discoveries.
        covariate_keys
            Registered batches and covariates to hold; by default all, but `groupby`, `within` and `sample_key`.
        adjust_for_state
            Whether to hold the latent states, too. The question is then another: whether a gene differs by more than a
            difference of *states* explains. The variation of states within groups is taken out, and how far the groups'
            states are apart, by chance or not, is estimated from what most genes do along their loadings. Where cells vary much,
            that finds more; what moves cells along the latent dimensions is no longer found, and hardly anything is
            between clusters of these states. Best of a model that `groupby` is registered with, whose dimensions none of the
            groups' differences has made. It takes counts, at least 50 genes, and ten for each dimension.
        composition
            Whether to take out the shift of b that most genes have. Totals of counts that grow by some genes make all others
            look smaller. It takes 50 genes or more, and is not for real values.
        min_cells
            Least number of cells on each side, and of a sample in a group. Comparisons that have fewer are left out, with a
            warning; of groups named in `group1`, they are refused.

        Returns
        -------
        Table with a row for each comparison and gene, those with the largest scores first in each: ``group``, ``reference``
        and ``within``; ``names``, of the genes; ``scores``, signed and on the scale of a standard normal distribution;
        ``logfoldchanges``, to the base 2, posterior means under a prior that is learned from all genes, and
        ``logfoldchanges_sd``, their standard deviations; ``pvals`` and ``pvals_adj`` (Benjamini and Hochberg, within the
        comparison); ``s_values``, the share of wrong signs among the genes whose sign is at least as certain;
        ``logfoldchanges_estimate`` and ``logfoldchanges_se``, before the prior; ``n_group`` and ``n_reference``, the numbers of
        cells or samples. Of real values, fold changes are differences in the data's unit. Genes without a count in either
        group have a p value of 1.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there is no such column or group, a side has too few cells or samples, covariates say which group a cell is
            in, or the model is one of several modalities.

        References
        ----------
        S. P. Lund, D. Nettleton, D. J. McCarthy and G. K. Smyth (2012), Detecting differential expression in RNA-sequence data
        using quasi-likelihood with shrunken dispersion estimates, Statistical Applications in Genetics and Molecular
        Biology 11(5). M. Stephens (2017), False discovery rates: a new deal, Biostatistics 18: 275-294.

        Examples
        --------
        >>> import scpln
        >>> adata = scpln.datasets.simulate(n_obs=200, n_vars=60, n_latent=2, n_batches=2)
        >>> scpln.model.setup_anndata(adata)
        >>> model = scpln.model.PLNPCA(adata, n_latent=2)
        >>> model.train(progress=False)
        >>> table = model.test_groups(groupby="batch", group1="0", group2="1")
        >>> table.shape, table.columns[:7].tolist()
        ((60, 13), ['group', 'reference', 'names', 'scores', 'logfoldchanges', 'pvals', 'pvals_adj'])
        """
        self._require_trained()
        if is_joint(self.registry):
            msg = (
                "test_groups compares the genes of one AnnData, and this is a model of several modalities. Compare those of "
                "each by itself: `scpln.tl.rank_genes(mdata['rna'], groupby=...)`."
            )
            raise ValueError(msg)
        if has_entries(self.registry):
            msg = (
                "test_groups compares counts with one size factor for each cell, and these have an offset_key or a mask_key. "
                "`differential_expression` compares the model's rates, which take account of them."
            )
            raise ValueError(msg)
        if groupby is None:
            msg = "Say which groups to test: groupby='a column of adata.obs'."
            raise ValueError(msg)
        plan = Plan(groupby, group1, group2, within, sample_key, min_cells)
        test = GroupTest(plan, self.registry, covariate_keys, composition)
        adjust_for_state = as_bool("adjust_for_state", adjust_for_state)
        adata = self._data_or_own(adata)
        with validated_once():
            latent = self._states(adata, sample_key) if adjust_for_state else None
            return test.table(self._read(adata), adata.obs, latent)

    def _states(self, adata: AnnData, sample_key: str | None) -> NDArray[np.float32]:
        """Posterior means of the latent states (n × q), or an error where they cannot be held."""
        if sample_key is not None:
            msg = (
                f"adjust_for_state=True holds the states of cells, and sample_key={sample_key!r} compares samples, which have none. "
                "Leave one of them out."
            )
            raise ValueError(msg)
        if not self.is_count_data:
            msg = (
                "adjust_for_state=True is for counts, and this model was set up with is_count_data=False. Leave it out."
            )
            raise ValueError(msg)
        latent = np.asarray(self.get_latent_representation(adata))
        n_latent, n_genes = latent.shape[1], len(self.genes)
        if n_genes < max(FEWEST_FOR_SHIFT, 10 * (n_latent + 1)):
            msg = (
                f"adjust_for_state=True learns from the other genes how far groups are apart in {n_latent:,} latent dimensions, and "
                f"{n_genes:,} genes are too few: it takes {FEWEST_FOR_SHIFT}, and ten for each dimension. Leave it out."
            )
            raise ValueError(msg)
        return latent
