"""``scpln fit`` of the autoencoders, and which options belong to which model."""

import argparse
import inspect

import anndata as ad
import numpy as np
import pytest

import scpln
from scpln import cli
from scpln._catalogue import MODELS, keys_of, options
from scpln.cli._errors import CommandError
from scpln.cli.fit import _models as models
from scpln.cli.fit._options import add_options
from scpln.tl._fit import split


@pytest.fixture
def quick_start(monkeypatch):
    """Networks that start at random, since the start that they have otherwise takes most of a short training."""
    from scpln.model.autoencoder._autoencoder import Autoencoder

    train = Autoencoder.train
    monkeypatch.setattr(Autoencoder, "train", lambda self, **more: train(self, **{"start": "random", **more}))


@pytest.fixture
def fit(tmp_path, monkeypatch, quick_start):
    adata = scpln.datasets.simulate(60, 20, n_latent=2, n_batches=2, density=0.5)
    adata.obs["kind"] = np.where(adata.obsm["true_latent"][:, 0] > 0, "high", "low")
    adata.obs.loc[adata.obs_names[::2], "kind"] = np.nan
    adata.write_h5ad(tmp_path / "in.h5ad")
    monkeypatch.chdir(tmp_path)

    def run(*options):
        quick = ["--n-latent", "2", "--n-hidden", "8", "--max-epochs", "3", "--threads", "1"]
        return cli.main(["fit", "in.h5ad", "--out", "out.h5ad", *quick, *options])

    return run


def parsed(*options):
    return options_parser().parse_args(["in.h5ad", "--out", "out.h5ad", *options])


def options_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    add_options(parser)
    return parser


def test_an_autoencoder(fit, capsys):
    options = ["--batch-key", "batch", "--likelihood", "zinb", "--dispersion", "gene-batch", "--seed", "3"]
    assert fit("--model", "countvae", *options) == 0
    out = ad.read_h5ad("out.h5ad")
    expected = ad.read_h5ad("in.h5ad")
    scpln.tl.count_vae(
        expected,
        n_latent=2,
        n_hidden=8,
        batch_key="batch",
        likelihood="zinb",
        dispersion="gene-batch",
        max_epochs=3,
        seed=3,
        n_threads=1,
        progress=False,
    )
    np.testing.assert_array_equal(out.obsm["X_countvae"], expected.obsm["X_countvae"])
    shown = capsys.readouterr().out
    for words in ("CountVAE of in.h5ad", "zinb", "fullrank, from an encoder", "nats, given the size factors"):
        assert words in shown
    assert f"{out.obs['countvae_elbo'].mean():.3f} nats" in shown
    for place in ("obsm['X_countvae']", "var['countvae_zero_inflation']", "uns['countvae']"):
        assert place in shown
    assert "clusters" not in shown


def test_a_mixture_with_labels_and_a_figure(fit, capsys):
    options = ["--labels-key", "kind", "--n-components", "3", "--figure", "umap.png", "--save-model", "model"]
    assert fit("--model", "countgmvae", *options) == 0
    out = ad.read_h5ad("out.h5ad")
    sizes = out.obs["countgmvae_cluster"].value_counts()
    assert set(sizes.index) == {"high", "low", "component 2"}
    shown = capsys.readouterr().out
    assert "obsm['countgmvae_cluster_probs']" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("  clusters"))
    assert f"{(sizes > 0).sum()} of 3 components have cells" in line
    assert f"{sizes.index[0]} ({sizes.iloc[0]})" in line
    loaded = scpln.model.CountGMVAE.load("model", adata=ad.read_h5ad("in.h5ad"))
    np.testing.assert_allclose(loaded.get_latent_representation(), out.obsm["X_countgmvae"], atol=1e-5)
    assert "X_countgmvae_umap" in out.obsm
    assert "countgmvae_cluster_colors" in out.uns  # the figure has them
    assert cli.main(["evaluate", "out.h5ad", "--labels-key", "kind"]) == 0
    assert "countgmvae_cluster" in capsys.readouterr().out


def test_going_on_from_a_checkpoint(fit, capsys):
    options = ["--model", "countvae", "--checkpoint-dir", "state"]
    assert fit(*options, "--resume") == 0
    first = ad.read_h5ad("out.h5ad").obsm["X_countvae"]
    assert fit(*options, "--force") == 1
    assert "state holds a checkpoint of an earlier training; go on from it with --resume" in capsys.readouterr().err
    assert fit(*options, "--force", "--resume") == 0
    np.testing.assert_allclose(ad.read_h5ad("out.h5ad").obsm["X_countvae"], first, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "countvae", "--amortized"], "--amortized has no effect on --model countvae: leave it out, or fit --mo"),
        (["--model", "countgmvae", "--n-steps", "5"], "--n-steps has no effect on --model countgmvae"),
        (["--model", "countvae", "--n-components", "3"], "or fit --model plnpca or --model plnmixture or --model countgmvae"),
        (["--model", "countvae", "--labels-key", "kind"], "--labels-key has no effect on --model countvae"),
        (["--n-hidden", "8"], "--n-hidden has no effect on --model plnpca: leave it out, or fit --model countvae or --model"),
        (["--no-early-stopping"], "--no-early-stopping has no effect on --model plnpca"),
        (["--likelihood", "constrained_poisson"], "--model plnpca has no likelihood constrained_poisson: choose from poisson"),
        (["--model", "countvae", "--flow", "nsf"], "--flow nsf needs --posterior flow"),
        (["--model", "countvae", "--likelihood", "poisson", "--dispersion", "gene-cell"], "--dispersion gene-cell has no effect"),
        (["--model", "plntree", "--n-steps", "5"], "and optimal Gaussians take none; add --amortized"),
        (["--model", "countvae", "--resume"], "--resume goes on from a checkpoint; say where it is with --checkpoint-dir"),
    ],
)  # fmt: skip
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(CommandError) as error:
        models.check_options(parsed(*options))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "countgmvae", "--labels-key", "kinds"], "--labels-key 'kinds' is not in obs"),
        (["--model", "countgmvae", "--labels-key", "kind", "--n-components", "1"], "--n-components 1"),
        (["--model", "countvae", "--likelihood", "gaussian", "--k-max", "3"], "--k-max 3"),
    ],
)
def test_bad_input_is_one_line(fit, capsys, options, message):
    assert fit(*options) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("scpln: error: ")
    assert message in last


