"""CountVQVAE: its bounds against sums over all codes, its codes, new cells, and what it writes, saves and refuses."""

import copy
import itertools

import anndata as ad
import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import chisquare, nbinom

from scpln.datasets import simulate
from scpln.model import CountVQVAE, setup_anndata
from scpln.tl import evaluate
from scpln.utils import keywords

from .test_arguments import DATA, ELSEWHERE, refused, wrong_for

METHODS = [
    "get_code_genes",
    "get_code_usage",
    "get_codes",
    "get_cost_estimate",
    "get_elbo",
    "get_latent_representation",
    "get_normalized_expression",
    "get_posterior",
    "get_summed_bound",
    "posterior_predictive_sample",
    "prior_predictive_sample",
    "sample",
    "train",
]
SMALL = {"n_codes": 2, "codebook_size": 3, "n_hidden": 8}
SETTINGS = {"max_epochs": 4, "progress": False, "seed": 0}


def make_adata(n_obs=120, n_vars=15):
    adata = simulate(n_obs=n_obs, n_vars=n_vars, n_latent=2, n_batches=2, density=0.6, seed=0)
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    return adata


def trained(adata=None, setup=None, train=None, **arguments):
    adata = make_adata() if adata is None else adata
    setup_anndata(adata, **{"batch_key": "batch", "labels_key": "kind", **(setup or {})})
    model = CountVQVAE(adata, **{**SMALL, **arguments})
    model.train(**{**SETTINGS, **(train or {})})
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


def log_joint_of_every_state(model):
    """Log p(y, k) of all K^M joint states by scipy's negative binomial, (states, n), and log p(k)."""
    data = model._read(None).data
    options = model.options
    every = torch.tensor(list(itertools.product(range(options.codebook_size), repeat=options.n_codes)))
    groups = model._groups_of(data)
    dispersion = model.get_gene_parameters()["inverse_dispersion"].to_numpy()
    values, priors = [], []
    for codes in every:
        z = model.module.quantizer.lookup(codes.expand(data.n_cells, -1)).numpy()
        eta = model.module.decode(z, data.design)[0].numpy() + data.offsets[:, None]
        likelihood = nbinom.logpmf(data.counts.toarray(), dispersion, dispersion / (dispersion + np.exp(eta)))
        group = None if groups is None else torch.from_numpy(groups)
        priors.append(model.module.states.codes.log_prob(codes.expand(data.n_cells, -1), group).numpy())
        values.append(likelihood.sum(1) + priors[-1])
    return every.numpy(), np.array(values), np.array(priors)


@pytest.mark.parametrize("prior", ["uniform", "independent", "autoregressive"])
@pytest.mark.parametrize("prior_given", [None, "batch", "labels"])
def test_bounds_are_below_the_sum_over_all_states(prior, prior_given):
    if prior == "uniform" and prior_given is not None:
        pytest.skip("it is given nothing")
    model = trained(prior=prior, prior_given=prior_given, train={"start": "random"})
    every, joint, priors = log_joint_of_every_state(model)
    np.testing.assert_allclose(logsumexp(priors, axis=0), 0, atol=1e-5)
    if prior == "uniform":
        np.testing.assert_allclose(priors, -2 * np.log(3), rtol=1e-6)

    cells = np.arange(joint.shape[1])
    codes = model.get_codes().to_numpy(dtype=int)
    own = codes @ [3, 1]
    elbo, exact = model.get_elbo(return_mean=False), logsumexp(joint, axis=0)
    np.testing.assert_allclose(elbo, joint[own, cells], rtol=2e-5)
    near = (every[:, None] != codes).sum(-1) <= 1
    summed = model.get_summed_bound(return_mean=False)
    np.testing.assert_allclose(summed, logsumexp(np.where(near, joint, -np.inf), axis=0), rtol=2e-5)
    assert (elbo <= summed + 1e-4).all()
    assert (summed <= exact + 1e-3).all()


def test_with_one_position_the_sum_is_the_log_likelihood():
    model = trained(n_codes=1, codebook_size=6, train={"start": "random"})
    _, joint, _ = log_joint_of_every_state(model)
    np.testing.assert_allclose(model.get_summed_bound(return_mean=False), logsumexp(joint, axis=0), rtol=2e-5)
    best = model.get_codes(refine=1).to_numpy(dtype=int)[:, 0]
    np.testing.assert_array_equal(best, joint.argmax(0))


def test_refined_codes_have_higher_bounds(model):
    before, after = model.get_elbo(return_mean=False), model.get_elbo(return_mean=False, refine=5)
    assert (after >= before - 1e-4).all()
    _, joint, _ = log_joint_of_every_state(model)
    assert (after <= joint.max(0) + 1e-3).all()
    refined = model.get_codes(refine=5).to_numpy(dtype=int)
    for m, k in itertools.product(range(2), range(3)):  # no change of one code is better
        changed = refined.copy()
        changed[:, m] = k
        assert (joint[changed @ [3, 1], np.arange(len(changed))] <= after + 1e-3).all()


