"""Arguments of scvi-tools' models that have another name here, or none: what to do in their place."""

from __future__ import annotations

from typing import NamedTuple


class Counterpart(NamedTuple):
    """What there is in place of an argument of scvi-tools.

    Parameters
    ----------
    name
        The argument here; None if there is none.
    remedy
        What to do, as a sentence.
    """

    name: str | None
    remedy: str


_COMPUTED_HERE = "PLN-PCA is fitted on the processor: leave it out, or take CountVAE, which trains on a GPU, too."
_CONVERGES = "PLN-PCA goes on until its bound has converged (tol=...), for all cells: leave it out."
_NO_NETWORK = "PLN-PCA has no network with hidden layers: leave it out, or take CountVAE."
_FROZEN = "Nothing of the reference moves, whatever is new about the query: leave it out."
_MODALITIES = "Say of each modality where its counts are: setup_mudata(mdata, modalities={'rna': {'layer': ..., 'size_factor_key': ...}})."
_NO_LOADER = "Data are read from the AnnData, in memory or on disk: leave it out."
_NO_PROTEINS = "There is no model of protein background; proteins are a modality of PLNPCA with setup_mudata."

SCVI_NAMES: dict[str, Counterpart] = {
    # constructors
    "gene_likelihood": Counterpart("likelihood", "Pass likelihood=..., such as 'nb'."),
    "gene_dispersion": Counterpart(
        "dispersion", "Pass dispersion=... to CountVAE or CountGMVAE; PLN-PCA has one for each gene."
    ),
    "dispersion": Counterpart("dispersion", "PLN-PCA has one for each gene: leave it out, or take CountVAE."),
    "use_observed_lib_size": Counterpart(
        "size_factors",
        "Size factors are always observed; size_factors=False of autoencoders leaves depth to the latent state.",
    ),
    "latent_distribution": Counterpart(None, "The latent state is Gaussian: leave it out."),
    "n_hidden": Counterpart("n_hidden", _NO_NETWORK),
    "n_layers": Counterpart("n_layers", _NO_NETWORK),
    "dropout_rate": Counterpart("dropout_rate", _NO_NETWORK),
    "linear_classifier": Counterpart(
        None, "CountGMVAE has a component for each label in place of a classifier: leave it out."
    ),
    "datamodule": Counterpart(None, _NO_LOADER),
    # set-up
    "protein_expression_obsm_key": Counterpart("modalities", _MODALITIES),
    "protein_names_uns_key": Counterpart("modalities", _MODALITIES),
    "rna_layer": Counterpart("modalities", _MODALITIES),
    "protein_layer": Counterpart("modalities", _MODALITIES),
    "size_factor_key": Counterpart("modalities", _MODALITIES),
    # training
    "lr": Counterpart("learning_rate", "Pass learning_rate=..."),
    "plan_kwargs": Counterpart(
        None,
        "Arguments are plain: pass learning_rate=..., and to autoencoders weight_decay=... and kl_warmup=..., one by one.",
    ),
    "plan_config": Counterpart(None, "Arguments are plain: pass learning_rate=... and others one by one."),
    "trainer_config": Counterpart(None, "Arguments are plain: pass max_epochs=... and others one by one."),
    "n_epochs_kl_warmup": Counterpart("kl_warmup", "Pass kl_warmup=..., a share of the planned steps, such as 0.3."),
    "n_steps_kl_warmup": Counterpart("kl_warmup", "Pass kl_warmup=..., a share of the planned steps, such as 0.3."),
    "train_size": Counterpart("validation_size", "Pass validation_size=..., which is 1 - train_size."),
    "validation_size": Counterpart("validation_size", _CONVERGES),
    "early_stopping": Counterpart("early_stopping", _CONVERGES),
    "check_val_every_n_epoch": Counterpart(None, _CONVERGES),
    "accelerator": Counterpart("accelerator", _COMPUTED_HERE),
    "devices": Counterpart("devices", _COMPUTED_HERE),
    "reduce_lr_on_plateau": Counterpart(None, "The learning rate falls by itself: leave it out."),
    "shuffle_set_split": Counterpart(None, "Held-out cells are a random share: leave it out."),
    "load_sparse_tensor": Counterpart(None, "Sparse counts stay sparse: leave it out."),
    "datasplitter_kwargs": Counterpart(None, "Arguments are plain: pass validation_size=... and batch_size=..."),
    "external_indexing": Counterpart(None, "Held-out cells are a random share, validation_size=...: leave it out."),
    "n_samples_per_label": Counterpart(None, "All labelled cells train: leave it out."),
    "adversarial_classifier": Counterpart(None, "Batches are covariates of the decoder: leave it out."),
    # results
    "give_mean": Counterpart(None, "The posterior mean is given; get_posterior().sample(...) draws."),
    "mc_samples": Counterpart(None, "The posterior mean is given; get_posterior().sample(...) draws."),
    "dataloader": Counterpart(None, _NO_LOADER),
    "data_loader_kwargs": Counterpart(None, _NO_LOADER),
    "silent": Counterpart(None, "scvi.settings.verbosity and progress bars are for all: leave it out."),
    "soft": Counterpart(None, "get_cluster_probabilities() has the probabilities, predict() the most probable."),
    "use_posterior_mean": Counterpart(None, "Probabilities are those under each cell's posterior: leave it out."),
    "n_samples_overall": Counterpart(
        "n_samples", "Pass n_samples=..., draws of each cell, and indices=... for some cells."
    ),
    "protein_list": Counterpart("gene_list", "Pass gene_list=..., of genes and other features of all modalities."),
    "scale_protein": Counterpart(None, _NO_PROTEINS),
    "include_protein_background": Counterpart(None, _NO_PROTEINS),
    "sample_protein_mixing": Counterpart(None, _NO_PROTEINS),
    # query mapping
    "unfrozen": Counterpart(None, _FROZEN),
    "freeze_dropout": Counterpart(None, _FROZEN),
    "freeze_expression": Counterpart(None, _FROZEN),
    "freeze_decoder_first_layer": Counterpart(None, _FROZEN),
    "freeze_batchnorm_encoder": Counterpart(None, _FROZEN),
    "freeze_batchnorm_decoder": Counterpart(None, _FROZEN),
    "freeze_classifier": Counterpart(None, _FROZEN),
    "transfer_batch": Counterpart(None, "New batches get coefficients of their own: leave it out."),
}
"""What a function says that does not take the argument. The page of questions for users of scvi-tools has the same names."""


def in_our_words(argument: str) -> str | None:
    """Name here of an argument of scvi-tools; None if it has none, or another.

    Examples
    --------
    >>> in_our_words("lr"), in_our_words("n_latent")
    ('learning_rate', None)
    """
    return SCVI_NAMES[argument].name if argument in SCVI_NAMES else None
