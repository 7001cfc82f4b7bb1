"""Several modalities in one model: what is read, what it means that a cell lacks one, and what comes back."""

import logging
import re

import matplotlib.pyplot as plt
import mudata
import muon
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scipy.stats import spearmanr

import scpln
from scpln.data import _manager
from scpln.inference import ABSENT, CountData, elbo_likelihood, infer_likelihood
from scpln.model import PLNPCA, CountGMVAE, CountVAE, setup_anndata, setup_mudata
from scpln.module.likelihoods import JointLikelihood, NegativeBinomial, Poisson

from .conftest import MATRICES, make_adata

MIXED = {"rna": "poisson", "prot": "nb"}


@pytest.fixture(autouse=True, scope="module")
def no_pulled_columns():
    """As mudata will do by itself from version 0.4."""
    with mudata.set_options(pull_on_update=False):
        yield


def make_mdata(**options) -> MuData:
    """Cells with both modalities or one of them, in two batches; the proteins in another order than the cells."""
    settings = {"missing": {"rna": 0.1, "prot": 0.3}, "density": {"rna": 0.4, "prot": 0.9}, **options}
    mdata = scpln.datasets.simulate_multimodal(
        120, {"rna": 30, "prot": 8}, likelihood={"prot": "nb"}, n_latent=2, n_batches=2, seed=1, **settings
    )
    proteins = mdata["prot"][np.random.default_rng(0).permutation(mdata["prot"].n_obs)].copy()
    proteins.layers["counts"] = proteins.X.copy()
    mixed = MuData({"rna": mdata["rna"], "prot": proteins})
    names = pd.Index(mdata.obs_names).get_indexer(mixed.obs_names)
    mixed.obs["batch"] = mdata.obs["batch"].to_numpy()[names]
    mixed.obs["age"] = np.random.default_rng(2).normal(size=mixed.n_obs)
    mixed.obsm["true_latent"] = mdata.obsm["true_latent"][names]
    return mixed


@pytest.fixture
def mdata() -> MuData:
    """Fresh counts, not set up."""
    return make_mdata()


def train(mdata, *, modalities=("rna", "prot"), likelihood=None, posterior="fullrank", batch_key="batch", **options):
    setup_mudata(mdata, modalities=list(modalities), batch_key=batch_key)
    model = PLNPCA(mdata, n_latent=2, likelihood=likelihood or MIXED, posterior=posterior)
    model.train(progress=False, **options)
    return model


@pytest.fixture(scope="module")
def trained() -> PLNPCA:
    """Model of Poisson RNA and negative binomial proteins; do not change it."""
    return train(make_mdata())


def by_hand(mdata: MuData) -> tuple[np.ndarray, np.ndarray]:
    """Counts and log size factors, cell by cell."""
    counts, sizes = [], []
    centers = [np.log(adata.X.toarray().sum(1)).mean() for adata in mdata.mod.values()]
    for cell in mdata.obs_names:
        row, size = [], []
        for adata, center in zip(mdata.mod.values(), centers, strict=True):
            if cell in adata.obs_names:
                values = adata[cell].X.toarray()[0]
                size.append(np.log(values.sum()) - center)
            else:
                values = np.zeros(adata.n_vars)
                size.append(ABSENT)
            row.append(values)
        counts.append(np.concatenate(row))
        sizes.append(size)
    return np.array(counts), np.array(sizes)