def test_one_code_is_a_model_of_the_design_alone():
    model = trained(n_codes=1, codebook_size=1)
    assert not model.get_codes().to_numpy(dtype=int).any()
    assert np.ptp(model.get_latent_representation(), axis=0).max() == 0
    np.testing.assert_allclose(model.get_summed_bound(return_mean=False), model.get_elbo(return_mean=False), rtol=1e-6)
    rates = model.get_normalized_expression(return_numpy=True)
    for batch in model.adata.obs["batch"].unique():
        assert np.ptp(rates[(model.adata.obs["batch"] == batch).to_numpy()], axis=0).max() < 1e-5


@pytest.mark.parametrize("quantizer", ["ema", "fsq"])
def test_results_are_those_of_codes(quantizer):
    model = trained(quantizer=quantizer, codebook_size=4)
    codes = model.get_codes()
    assert list(codes.index) == list(model.adata.obs_names)
    assert all(list(codes[m].cat.categories) == [0, 1, 2, 3] for m in codes)
    numbers = codes.to_numpy(dtype=int)
    vectors = model.module.quantizer.lookup(torch.from_numpy(numbers)).numpy()
    np.testing.assert_allclose(model.get_latent_representation(), vectors)
    posterior = model.get_posterior(indices=[3, 1])
    np.testing.assert_allclose(posterior.sample(2)[1], vectors[[3, 1]])
    np.testing.assert_array_equal(posterior.codes, numbers[[3, 1]])

    usage = model.get_code_usage()
    for m in range(2):
        shares = np.bincount(numbers[:, m], minlength=4) / len(numbers)
        assert usage.loc[str(m), "used"] == (shares > 0).sum()
        assert usage.loc[str(m), "dead"] == (shares == 0).sum()
        some = shares[shares > 0]
        np.testing.assert_allclose(usage.loc[str(m), "perplexity"], np.prod(some**-some))
    assert usage.loc["joint", "used"] == len(np.unique(numbers, axis=0)) == model.training_["n_joint_states"]


def test_cells_are_treated_alike(model):
    """In any order and number, dense or sparse, new or not; and with the same seed, training is the same."""
    some = model.adata[[7, 3, 50]].copy()
    some.X = some.X.toarray()
    np.testing.assert_allclose(
        model.get_elbo(some, return_mean=False), model.get_elbo(indices=[7, 3, 50], return_mean=False)
    )
    again = trained()
    assert again.get_codes().equals(model.get_codes())
    assert again.training_["elbo"] == model.training_["elbo"]


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    loaded = CountVQVAE.load(tmp_path / "model")
    assert loaded.get_codes().equals(model.get_codes())
    assert loaded.get_elbo() == model.get_elbo()
    assert loaded.sample(5, seed=1).X.toarray().tolist() == model.sample(5, seed=1).X.toarray().tolist()


def test_annotated(model, tmp_path):
    adata = model.adata.copy()
    model.annotate(adata)
    adata.write_h5ad(tmp_path / "out.h5ad")
    written = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(written.obsm["countvqvae_codes"], model.get_codes().to_numpy(dtype=int))
    np.testing.assert_allclose(written.obsm["X_countvqvae"], model.get_latent_representation())
    np.testing.assert_allclose(written.obs["countvqvae_elbo"], model.get_elbo(return_mean=False))
    with pytest.raises(ValueError, match="CountVQVAE has no diagnostics of posteriors"):
        model.annotate(adata, diagnostics=True)
    assert f"codes: {model.training_['n_dead_codes']} dead, perplexity" in repr(model)
    assert (written.uns["countvqvae"]["n_codes"], written.uns["countvqvae"]["codebook_size"]) == (2, 3)


def test_evaluated(model):
    found = evaluate(model, labels_key="kind")
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"])
    assert found["elbo"] == pytest.approx(model.get_elbo())
    assert found["summed_bound"] == pytest.approx(model.get_summed_bound())
    assert found["n_joint_states"] == model.training_["n_joint_states"]
    assert 0 <= found["nmi"] <= 1


def test_samples_have_the_codes_of_the_prior_and_what_is_given():
    model = trained(prior="independent", prior_given="batch")
    names = model.adata.obs["batch"].unique()
    for number, name in enumerate(sorted(names)):
        cells = model.sample(3000, given={"batch": name}, seed=number)
        assert set(cells.obs["batch"].astype(str)) == {str(name)}
        shares = model.module.states.codes.table[number, 0].exp().double().numpy()
        observed = np.bincount(cells.obsm["codes"][:, 0], minlength=3)
        assert chisquare(observed, 3000 * shares / shares.sum()).pvalue > 0.01


