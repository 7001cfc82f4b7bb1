"""Intervals of expression and posteriors of states with parameters that are uncertain."""

import anndata as ad
import numpy as np
import pytest

import scpln
from scpln.model import PLNPCA, setup_anndata

from .every_model import make_adata


def simulated(n_obs=150, **kwargs):
    adata = scpln.datasets.simulate(n_obs, 40, n_latent=2, seed=1, **kwargs)
    setup_anndata(adata, size_factor_key="size_factor", batch_key="batch" if "n_batches" in kwargs else None)
    return adata


def fitted(adata, **kwargs):
    model = PLNPCA(adata, 2, **kwargs)
    model.train(progress=False)
    return model


@pytest.fixture(scope="module")
def batches():
    return fitted(simulated(n_batches=2))


@pytest.mark.parametrize("kwargs", [{}, {"prior": "none"}, {"posterior": "meanfield"}, {"n_components": 2}])
def test_intervals_are_wider_at_higher_levels_and_with_uncertain_parameters(kwargs):
    model = fitted(simulated(), **kwargs)
    rates = model.get_normalized_expression()
    widths = []
    for level, uncertain in ((0.5, True), (0.9, False), (0.9, True), (0.99, True)):
        lower, upper = model.get_expression_interval(level=level, parameter_uncertainty=uncertain)
        assert list(lower.columns) == list(rates.columns)
        assert list(upper.index) == list(rates.index)
        widths.append(np.log(upper / lower).to_numpy())
        assert ((lower > 0) & (lower < upper)).all(axis=None)
    assert (widths[0] < widths[2]).all()
    assert (widths[1] < widths[2]).all()
    assert (widths[2] < widths[3]).all()
    assert ((lower < rates) & (rates < upper)).mean(axis=None) > 0.99


def test_units_batches_genes_and_sizes_are_those_of_expression(batches):
    adata, genes = batches.adata, ["gene_7", "gene_2"]
    lower, upper = batches.get_expression_interval(gene_list=genes, indices=[5, 3])
    everything = batches.get_expression_interval()
    assert lower.equals(everything[0].loc[lower.index, genes])
    ten = batches.get_expression_interval(gene_list=genes, indices=[5, 3], library_size=10)[1]
    assert ten.to_numpy() == pytest.approx(10 * upper.to_numpy(), rel=1e-5)
    sizes = adata.obs["size_factor"] / np.exp(np.log(adata.obs["size_factor"]).mean())
    own = batches.get_expression_interval(library_size="latent")[0]
    assert own.to_numpy() == pytest.approx(everything[0].mul(sizes, axis=0).to_numpy(), rel=1e-4)
    moved = batches.get_expression_interval(transform_batch="1")[0]
    there = (adata.obs["batch"] == "1").to_numpy()
    assert moved[there].equals(everything[0][there])
    assert not np.allclose(moved[~there], everything[0][~there])


def test_new_cells_are_as_uncertain_as_training_cells(batches):
    copy = batches.adata.copy()
    for own, new in zip(batches.get_expression_interval(), batches.get_expression_interval(copy), strict=True):
        assert new.to_numpy() == pytest.approx(own.to_numpy(), rel=0.02)
    wide, same = (batches.get_posterior(data, parameter_uncertainty=True) for data in (None, copy))
    assert same.covariance == pytest.approx(wide.covariance, rel=0.05, abs=1e-3)


def test_states_are_less_certain_with_uncertain_parameters(batches):
    known, wider = (batches.get_posterior(parameter_uncertainty=uncertain) for uncertain in (False, True))
    assert np.array_equal(known.mean, wider.mean)
    assert (np.linalg.eigvalsh(wider.covariance - known.covariance) > 0).all()
    assert wider[:3].sample(4).shape == (4, 3, 2)


def test_more_cells_leave_less_to_the_parameters():
    added = []
    for n_obs in (100, 1600):
        model = fitted(simulated(n_obs))
        known, all_of_it = (
            np.log(np.divide(*model.get_expression_interval(parameter_uncertainty=u)[::-1])).to_numpy()
            for u in (False, True)
        )
        added.append((all_of_it**2 - known**2).mean())
    assert added[0] / added[1] == pytest.approx(16, rel=0.35)


def test_modalities_and_real_values():
    mdata = scpln.datasets.simulate_multimodal(120, {"rna": 20, "prot": 6}, n_latent=2, missing={"prot": 0.3}, seed=1)
    scpln.model.setup_mudata(mdata, modalities=["rna", "prot"])
    model = fitted(mdata, likelihood={"rna": "poisson", "prot": "nb"})
    lower, upper = model.get_expression_interval(library_size="latent")
    expected = model.get_normalized_expression(library_size="latent")
    assert (lower.isna() == expected.isna()).all(axis=None)
    assert lower.isna().any(axis=None)
    assert (expected.isna() | ((lower < expected) & (expected < upper))).mean(axis=None) > 0.99
    random = np.random.default_rng(0)
    values = random.normal(size=(200, 2)) @ random.normal(size=(2, 15)) + random.normal(size=(200, 15))
    widths = []
    for unit in (1.0, 1000.0):
        adata = ad.AnnData(unit * values)
        setup_anndata(adata, is_count_data=False)
        lower, upper = fitted(adata, likelihood="gaussian").get_expression_interval()
        widths.append((upper - lower).to_numpy() / unit)
    assert widths[1] == pytest.approx(widths[0], rel=0.02)


def test_what_it_needs_is_said(batches, tmp_path):
    batches.save(tmp_path / "model")
    alone = PLNPCA.load(tmp_path / "model", batches.adata.copy())
    assert alone.get_expression_interval()[0].to_numpy() == pytest.approx(
        batches.get_expression_interval()[0].to_numpy(), rel=0.02
    )
    mapped = PLNPCA.load_query_data(batches.adata[:40].copy(), batches)
    mapped.train(progress=False)
    with pytest.raises(ValueError, match="genes come from a reference"):
        mapped.get_expression_interval()
    assert mapped.get_expression_interval(parameter_uncertainty=False)[0].shape == (40, 40)
    with pytest.raises(ValueError, match="that of one batch"):
        batches.get_expression_interval(transform_batch=["0", "1"])


def test_flows_have_intervals_but_no_wider_gaussians():
    adata = make_adata(n_obs=60, n_vars=12)
    setup_anndata(adata)
    model = PLNPCA(adata, 2, posterior="flow")
    model.train(progress=False, n_steps=5)
    with pytest.raises(ValueError, match="widens Gaussian posteriors"):
        model.get_posterior(parameter_uncertainty=True)
    lower, upper = model.get_expression_interval()
    assert (lower < upper).all(axis=None)
