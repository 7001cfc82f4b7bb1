"""Sparse networks and factors of the Poisson log-normal model in gene space: what a user does with them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scpln
from scpln.inference.genespace.network import MOST_MORE, _path
from scpln.model import PLN, PLNPCA, setup_anndata

P = 8


@pytest.fixture(scope="module")
def model():
    return fitted(simulated(), penalty=0.03)


@pytest.fixture(autouse=True)
def few_penalties(monkeypatch):
    monkeypatch.setattr(_path, "N_PENALTIES", 5)


def simulated(n_obs=120, n_vars=P, seed=0, **kwargs):
    adata = scpln.datasets.simulate(n_obs, n_vars, n_latent=3, density=0.6, n_batches=2, seed=seed, **kwargs)
    setup_anndata(adata, batch_key="batch", size_factor_key="size_factor")
    return adata


def fitted(adata, *args, **kwargs):
    model = PLN(adata, *args, **kwargs)
    model.train(progress=False)
    return model


class TestNetwork:
    """`penalty=`."""

    def test_edges_are_entries_of_the_precision(self, model):
        precision, network = model.get_precision(), model.get_network()
        assert 0 < len(network) < P * (P - 1) / 2
        assert (precision.to_numpy() == 0).sum() == P * (P - 1) - 2 * len(network)
        for edge in network.itertuples():
            value = precision.loc[edge.gene_1, edge.gene_2]
            deviations = precision.loc[edge.gene_1, edge.gene_1] * precision.loc[edge.gene_2, edge.gene_2]
            assert edge.precision == value
            assert edge.partial_correlation == pytest.approx(-value / np.sqrt(deviations))
        assert network["partial_correlation"].abs().is_monotonic_decreasing
        assert model.get_covariance().to_numpy() @ precision.to_numpy() == pytest.approx(np.eye(P), abs=1e-8)
        some = model.get_precision(["gene_5", "gene_2"])
        assert some.equals(precision.loc[["gene_5", "gene_2"], ["gene_5", "gene_2"]])
        assert model.training_["n_parameters"] == 2 * P + P + len(network)

    def test_it_is_below_a_model_without_penalty(self, model):
        assert fitted(model.adata, "diagonal").get_elbo() < model.get_elbo() < fitted(model.adata).get_elbo()

    def test_it_is_saved_and_annotated(self, tmp_path):
        adata = simulated()
        model = fitted(adata, penalty=[0.05, 0.1])
        model.annotate()
        matrix = adata.varp["pln_network"]
        assert sp.isspmatrix_csr(matrix)
        assert matrix.nnz == 2 * len(model.get_network())
        edge = model.get_network().iloc[0]
        names = list(adata.var_names)
        assert matrix[names.index(edge["gene_2"]), names.index(edge["gene_1"])] == pytest.approx(
            edge["partial_correlation"]
        )
        adata.write_h5ad(tmp_path / "adata.h5ad")
        stored = ad.read_h5ad(tmp_path / "adata.h5ad")
        assert (stored.varp["pln_network"] != matrix).nnz == 0
        path = pd.DataFrame(stored.uns["pln"]["training"]["network_path"])[list(model.network_path)]
        assert path["penalty"].tolist() == [0.1, 0.05]
        assert path["bound"].to_numpy() == pytest.approx(model.network_path["bound"].to_numpy())
        model.save(tmp_path / "model")
        loaded = PLN.load(tmp_path / "model", adata)
        assert loaded.get_network().equals(model.get_network())
        assert loaded.network_path.equals(model.network_path)
        assert loaded.get_precision().equals(model.get_precision())
        loaded.train(progress=False)
        assert loaded.get_elbo() == model.get_elbo()

    def test_genes_that_the_model_lacks_have_no_edges(self, model):
        other = ad.concat(
            [model.adata, ad.AnnData(np.ones((model.adata.n_obs, 1)), model.adata.obs, pd.DataFrame(index=["other"]))],
            axis=1,
        )
        other.obs = model.adata.obs.copy()
        reverse = other[:, ::-1].copy()
        model.annotate(reverse)
        matrix = pd.DataFrame(reverse.varp["pln_network"].toarray(), reverse.var_names, reverse.var_names)
        assert (matrix["other"] == 0).all()
        edge = model.get_network().iloc[0]
        assert matrix.loc[edge["gene_1"], edge["gene_2"]] == pytest.approx(edge["partial_correlation"])

    @pytest.mark.parametrize("rule", ["bic", "ebic", "stars"])
    def test_rules_choose(self, rule):
        model = fitted(simulated(60, 5), penalty=rule)
        path = model.network_path
        assert len(path) == 5 if rule == "stars" else 5 <= len(path) <= 5 + MOST_MORE
        if rule != "stars":  # it goes on while its end is the best
            assert path[rule].idxmax() in ([len(path) - 2] if len(path) > 5 else range(4))
        assert path["penalty"].is_monotonic_decreasing
        assert model.training_["penalty"] in path["penalty"].to_list()
        row = path[path["penalty"] == model.training_["penalty"]].iloc[0]
        assert row["n_edges"] == len(model.get_network())
        assert row["bound"] == pytest.approx(60 * model.get_elbo(), abs=0.01)
        assert path["stability"].notna().any() == (rule == "stars")

    def test_counts_of_another_likelihood(self):
        model = fitted(simulated(60), penalty=0.02, likelihood="nb")
        assert 0 < len(model.get_network()) < P * (P - 1) / 2
        assert model.training_["n_parameters"] == 2 * P + P + len(model.get_network()) + P

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"penalty": -1}, "number above 0, several, or one of 'bic', 'ebic', 'stars'"),
            ({"penalty": "aic"}, "number above 0, several, or one of 'bic', 'ebic', 'stars'"),
            ({"penalty": []}, "number above 0, several, or one of 'bic', 'ebic', 'stars'"),
            ({"penalty": 0.1, "covariance": "diagonal"}, "penalty= is for covariance='full'"),
        ],
    )
    def test_wrong_ones_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            PLN(simulated(), **options)

    def test_others_have_none(self):
        model = fitted(simulated(), "diagonal")
        with pytest.raises(ValueError, match="has no network"):
            model.get_network()
        with pytest.raises(ValueError, match="has no network"):
            _ = model.network_path
        with pytest.raises(ValueError, match="has no factors"):
            model.get_factor_loadings()


class TestFactor:
    """`covariance="factor"`."""

    def test_it_is_between_diagonal_and_full(self):
        adata = simulated()
        names = [("diagonal", {}), *(("factor", {"n_factors": q}) for q in (1, 3, P - 1)), ("full", {})]
        bounds = [fitted(adata, name, **options).get_elbo() for name, options in names]
        assert bounds == sorted(bounds)
        assert bounds[-1] == pytest.approx(bounds[-2], abs=1e-3)

    def test_two_genes_have_any_covariance_and_one_a_variance(self):
        for p in (1, 2):
            adata = simulated()[:, :p].copy()
            setup_anndata(adata, batch_key="batch", size_factor_key="size_factor")
            one, full = fitted(adata, "factor", n_factors=1), fitted(adata)
            assert one.get_elbo() == pytest.approx(full.get_elbo(), abs=1e-4)
            assert one.training_["n_parameters"] == full.training_["n_parameters"]

    def test_loadings_make_the_covariance(self, tmp_path):
        adata = simulated(300)
        model = fitted(adata, "factor", n_factors=2)
        table = model.get_factor_loadings()
        loadings, own = table.iloc[:, :2].to_numpy(), table["uniqueness"].to_numpy()
        assert loadings @ loadings.T + np.diag(own) == pytest.approx(model.get_covariance().to_numpy(), abs=1e-10)
        assert loadings[:, 0] @ loadings[:, 1] == pytest.approx(0, abs=1e-10)
        assert (np.diff(np.square(loadings).sum(0)) < 0).all()
        assert model.training_["n_parameters"] == 2 * P + 2 * P - 1 + P
        assert model.get_factor_loadings(["gene_3"]).equals(table.loc[["gene_3"]])
        model.annotate()
        assert adata.varm["pln_loadings"] == pytest.approx(loadings)
        model.save(tmp_path / "model")
        loaded = PLN.load(tmp_path / "model", adata)
        assert loaded.get_factor_loadings().equals(table)
        loaded.train(progress=False)
        assert loaded.get_elbo() == model.get_elbo()

    def test_without_uniquenesses_it_is_pln_pca(self):
        """Counts of two directions alone: uniquenesses vanish, and what is left is the bound of as many latent dimensions."""
        adata = scpln.datasets.simulate(200, 10, n_latent=2, density=0.8, latent_variance=3.0, seed=2)
        setup_anndata(adata, size_factor_key="size_factor")
        pca = PLNPCA(adata, 2, prior="none")
        pca.train(progress=False, tol=1e-6)
        model = fitted(adata, "factor", n_factors=2, prior_precision=0.0)
        assert model.get_elbo() >= pca.get_elbo() - 2e-3
        assert model.get_elbo() == pytest.approx(pca.get_elbo(), abs=0.1)
        given = fitted(adata, "fixed", given=pca.get_covariance(), prior_precision=0.0)
        assert given.get_elbo() == pytest.approx(pca.get_elbo(), abs=2e-3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"covariance": "factor"}, "Pass n_factors="),
            ({"covariance": "factor", "n_factors": P}, "of 8 genes there are 1 to 7"),
            ({"covariance": "factor", "n_factors": 0}, "n_factors"),
            ({"n_factors": 2}, "n_factors= is for covariance='factor'"),
        ],
    )
    def test_wrong_numbers_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            PLN(simulated(), **options)