class TestReading:
    """Genes side by side, cells by name, exposure zero for what a cell lacks."""

    def test_counts_and_size_factors(self, mdata):
        setup_mudata(mdata, modalities=["rna", "prot"], batch_key="batch")
        data = PLNPCA(mdata, n_latent=2)._read(None).data
        counts, sizes = by_hand(mdata)
        assert isinstance(data.counts, sp.csr_matrix)
        np.testing.assert_array_equal(data.counts.toarray(), counts)
        np.testing.assert_allclose(data.offsets, sizes)
        np.testing.assert_array_equal(data.groups, [0] * 30 + [1] * 8)
        np.testing.assert_array_equal(data.design[:, 1], mdata.obs["batch"] == "1")

    @pytest.mark.parametrize("form", MATRICES)
    def test_how_counts_are_stored_does_not_matter(self, mdata, trained, form):
        for adata in mdata.mod.values():
            adata.X = MATRICES[form](adata.X)
        expected = trained._read(None).data.counts
        assert (sp.csr_matrix(trained._read(mdata).data.counts) != expected).nnz == 0

    def test_the_order_of_modalities_is_that_of_the_registration(self, mdata):
        setup_mudata(mdata, modalities=["prot", "rna"])
        model = PLNPCA(mdata, n_latent=2)
        assert model.modalities == ["prot", "rna"]
        assert model.genes == [*mdata["prot"].var_names, *mdata["rna"].var_names]

    def test_layers_and_size_factors(self, mdata):
        depth = np.exp(np.random.default_rng(3).normal(5, 1, mdata["prot"].n_obs))
        mdata["prot"].obs["depth"] = depth
        mdata["prot"].X = mdata["prot"].X * 0.5
        options = {"layer": "counts", "size_factor_key": "depth"}
        setup_mudata(mdata, modalities={"rna": None, "prot": options})
        data = PLNPCA(mdata, n_latent=2)._read(None).data
        own = pd.Series(np.log(depth) - np.log(depth).mean(), mdata["prot"].obs_names)
        np.testing.assert_allclose(data.offsets[:, 1], own.reindex(mdata.obs_names).fillna(ABSENT))

    def test_some_cells(self, mdata, trained):
        chosen = np.array([40, 3, 119, 3])
        data, some = trained._read(mdata).data, trained._read(mdata, chosen).data
        assert (some.counts != data.counts[chosen]).nnz == 0
        np.testing.assert_allclose(some.offsets, data.offsets[chosen])
        np.testing.assert_array_equal(some.design, data.design[chosen])

    def test_only_named_modalities_enter(self, mdata):
        mdata.mod["other"] = mdata["prot"].copy()
        setup_mudata(mdata, modalities={"rna": None, "prot": "counts"})
        assert len(PLNPCA(mdata, n_latent=2).genes) == 38

    def test_nothing_of_the_data_changes(self, mdata):
        before = mdata.copy()
        setup_mudata(mdata, modalities=["rna", "prot"], batch_key="batch")
        assert set(mdata.uns) - set(before.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
        assert mdata.obs.equals(before.obs)
        for name, adata in mdata.mod.items():
            assert adata.obs.equals(before[name].obs)
            assert (adata.X != before[name].X).nnz == 0
            assert not adata.uns

    def test_on_disk(self, mdata, trained, tmp_path):
        mdata.write_h5mu(tmp_path / "counts.h5mu")
        backed = mudata.read_h5mu(tmp_path / "counts.h5mu", backed="r")
        for chosen in (None, [100, 3, 100, 0]):
            np.testing.assert_allclose(
                trained.get_elbo(backed, indices=chosen, return_mean=False),
                trained.get_elbo(indices=chosen, return_mean=False),
                atol=1e-3,
            )
        again = train(backed)
        np.testing.assert_allclose(again.get_elbo(), trained.get_elbo(), atol=1e-3)

    def test_what_was_registered_is_logged_and_shown(self, mdata, caplog):
        mdata["prot"].obs["depth"] = 1.0
        with caplog.at_level(logging.INFO, logger="scpln"):
            setup_mudata(
                mdata,
                modalities={"rna": None, "prot": {"layer": "counts", "size_factor_key": "depth"}},
                batch_key="batch",
            )
        where = "mdata['rna'].X (30) + mdata['prot'].layers['counts'] (8, size_factor_key='depth')"
        assert f"120 cells × 38 genes: counts in {where}, design with 2 columns" in caplog.text
        shown = repr(PLNPCA(mdata, n_latent=2, likelihood=MIXED))
        assert f"data: 120 cells × 38 genes, {where}, batch_key='batch'" in shown
        assert "likelihood={'rna': 'poisson', 'prot': 'nb'}" in shown


class TestMeaning:
    """The joint model against models that are simpler."""

    def test_one_modality_is_one_anndata(self):
        adata = make_adata()
        setup_anndata(adata, batch_key="batch")
        mdata = MuData({"rna": adata.copy()})
        mdata.obs["batch"] = adata.obs["batch"]
        setup_mudata(mdata, modalities=["rna"], batch_key="batch")
        alone, joint = PLNPCA(adata, n_latent=2), PLNPCA(mdata, n_latent=2)
        for model in (alone, joint):
            model.train(progress=False)
        np.testing.assert_allclose(joint.get_elbo(), alone.get_elbo(), atol=1e-3)
        np.testing.assert_allclose(joint.get_loadings(), alone.get_loadings(), atol=2e-2)

    @pytest.mark.filterwarnings("ignore:3 of 150 cells")
    def test_parts_of_one_matrix_with_its_size_factors_are_the_matrix(self):
        adata = make_adata()
        setup_anndata(adata, size_factor_key="size_factor")
        mdata = MuData({"first": adata[:, :12].copy(), "second": adata[:, 12:].copy()})
        setup_mudata(mdata, modalities={name: {"size_factor_key": "size_factor"} for name in mdata.mod})
        for likelihood in ("poisson", "nb"):
            alone, joint = (PLNPCA(data, n_latent=2, likelihood=likelihood, prior="none") for data in (adata, mdata))
            for model in (alone, joint):
                model.train(progress=False)
            np.testing.assert_allclose(joint.get_elbo(), alone.get_elbo(), atol=1e-3)
            np.testing.assert_allclose(joint.get_covariance(), alone.get_covariance(), atol=2e-2)

    def test_what_a_cell_lacks_adds_nothing(self, mdata, trained):
        """Posterior and bound of cells without proteins are those of a model of the RNA alone."""
        rna = mdata["rna"]
        lacking = rna.obs_names.difference(mdata["prot"].obs_names)
        positions = mdata.obs_names.get_indexer(lacking)
        data = trained._read(mdata, positions).data
        own = CountData(data.counts[:, :30].tocsr(), data.offsets[:, 0], data.design)
        b, c = trained.module.coefficients.numpy()[:30], trained.module.loadings.numpy()[:30]
        likelihood = Poisson(30)
        mean, covariance = infer_likelihood(own, b, c, likelihood)
        posterior = trained.get_posterior(mdata.copy(), indices=positions)
        np.testing.assert_allclose(posterior.mean, mean, atol=2e-3)
        np.testing.assert_allclose(
            trained.get_elbo(mdata.copy(), indices=positions, return_mean=False),
            elbo_likelihood(own, b, c, likelihood, mean, covariance),
            atol=1e-3,
        )

    def test_the_latent_state_is_found(self, mdata, trained):
        truth = mdata.obsm["true_latent"]
        design = np.column_stack([np.ones(120), trained.get_latent_representation()])
        residual = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
        assert (1 - residual.var(0) / truth.var(0) > 0.7).all()

    def test_proteins_that_cells_lack_are_imputed(self, mdata, trained):
        lacking = np.flatnonzero(~mdata.obs_names.isin(mdata["prot"].obs_names))
        names = list(mdata["prot"].var_names)
        imputed = np.log(trained.get_normalized_expression(indices=lacking, gene_list=names))
        truth = mdata.obsm["true_latent"][lacking] @ mdata["prot"].varm["true_loadings"].T
        truth += (mdata.obs["batch"].to_numpy()[lacking] == "1")[:, None] * mdata["prot"].varm[
            "true_coefficients"
        ].iloc[:, 1].to_numpy()
        strong = truth.std(0) > 0.5
        correlation = [spearmanr(imputed.iloc[:, j], truth[:, j])[0] for j in np.flatnonzero(strong)]
        assert strong.sum() >= 4
        assert min(correlation) > 0.6

    def test_a_likelihood_for_each_modality(self, trained):
        likelihood = trained.module.generative.likelihood
        assert isinstance(likelihood, JointLikelihood)
        assert {name: type(part) for name, part in likelihood.parts.items()} == {
            "rna": Poisson,
            "prot": NegativeBinomial,
        }
        theta = trained.get_gene_parameters("prot")["inverse_dispersion"]
        assert 2 < np.exp(np.log(theta).mean()) < 12  # the truth is 5

    @pytest.mark.parametrize("likelihood", ["poisson", {"rna": "poisson", "prot": "poisson"}])
    def test_poisson_alone_takes_the_closed_form(self, mdata, likelihood):
        setup_mudata(mdata, modalities=["rna", "prot"])
        assert isinstance(PLNPCA(mdata, n_latent=2, likelihood=likelihood).module.generative.likelihood, Poisson)


class TestResults:
    """Methods of the model, for all genes and by modality."""

    def test_loadings_and_coefficients(self, mdata, trained):
        for method in (trained.get_loadings, trained.get_coefficients):
            parts = [method(name) for name in trained.modalities]
            pd.testing.assert_frame_equal(pd.concat(parts), method())
            assert list(parts[1].index) == list(mdata["prot"].var_names)
        with pytest.raises(ValueError, match=r"no modality 'atac'. It has \['rna', 'prot'\]"):
            trained.get_loadings("atac")

    def test_variance_explained(self, trained):
        squares = trained.get_loadings() ** 2
        parts = {"rna": squares.iloc[:30].sum(), "prot": squares.iloc[30:].sum()}
        for name, expected in parts.items():
            np.testing.assert_allclose(trained.get_variance_explained(name), expected / expected.sum())
        np.testing.assert_allclose(trained.get_variance_explained(), squares.sum() / squares.to_numpy().sum())

    def test_gene_parameters(self, trained):
        table = trained.get_gene_parameters()
        assert table["inverse_dispersion"].isna().to_list() == [True] * 30 + [False] * 8
        assert list(trained.get_gene_parameters("rna").columns) == []
        pd.testing.assert_frame_equal(trained.get_gene_parameters("prot"), table.iloc[30:])

    def test_normalized_expression(self, mdata, trained):
        names = ["prot_3", "rna_7", "prot_0"]
        posterior = trained.get_posterior()
        b, c = (table.loc[names].to_numpy() for table in (trained.get_coefficients(), trained.get_loadings()))
        design = np.column_stack([np.ones(120), mdata.obs["batch"] == "1"])
        eta = design @ b.T + posterior.mean @ c.T + 0.5 * np.einsum("jk,nkl,jl->nj", c, posterior.covariance, c)
        np.testing.assert_allclose(trained.get_normalized_expression(gene_list=names), np.exp(eta), rtol=1e-4)
        sizes = by_hand(mdata)[1][:, [1, 0, 1]]
        expected = np.where(sizes == ABSENT, np.nan, np.exp(eta + sizes))
        latent = trained.get_normalized_expression(gene_list=names, library_size="latent")
        np.testing.assert_allclose(latent, expected, rtol=1e-4)
        drawn = trained.get_normalized_expression(gene_list=names, library_size="latent", n_samples=300)
        np.testing.assert_allclose(drawn, expected, rtol=0.3)

    def test_moving_to_a_batch(self, trained):
        moved = trained.get_normalized_expression(transform_batch="1") / trained.get_normalized_expression(
            transform_batch="0"
        )
        np.testing.assert_allclose(
            moved, np.tile(np.exp(trained.get_coefficients()["batch[T.1]"]), (120, 1)), rtol=1e-4
        )

    def test_predictive_draws(self, mdata, trained):
        draws = trained.posterior_predictive_sample(n_samples=20, seed=1).todense()
        absent = np.repeat(by_hand(mdata)[1] == ABSENT, [30, 8], axis=1)
        assert (draws[absent] == 0).all()
        expected = trained.get_normalized_expression(library_size="latent")
        ratio = np.where(absent, 0, draws.mean(2)).sum(0) / expected.sum()
        np.testing.assert_allclose(ratio[30:], 1, atol=0.1)
        np.testing.assert_allclose(ratio.mean(), 1, atol=0.05)
        some = trained.posterior_predictive_sample(gene_list=["prot_1", "rna_0"], indices=[0, 1])
        assert some.shape == (2, 2)

    def test_bounds(self, trained):
        terms = trained.get_bound_terms()
        np.testing.assert_allclose(terms["elbo"], trained.get_elbo(return_mean=False))
        np.testing.assert_allclose(terms["reconstruction"] - terms["kl"], terms["elbo"])
        diagnostics = trained.get_posterior_diagnostics(n_samples=200)
        assert (diagnostics["gap"] > -0.2).all()
        assert -0.01 < diagnostics["gap"].mean() < 0.2
        assert list(diagnostics.index) == list(trained.adata.obs_names)

    def test_exact_draws(self, trained):
        draws = trained.sample_exact_posterior(indices=[0], n_samples=100, n_warmup=50, seed=0)
        posterior = trained.get_posterior(indices=[0])
        spread = np.sqrt(posterior.variance)
        assert (np.abs(draws.mean(0) - posterior.mean) < 0.5 * spread).all()

    @pytest.mark.parametrize(
        ("options", "training"),
        [
            ({"posterior": "meanfield"}, {}),
            ({"posterior": "flow"}, {"n_steps": 15}),
            ({"amortized": True}, {"n_steps": 15}),
            ({"amortized": True, "posterior": "flow"}, {"n_steps": 15}),
            ({}, {"n_steps": 15, "n_importance_samples": 4}),
        ],
    )
    def test_every_posterior(self, mdata, trained, tmp_path, options, training):
        setup_mudata(mdata, modalities=["rna", "prot"], batch_key="batch")
        model = PLNPCA(mdata, n_latent=2, likelihood=MIXED, **options)
        model.train(progress=False, **training)
        elbo, iw_bound = model.get_elbo(), model.get_iw_bound(n_samples=200)
        assert np.isfinite(elbo)
        assert elbo < iw_bound + 0.05
        assert abs(iw_bound - trained.get_iw_bound(n_samples=200)) < 2
        model.save(tmp_path / "model")
        again = PLNPCA.load(tmp_path / "model", mdata)
        np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
        new = again.get_elbo(mdata[:20], return_mean=False)
        assert np.abs(new - model.get_elbo(indices=np.arange(20), return_mean=False)).mean() < 1


class TestNewCells:
    """Other MuData: order of genes and cells, views, other modalities missing."""

    def test_order_of_genes_and_cells(self, mdata, trained):
        other = MuData({"prot": mdata["prot"][:, ::-1].copy(), "rna": mdata["rna"][::-1, ::-1].copy()})
        other.obs["batch"] = mdata.obs["batch"].reindex(other.obs_names)
        assert list(other.obs_names) != list(mdata.obs_names)
        order = mdata.obs_names.get_indexer(other.obs_names)
        np.testing.assert_allclose(
            trained.get_elbo(other, return_mean=False), trained.get_elbo(return_mean=False)[order], atol=1e-3
        )

    def test_views_and_indices(self, mdata, trained):
        expected = trained.get_latent_representation()
        view = mdata[20:50]
        assert view.is_view
        np.testing.assert_allclose(trained.get_latent_representation(view), expected[20:50], atol=2e-3)
        np.testing.assert_allclose(
            trained.get_latent_representation(mdata, indices=[7, 2, -1]), expected[[7, 2, -1]], atol=2e-3
        )

    def test_cells_with_other_modalities_missing(self, mdata, trained):
        both = mdata["rna"].obs_names.intersection(mdata["prot"].obs_names)
        only = MuData({"rna": mdata["rna"][both].copy()})
        only.obs["batch"] = mdata.obs["batch"].reindex(both)
        wider = trained.get_posterior(only).variance
        assert (wider > trained.get_posterior(mdata, indices=mdata.obs_names.get_indexer(both)).variance).mean() > 0.9
        emptied = mdata[both].copy()
        emptied.mod["prot"] = emptied["prot"][[]].copy()
        np.testing.assert_allclose(trained.get_posterior(emptied).variance, wider, rtol=1e-4)

    def test_copies_are_training_data_by_content(self, mdata, trained, tmp_path):
        trained.save(tmp_path / "model")
        copy = make_mdata()
        assert PLNPCA.load(tmp_path / "model", copy)._is_training_data(None)
        changed = make_mdata()
        changed["prot"].X.data[0] += 1
        assert not PLNPCA.load(tmp_path / "model", changed)._is_training_data(None)
        fewer = mdata.copy()
        fewer.mod["prot"] = fewer["prot"][1:].copy()
        fewer.update()
        lost = PLNPCA.load(tmp_path / "model", fewer)
        assert not lost._is_training_data(None)
        assert np.isfinite(lost.get_elbo())

    def test_cells_that_lose_a_modality_after_training(self, mdata):
        model = train(mdata)
        assert model._is_training_data(None)
        mdata.mod["rna"] = mdata["rna"][:, :10].copy()
        with pytest.raises(ValueError, match=r"20 of the model's 30 genes are missing from mdata\['rna'\].var_names"):
            model.get_elbo(mdata.copy())


class TestFiles:
    """What is written, and what is read back."""

    def test_annotations_survive_and_are_used(self, mdata, trained, tmp_path):
        trained.annotate(mdata, key_added="joint", diagnostics=True)
        mdata.write_h5mu(tmp_path / "annotated.h5mu")
        read = mudata.read_h5mu(tmp_path / "annotated.h5mu")
        np.testing.assert_array_equal(read.obsm["joint_state"], trained.get_latent_representation(mdata))
        np.testing.assert_array_equal(read.obs["joint_elbo"], mdata.obs["joint_elbo"])
        assert {"joint_gap", "joint_pareto_k"} <= set(read.obs)
        for name in ("rna", "prot"):
            np.testing.assert_array_equal(read[name].varm["joint_loadings"], trained.get_loadings(name))
        assert "joint_inverse_dispersion" not in read["rna"].var
        np.testing.assert_allclose(
            read["prot"].var["joint_inverse_dispersion"], trained.get_gene_parameters("prot")["inverse_dispersion"]
        )
        uns = read.uns["joint"]
        assert uns["params"]["likelihood"] == MIXED
        assert list(uns["modalities"]) == ["rna", "prot"]
        assert set(uns["setup"]["modalities"]) == {"rna", "prot"}
        np.testing.assert_allclose(
            uns["variance_explained_by_modality"]["prot"], trained.get_variance_explained("prot").to_numpy()
        )

    def test_scanpy_and_muon_use_them(self, mdata, trained):
        trained.annotate(mdata, diagnostics=False)
        sc.pp.neighbors(mdata, use_rep="X_plnpca", n_neighbors=10)
        sc.tl.leiden(mdata, flavor="igraph", n_iterations=2)
        assert mdata.obs["leiden"].nunique() > 1
        figure = muon.pl.embedding(mdata, basis="X_plnpca", color=["leiden", "prot_0"], return_fig=True, show=False)
        assert len(figure.axes) >= 2
        plt.close(figure)

    def test_genes_that_the_model_lacks(self, trained):
        wider = make_mdata()
        extra = AnnData(np.ones((wider["prot"].n_obs, 1)), obs=wider["prot"].obs[[]], var=pd.DataFrame(index=["new"]))
        wider.mod["prot"] = sc.concat([wider["prot"], extra], axis=1, merge="first")
        trained.annotate(wider, diagnostics=False)
        assert np.isnan(wider["prot"].varm["plnpca_loadings"][-1]).all()
        assert np.isfinite(wider["prot"].varm["plnpca_loadings"][:-1]).all()

    def test_saved_with_its_data(self, trained, tmp_path):
        trained.save(tmp_path / "model", save_anndata=True)
        assert (tmp_path / "model" / "mdata.h5mu").is_file()
        with mudata.set_options(pull_on_update=True):
            again = PLNPCA.load(tmp_path / "model")
        assert again._is_training_data(None)
        assert list(again.adata.obs) == list(trained.adata.obs)
        assert repr(again) == repr(trained)
        np.testing.assert_array_equal(again.get_latent_representation(), trained.get_latent_representation())
        pd.testing.assert_frame_equal(again.get_gene_parameters(), trained.get_gene_parameters())
        np.testing.assert_allclose(again.get_iw_bound(n_samples=20, seed=1), trained.get_iw_bound(n_samples=20, seed=1))
        assert again.likelihood == MIXED

    def test_data_of_another_kind_is_replaced(self, trained, tmp_path, fullrank):
        fullrank.save(tmp_path / "model", save_anndata=True)
        trained.save(tmp_path / "model", save_anndata=True, overwrite=True)
        ends = {path.suffix for path in (tmp_path / "model").iterdir()}
        assert ends == {".json", ".safetensors", ".h5mu"}, "the AnnData is gone"
        assert len(list((tmp_path / "model").iterdir())) == 3

    def test_without_its_data(self, trained, tmp_path, mdata):
        trained.save(tmp_path / "model")
        alone = PLNPCA.load(tmp_path / "model", False)
        assert alone.modalities == ["rna", "prot"]
        pd.testing.assert_frame_equal(alone.get_loadings("prot"), trained.get_loadings("prot"))
        np.testing.assert_allclose(
            alone.get_elbo(mdata, return_mean=False), trained.get_elbo(return_mean=False), atol=1e-3
        )

    def test_registration_can_be_viewed(self, trained, capsys):
        trained.view_anndata_setup()
        shown = capsys.readouterr().out
        for expected in ("modalities", "batch[T.1]", "rna_9, …"):
            assert expected in shown

    def test_the_class_method_is_the_same(self, mdata):
        PLNPCA.setup_mudata(mdata, modalities={"rna": None, "prot": "counts"}, continuous_covariate_keys=["age"])
        model = PLNPCA(mdata, n_latent=2)
        assert model.covariates == ["(Intercept)", "age"]
        assert model.registry["setup_method_name"] == "setup_mudata"
        assert _manager.find(mdata) is not None


def test_raw_statistics_of_a_comparison_are_over_the_cells_that_have_the_modality(trained):
    mdata = trained.adata
    mdata_obs = mdata.obs.copy()
    table = trained.differential_expression(groupby="batch", group1="0", silent=True, n_samples_overall=20)
    for adata in mdata.mod.values():
        chosen = (mdata.obs["batch"].reindex(adata.obs_names) == "0").to_numpy()
        for number, cells in (("1", chosen), ("2", ~chosen)):
            counts = adata.X.toarray()[cells]
            found = table.loc[adata.var_names]
            np.testing.assert_allclose(found[f"raw_mean{number}"], counts.mean(0), rtol=1e-5)
            np.testing.assert_allclose(found[f"non_zeros_proportion{number}"], (counts > 0).mean(0), rtol=1e-5)
            normalized = 1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
            np.testing.assert_allclose(found[f"raw_normalized_mean{number}"], normalized.mean(0), rtol=1e-5)
    pd.testing.assert_frame_equal(mdata.obs, mdata_obs)


class TestRefused:
    """What cannot be modelled, and what the user is told."""

    def refuse(self, mdata, message, *, error=ValueError, **keys):
        with pytest.raises(error, match=message):
            setup_mudata(mdata, **{"modalities": ["rna", "prot"], **keys})

    def test_modalities(self, mdata):
        self.refuse(mdata, r"mdata.mod has no 'atac'.*It has \['rna', 'prot'\]", modalities=["rna", "atac"])
        for nothing in ([], None, 3):
            self.refuse(mdata, r"modalities names none. Pass one or more of \['rna', 'prot'\]", modalities=nothing)
        self.refuse(
            mdata,
            r"modalities\['rna'\] is \['layers'\].*some of 'layer', 'size_factor_key', 'offset_key' and 'mask_key'",
            modalities={"rna": {"layers": "a"}},
        )

    def test_modalities_without_genes(self, mdata):
        mdata.mod["prot"] = mdata["prot"][:, []].copy()
        self.refuse(mdata, r"mdata\['prot'\] is empty: 84 cells × 0 genes")

    def test_counts(self, mdata):
        self.refuse(
            mdata,
            r"mdata\['prot'\].layers has no 'count'. Did you mean 'counts'",
            modalities={"rna": None, "prot": "count"},
        )
        mdata["prot"].layers["clr"] = np.log1p(mdata["prot"].X.toarray()) - 2
        self.refuse(
            mdata,
            r"mdata\['prot'\].layers\['clr'\] must hold raw counts.*`setup_anndata\(mdata\['prot'\], \.\.\., is_count_data=False\)`",
            modalities={"rna": None, "prot": "clr"},
        )

    def test_size_factors(self, mdata):
        options = {"rna": {"size_factor_key": "total"}, "prot": None}
        self.refuse(mdata, r"mdata\['rna'\].obs has no column 'total' \(size_factor_key\)", modalities=options)

    def test_names_of_genes(self, mdata):
        mdata["prot"].var_names = ["rna_3", *mdata["prot"].var_names[1:]]
        self.refuse(mdata, r"first 'rna_3'.*`mdata.var_names_make_unique\(\)`")
        mdata["rna"].var_names = ["same"] * 30
        self.refuse(mdata, r"mdata\['rna'\].var_names are not unique")

    def test_names_of_cells(self, mdata):
        mdata["prot"].obs_names = ["same"] * mdata["prot"].n_obs
        self.refuse(mdata, r"mdata\['prot'\].obs_names are not unique, first 'same'")

    def test_changed_cells(self, mdata):
        mdata["prot"].obs_names = [f"new_{i}" for i in range(mdata["prot"].n_obs)]
        self.refuse(mdata, r"mdata\['prot'\] has cells that mdata.obs_names lacks.*`mdata.update\(\)`")

    def test_cells_with_nothing(self, mdata, trained):
        lacking = [name for name in mdata.obs_names if name not in mdata["rna"].obs_names]
        self.refuse(
            mdata, rf"{len(lacking)} of 120 cells have none of the modalities \['rna'\], first", modalities=["rna"]
        )
        position = mdata.obs_names.get_loc(lacking[0])
        del mdata.mod["prot"]
        with pytest.raises(ValueError, match=rf"1 of 1 cells have none.*first '{lacking[0]}'"):
            trained.get_elbo(mdata, indices=[position])

    def test_columns_of_a_modality(self, mdata):
        mdata["rna"].obs["donor"] = "d1"
        message = r"mdata.obs has no column 'donor' \(batch_key\), but mdata\['rna'\].obs has: "
        copy_it = re.escape("`mdata.obs['donor'] = mdata['rna'].obs['donor']`")
        self.refuse(mdata, rf"{message}run `mdata.pull_obs\(\)`.*{copy_it}", batch_key="donor")
        mdata.pull_obs()
        self.refuse(mdata, rf"{message}pass batch_key='rna:donor', which it has", batch_key="donor")

    def test_columns(self, mdata):
        self.refuse(mdata, r"mdata.obs has no column 'bacth' \(batch_key\). Did you mean 'batch'", batch_key="bacth")
        mdata.obs.loc[mdata.obs_names[2], "age"] = np.nan
        self.refuse(mdata, r"mdata.obs\['age'\].*NaN or infinite for 1 of 120", continuous_covariate_keys=["age"])

    def test_views(self, mdata):
        self.refuse(mdata[:50], r"view of another. Run `mdata = mdata.copy\(\)`")

    def test_shared_genes(self, mdata):
        adata = make_adata()
        shared = MuData({"first": adata[:50].copy(), "second": adata[50:].copy()}, axis=1)
        self.refuse(shared, r"mdata.axis is 1.*axis=0", modalities=["first", "second"])

    def test_other_things(self, mdata):
        self.refuse(mdata["rna"], r"mdata must be a MuData, and this is an AnnData.*setup_anndata", error=TypeError)
        self.refuse("a.h5mu", r"mdata must be a MuData, not str.*mudata.read_h5mu", error=TypeError)
        with pytest.raises(
            TypeError, match=r"this is a MuData.*mdata\['rna'\].*setup_mudata\(mdata, modalities=\['rna', 'prot'\]"
        ):
            setup_anndata(mdata)

    @pytest.mark.parametrize("model_class", [CountVAE, CountGMVAE])
    def test_autoencoders(self, mdata, model_class):
        with pytest.raises(
            TypeError, match=rf"{model_class.__name__} models one AnnData.*`{model_class.__name__}\(mdata\['rna'\]\)`"
        ):
            model_class(mdata)

    def test_not_set_up(self, mdata):
        with pytest.raises(
            ValueError, match=r"This MuData is not set up. Call scpln.model.setup_mudata\(mdata, modalities=\['rna'"
        ):
            PLNPCA(mdata)

    @pytest.mark.parametrize(
        ("likelihood", "message"),
        [
            (
                {"rna": "nb"},
                r"must name one for each of the modalities \['rna', 'prot'\], such as \{'rna': 'nb', 'prot': 'poisson'\}",
            ),
            ({"rna": "poisson", "prot": "negbin"}, r"likelihood\['prot'\]='negbin'.*'nb'"),
            (
                {"rna": "poisson", "prot": "gaussian"},
                r"likelihood\['prot'\]='gaussian' is for real values.*Choose 'poisson'",
            ),
            ("gaussian", r"likelihood='gaussian' is for real values.*setup_anndata\(mdata\['prot'\]"),
        ],
    )
    def test_likelihoods(self, mdata, likelihood, message):
        setup_mudata(mdata, modalities=["rna", "prot"])
        with pytest.raises(ValueError, match=message):
            PLNPCA(mdata, likelihood=likelihood)

    def test_likelihoods_of_one_anndata(self):
        adata = make_adata()
        setup_anndata(adata)
        with pytest.raises(
            ValueError, match=r"is for the modalities of a MuData.*likelihood='poisson', or register a MuData"
        ):
            PLNPCA(adata, likelihood=MIXED)

    def test_the_other_kind_of_data(self, mdata, trained, fullrank):
        with pytest.raises(
            TypeError, match=r"mdata must be a MuData, and this is an AnnData.*MuData\(\{'rna': adata\}\)"
        ):
            trained.get_elbo(mdata["rna"])
        with pytest.raises(TypeError, match=r"adata must be an AnnData, and this is a MuData.*mdata\['rna'\]"):
            fullrank.get_elbo(mdata)