def test_samples_of_a_label_have_its_genes_and_the_depths_of_cells():
    adata = make_adata(300)
    model = trained(adata, prior_given="labels", n_codes=1, codebook_size=8, train={"max_epochs": 60})
    means = {}
    for kind in ("high", "low"):
        cells = model.sample(2000, given={"kind": kind})
        means[kind] = np.log(np.asarray(cells.X.mean(0)).ravel() + 0.1)
    found = means["high"] - means["low"]
    counts = {kind: adata[adata.obs["kind"] == kind].X.toarray().mean(0) for kind in means}
    expected = np.log(counts["high"] + 0.1) - np.log(counts["low"] + 0.1)
    assert np.corrcoef(found, expected)[0, 1] > 0.8
    every = model.sample(4000)
    for kind in means:
        same = every[every.obs["kind"] == kind], model.sample(2000, given={"kind": kind})
        shares = [np.bincount(cells.obsm["codes"][:, 0], minlength=8) / cells.n_obs for cells in same]
        np.testing.assert_allclose(*shares, atol=0.06)
    totals = np.asarray(every.X.sum(1)).ravel()
    observed = np.asarray(adata.X.sum(1)).ravel()
    assert abs(np.log(totals + 1).std() / np.log(observed + 1).std() - 1) < 0.3


def test_genes_of_codes_are_differences_of_the_decoder(model):
    genes = model.get_code_genes(1)
    data, codes = model._read(None).data, model.get_codes().to_numpy(dtype=int)
    eta = []
    for k in range(3):
        changed = codes.copy()
        changed[:, 1] = k
        z = model.module.quantizer.lookup(torch.from_numpy(changed)).numpy()
        eta.append(model.module.decode(z, data.design)[0].numpy())
    shares = np.bincount(codes[:, 1], minlength=3) / len(codes)
    mean = sum(share * each for share, each in zip(shares, eta, strict=True))
    for k in np.flatnonzero(shares):
        np.testing.assert_allclose(genes[k], (eta[k] - mean).mean(0), atol=1e-4)


@pytest.mark.parametrize("likelihood", ["poisson", "zinb", "bernoulli", "gaussian"])
def test_other_likelihoods(likelihood):
    adata, real = make_adata(60), likelihood == "gaussian"
    if real:
        adata.X = np.log1p(adata.X.toarray())
    model = trained(adata, setup={"is_count_data": not real}, likelihood=likelihood)
    assert np.isfinite(model.get_summed_bound())
    assert model.sample(4).shape == (4, 15)


def test_it_learns_more_than_chance():
    """Codes of a held-out half say more of its counts than a model without states does, and training cells are not learned by heart."""
    adata = simulate(n_obs=400, n_vars=30, n_latent=3, density=0.6, seed=1)
    train, test = adata[:300].copy(), adata[300:].copy()
    setup_anndata(train)
    bounds = {}
    for n_codes, size in ((1, 1), (2, 8)):
        model = CountVQVAE(train, n_codes=n_codes, codebook_size=size, n_hidden=16)
        model.train(max_epochs=25, batch_size=32, progress=False)
        bounds[size] = model.get_elbo(test)
    assert bounds[8] > bounds[1] + 1
    assert model.training_["n_dead_codes"] == 0
    assert abs(model.get_elbo() - model.get_elbo(test)) < 10


def test_constant_genes_are_no_harm():
    adata = make_adata(60)
    counts = adata.X.toarray()
    counts[:, 0], counts[:, 1] = 3, 0
    adata.X = counts
    with pytest.warns(UserWarning, match="1 of 15 genes in adata.X have no counts"):
        model = trained(adata)
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    assert np.isfinite(model.get_code_genes().dropna(axis=1)).all(axis=None)


def test_more_codes_than_cells_and_too_much_capacity():
    with pytest.warns(UserWarning, match=r"hold 27\.7 nats, and the counts of a cell say about"):
        model = trained(make_adata(20), n_codes=4, codebook_size=1024)
    assert np.isfinite(model.get_elbo())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantizer": "fsq", "codebook_size": 1}, "codebook_size=1, but it must be"),
        ({"quantizer": "fsq", "code_dim": 7}, "code_dim=7, but codebook_size=3 of quantizer='fsq' makes it 1"),
        ({"n_codes": 60, "code_dim": 20}, "together they can be at most 500"),
        ({"prior": "uniform", "prior_given": "batch"}, "prior_given='batch' is for a prior that is learned"),
        ({"prior_given": "cells"}, "prior_given='cells'"),
        ({"gradient": "soft"}, "gradient='soft'"),
    ],
)
def test_wrong_choices(arguments, message):
    adata = make_adata(30)
    setup_anndata(adata, batch_key="batch")
    with pytest.raises(ValueError, match=message):
        CountVQVAE(adata, **{**SMALL, **arguments})


