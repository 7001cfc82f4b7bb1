"""Parameters of the likelihood: as a table, in AnnData, and in what is predicted."""

import numpy as np
import pytest

from scpln.model import PLNPCA, CountVAE, setup_anndata

NAMES = {
    "poisson": [],
    "nb": ["inverse_dispersion"],
    "zip": ["zero_inflation"],
    "zinb": ["inverse_dispersion", "zero_inflation"],
    "poisson_lognormal": ["log_rate_sd"],
    "bernoulli": [],
}


def fit(adata, likelihood: str, **keys) -> PLNPCA:
    setup_anndata(adata, **keys)
    model = PLNPCA(adata, n_latent=2, likelihood=likelihood)
    model.train(progress=False)
    return model


@pytest.mark.parametrize("likelihood", NAMES)
def test_table_and_columns_agree(adata, likelihood):
    model = fit(adata, likelihood, layer="counts")
    model.annotate(key_added="fit")
    table = model.get_gene_parameters()
    assert sorted(table.columns) == NAMES[likelihood]
    assert table.index.to_list() == adata.var_names.to_list()
    for name in table:
        np.testing.assert_array_equal(adata.var[f"fit_{name}"], table[name])
    assert (table.to_numpy() > 0).all()


def test_size_factors_of_real_values_are_added(adata):
    values = np.log1p(adata.layers["counts"].toarray())
    adata.obs["factor"] = np.exp(np.random.default_rng(1).normal(size=adata.n_obs))
    offsets = np.log(adata.obs["factor"].to_numpy())
    offsets -= offsets.mean()
    adata.layers["values"] = values + offsets[:, None]
    model = fit(adata, "gaussian", layer="values", is_count_data=False, size_factor_key="factor")
    expected = model.get_normalized_expression(library_size="latent", return_numpy=True)
    plain = model.get_normalized_expression(return_numpy=True)
    np.testing.assert_allclose(expected - plain, np.broadcast_to(offsets[:, None], plain.shape), atol=1e-5)
    assert np.std(adata.layers["values"] - expected) < 0.8 * np.std(values - values.mean(0))


def test_data_and_likelihood_must_belong_together(adata):
    setup_anndata(adata, layer="counts")
    with pytest.raises(ValueError, match=r"likelihood='gaussian' is for real-valued data, and these are registered"):
        PLNPCA(adata, likelihood="gaussian")
    setup_anndata(adata, layer="counts", is_count_data=False)
    with pytest.raises(ValueError, match=r"likelihood='nb' is for counts, .* Choose likelihood='gaussian'"):
        PLNPCA(adata, likelihood="nb")


@pytest.mark.parametrize("model_class", [PLNPCA, CountVAE])
def test_a_modality_of_one_adata(adata, model_class):
    setup_anndata(adata, layer="counts")
    model = model_class(adata, n_latent=2, likelihood="nb")
    model.train(max_epochs=1, progress=False)
    assert model.get_gene_parameters(modality=None).equals(model.get_gene_parameters())
    with pytest.raises(ValueError, match=r"no modality 'prot'. It was set up with one AnnData: leave modality out"):
        model.get_gene_parameters(modality="prot")