@pytest.fixture(scope="module")
def adata():
    return scpln.datasets.simulate(20, 10, n_latent=2)


@pytest.mark.parametrize("key", MODELS)
def test_every_option_reaches_an_argument(key, adata):
    """Given all options that a model has, each comes out as an argument of the set-up, the constructor or `train`."""
    entry, parser = MODELS[key], options_parser()
    outputs = {"out", "key_added", "diagnostics", "figure", "color", "save_model", "summary", "force"}
    elsewhere = {"help", "input", "model", "modality", "config", "write_config", *outputs}
    foreign = {name for name in options() if key not in keys_of(name)}
    flows, counts_only = "flow" in entry.posteriors, not entry.likelihoods
    training = inspect.signature(entry.load_class().train).parameters
    lacking = {name: name not in training for name in ("batch_size", "learning_rate")}
    lacking |= {
        "likelihood": counts_only,
        "flow": not flows,
        "n_latent": not entry.has_latent,
        "posterior": not entry.posteriors,
    }
    without = {name for name, lacks in lacking.items() if lacks}
    argv = [
        "--model",
        key,
        *(["--posterior", entry.posteriors[-1]] if entry.posteriors else []),
        *([] if counts_only else ["--likelihood", entry.likelihoods[-1]]),
    ]
    wanted = set() if counts_only else {"is_count_data"}
    for action in parser._actions:
        if action.dest in elsewhere | foreign | without:
            continue
        wanted.add(models.ARGUMENTS.get(action.dest, action.dest))
        if action.dest not in ("likelihood", "posterior"):
            value = [] if action.nargs == 0 else [list(action.choices or ["3"])[-1]]
            argv += [action.option_strings[0], *value]
    args = parser.parse_args(["in.h5ad", "--out", "o.h5ad", *argv])
    models.check_options(args)
    steps = split(entry.load_class(), adata, models.arguments(args, adata))
    assert set().union(*steps) == wanted


def test_nothing_is_passed_on_that_was_not_given(adata):
    args = parsed("--model", "countvae")
    models.check_options(args)
    given = {"n_latent": 10, "likelihood": "nb", "is_count_data": True, "posterior": "fullrank", "seed": 0}
    assert models.arguments(args, adata) == given
    args = parsed("--model", "countvae", "--no-early-stopping", "--n-layers", "0")
    models.check_options(args)
    assert models.arguments(args, adata) == {**given, "early_stopping": False, "n_layers": 0}


def test_defaults_in_the_help_are_those_of_the_library(capsys):
    from scpln.model.base import FLOW
    from scpln.model.pln._options import MAX_EPOCHS as PLN_MAX_EPOCHS
    from scpln.model.plnpca._training import CELLS_IN_STEP, MAX_EPOCHS

    with pytest.raises(SystemExit, match="0"):
        cli.main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    model = {
        key: entry.load_class()
        for key, entry in MODELS.items()
        if "learning_rate" in inspect.signature(entry.load_class().train).parameters
    }
    rate = {key: default(model[key].train, "learning_rate") for key in model}
    batch = default(model["countvae"].train, "batch_size")
    assert rate["plntree"] == rate["plnpca"]
    assert f"(default: {FLOW})" in text
    assert (
        f"(default: {rate['plnpca']} for plnpca and plntree, {rate['countvae']} for countvae, countgmvae and countvqvae)"
        in text
    )
    assert f"(default: {CELLS_IN_STEP} for plnpca, {batch} for countvae, countgmvae and countvqvae)" in text
    assert (
        f"(default: {MAX_EPOCHS} for plnpca, {PLN_MAX_EPOCHS} for pln, plnmixture, plnlda, plnar, plntree, treewalk and labelregressor, as many as suit"
        in text
    )
    assert f"width of hidden layers (default: {default(model['countvae'], 'n_hidden')})" in text
    assert f"makes the decoder linear (default: {default(model['countvae'], 'n_layers')})" in text
    assert "cluster of every cell, and probabilities of all clusters (plnmixture and countgmvae)" in text


def default(function, name):
    return inspect.signature(function).parameters[name].default