def test_what_is_given_has_to_be_there(model):
    adata = make_adata(30)
    setup_anndata(adata)
    with pytest.raises(
        ValueError, match=r"prior_given='labels' needs a column of obs: name it in setup_anndata\(\.\.\., labels_key"
    ):
        CountVQVAE(adata, prior_given="labels")
    adata.obs["none"] = np.array([None] * 30, dtype=object)
    setup_anndata(adata, labels_key="none")
    with pytest.raises(ValueError, match="all are missing in the labels_key"):
        CountVQVAE(adata, prior_given="labels")
    with pytest.raises(ValueError, match="given has 'colour', but the model was set up with these columns"):
        model.sample(3, given={"colour": "red"})
    with pytest.raises(ValueError, match="no training cell is so"):
        model.sample(3, given={"batch": "middle"})
    with pytest.raises(ValueError, match="given has labels 'kind', but codes do not depend on labels"):
        model.sample(3, given={"kind": "high"})
    with pytest.raises(ValueError, match="position=2"):
        model.get_code_genes(2)


@pytest.fixture(scope="module")
def reference():
    adata = simulate(n_obs=240, n_vars=20, n_latent=2, n_batches=3, density=0.7, seed=2)
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    new = (adata.obs["batch"] == adata.obs["batch"].unique()[-1]).to_numpy()
    known, query = adata[~new].copy(), adata[new].copy()
    query.X = query.X.toarray() * np.resize(
        [1.0, 2.0, 3.0], 20
    )  # what is new about the batch: some genes are caught more often
    setup_anndata(known, batch_key="batch")
    model = CountVQVAE(known, **SMALL, prior_given="batch")
    model.train(max_epochs=15, batch_size=32, progress=False)
    return model, query


def test_cells_of_a_new_batch_are_mapped(reference, tmp_path):
    model, query = reference
    mapped = CountVQVAE.load_query_data(query, model)
    start = copy.deepcopy(mapped)
    start.is_trained_ = True
    before = start.get_elbo(query)
    mapped.train(progress=False)
    assert mapped.get_elbo() > before + 0.5
    state = {
        name: value for name, value in mapped.module.state_dict().items() if "quantizer" in name or "codes" in name
    }
    for name, value in state.items():
        assert torch.equal(value, model.module.state_dict()[name]), name
    np.testing.assert_allclose(  # cells of known batches are where they were
        mapped.get_elbo(model.adata, return_mean=False), model.get_elbo(return_mean=False), rtol=1e-5
    )
    assert mapped.get_codes(model.adata).equals(model.get_codes())
    bounds = mapped.get_elbo(return_mean=False)
    codes = torch.from_numpy(mapped.get_codes().to_numpy(dtype=int))
    log_prior = mapped.module.states.codes.log_prob(codes).numpy()  # summed over the batches that it knows
    np.testing.assert_allclose(evaluate(mapped).cells["kl"], -log_prior, rtol=1e-5)
    assert set(mapped.sample(5).obs["batch"]) == set(query.obs["batch"])
    mapped.save(tmp_path / "mapped", save_anndata=True)
    np.testing.assert_allclose(CountVQVAE.load(tmp_path / "mapped").get_elbo(return_mean=False), bounds)


def test_cells_of_known_batches_need_no_training(reference):
    model, _ = reference
    some = model.adata[:30].copy()
    mapped = CountVQVAE.load_query_data(some, model)
    assert mapped.stop_reason == "nothing to train"
    np.testing.assert_allclose(mapped.get_elbo(return_mean=False), model.get_elbo(indices=range(30), return_mean=False))


@pytest.mark.filterwarnings("ignore")
def test_constructor_refuses_what_is_not_its_kind():
    adata = make_adata(20, 6)
    setup_anndata(adata, batch_key="batch", labels_key="kind")
    for name in set(keywords(CountVQVAE.__init__)) - DATA:
        for value in wrong_for(name):
            refused(lambda **given: CountVQVAE(adata, **given), name, value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_methods_refuse_what_is_not_their_kind(model, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in set(keywords(getattr(CountVQVAE, method))) - DATA - ELSEWHERE:
        for value in wrong_for(name):
            refused(getattr(model, method), name, value)
    assert not list(tmp_path.iterdir())


def test_training_leaves_random_numbers_and_data_as_they_were():
    adata = make_adata(40)
    before, states = adata.copy(), (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    model = trained(adata)
    model.sample(5)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert (adata.X != before.X).nnz == 0
    assert list(adata.obs) == list(before.obs)
    assert list(adata.obsm) == list(before.obsm)
