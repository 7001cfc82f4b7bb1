"""The models by name: a row says what the command line, the one-call functions, the Hub and the documentation say of each.

Plain data, so that the command line can list models, options and likelihoods without importing what takes seconds. Tests hold
the rows against the classes. A further model is one more row, added by `register` before the command line runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POSTERIORS = ("fullrank", "meanfield", "flow")
FLOWS = ("iaf", "maf", "realnvp", "nsf", "planar", "radial", "sylvester")
LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "bernoulli", "gaussian")
#: Those with parameters besides the rate.
WITH_PARAMETERS = ("nb", "zip", "zinb", "gaussian")
#: The one of values that are not counts.
OF_VALUES = "gaussian"

#: What the text of an option is turned into.
Kind = Literal["positive", "not_negative", "number", "switch", "directory", "column", "choice"]


@dataclass(frozen=True)
class Option:
    """An option that some models have only: an argument of the set-up, the constructor or ``train`` of these.

    Parameters
    ----------
    name
        The argument; the option has dashes in place of underscores.
    help
        What it is, in a few words.
    kind
        What it takes: a whole number of at least 1 or 0, a number above 0, nothing (with ``--no-…``), a directory, a column
        of ``obs``, or one of `choices`.
    default
        What it is if it is not given, for the help.
    metavar
        What the help calls the value.
    choices
        Values of a choice.
    """

    name: str
    help: str
    kind: Kind = "positive"
    default: object = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Something that a model writes into the annotated data.

    Parameters
    ----------
    places
        Where, with ``KEY`` for the name of the results.
    description
        What it is, in one line.
    always
        Whether it is there after every fit.
    """

    places: tuple[str, ...]
    description: str
    always: bool = True


@dataclass(frozen=True)
class Entry:
    """A model. Each has ``n_latent`` in its constructor and ``seed`` in ``train``.

    Parameters
    ----------
    key
        Name on the command line, and of results in ``uns``.
    class_path
        Module and name of the class.
    summary
        What it is, in a few words.
    sentence
        The same as a sentence, for a model card.
    likelihoods, posteriors
        Choices of these, the default first; none if the constructor does not take them.
    function
        Name in ``scpln.tl`` of the function that does all in one call, if there is one.
    page
        Page of the documentation, from ``docs`` on, if there is one.
    options
        Those beyond the options that all models have.
    defaults
        What options of all models are if they are not given, as the help says it.
    notes
        What options of all models mean for this one besides what they mean for all.
    results
        What it writes beyond `RESULTS`.
    figures
        Functions of ``scpln.pl`` that draw what not every model writes.
    takes_mudata
        Whether it models several modalities of a MuData together.
    stochastic, closed_form
        Options of stochastic training, and the values of options with all of which there is no such training.
    """

    key: str
    class_path: str
    summary: str
    sentence: str = "A model of counts."
    likelihoods: tuple[str, ...] = ()
    posteriors: tuple[str, ...] = ()
    function: str | None = None
    page: str | None = None
    options: tuple[Option, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    figures: tuple[str, ...] = ()
    takes_mudata: bool = False
    stochastic: tuple[str, ...] = ()
    closed_form: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return self.class_path.rpartition(".")[2]

    def load_class(self) -> Any:
        """The class, imported only now."""
        module, _, name = self.class_path.rpartition(".")
        return getattr(import_module(module), name)


RESULTS = (
    Result(('obsm["X_KEY"]',), 'latent state of every cell: sc.pp.neighbors(adata, use_rep="X_KEY")'),
    Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
    Result(
        ('obs["KEY_iw_bound"]', 'obs["KEY_gap"]', 'obs["KEY_ess"]', 'obs["KEY_pareto_k"]'),
        "how close its posterior is to the exact one, where that is quick to say",
        always=False,
    ),
    Result(
        ('var["KEY_inverse_dispersion"]', 'var["KEY_zero_inflation"]'),
        "parameters that the likelihood has by gene",
        always=False,
    ),
    Result(('uns["KEY"]',), "what was fitted and how"),
)
"""What every model writes."""

AUTOENCODER = partial(
    Entry,
    likelihoods=("nb", "poisson", "zip", "zinb", "constrained_poisson", "bernoulli", "gaussian"),
    posteriors=POSTERIORS,
    defaults={
        "max_epochs": "as many as suit the number of cells",
        "batch_size": 128,
        "learning_rate": 0.002,
        "n_threads": "as many as pay",
    },
)
"""A row of an autoencoder, and the options that autoencoders have."""
AUTOENCODER_OPTIONS = (
    Option("n_hidden", "width of hidden layers", metavar="N", default=128),
    Option(
        "n_layers",
        "hidden layers of encoder and decoder; 0 makes the decoder linear",
        "not_negative",
        metavar="N",
        default=1,
    ),
    Option(
        "dispersion",
        "whose the likelihood's parameters besides the rate are",
        "choice",
        choices=("gene", "gene-batch", "gene-cell"),
        default="gene",
    ),
    Option("k_max", "give counts below K probabilities of their own", metavar="K", default="none"),
    Option(
        "early_stopping",
        "whether to stop when held-out cells no longer gain, and keep the weights that were best for them, or to go "
        "through all epochs and keep the last",
        "switch",
        default="stop",
    ),
    Option(
        "accelerator",
        "where to compute",
        "choice",
        choices=("auto", "cpu", "gpu", "mps"),
        default="a GPU if there is one",
    ),
    Option("checkpoint_dir", "directory to keep the state of training in, epoch by epoch", "directory"),
    Option("resume", "go on from the checkpoint in --checkpoint-dir, if there is one", "switch"),
)

MODELS = {
    entry.key: entry
    for entry in (
        Entry(
            "plnpca",
            "scpln.model.PLNPCA",
            "Poisson log-normal PCA",
            "Poisson log-normal principal component analysis: a linear latent variable model of counts.",
            likelihoods=LIKELIHOODS,
            posteriors=POSTERIORS,
            function="plnpca",
            page="models/plnpca",
            options=(
                Option(
                    "amortized",
                    "let an encoder give the posteriors, shared by all cells, from the counts; autoencoders always do",
                    "switch",
                ),
                Option(
                    "n_steps",
                    "steps of stochastic training, of a flow, an encoder or the importance-weighted bound",
                    metavar="N",
                    default="1,000, or as many as make ten passes over the data",
                ),
                Option(
                    "n_importance_samples",
                    "train on the importance-weighted bound with so many draws, if above 1",
                    metavar="K",
                    default=1,
                ),
            ),
            defaults={"max_epochs": 500, "batch_size": 512, "learning_rate": 0.004, "n_threads": "all"},
            notes={"max_epochs": "of the Gaussians", "batch_size": "also in memory at a time"},
            results=(Result(('varm["KEY_loadings"]',), "loadings of every gene"),),
            figures=("loadings", "correlation_circle", "variance_explained", "gene_correlation"),
            takes_mudata=True,
            stochastic=("n_steps", "learning_rate"),
            closed_form={
                "posterior": ("fullrank", "meanfield"),
                "amortized": (None, False),
                "n_importance_samples": (None, 1),
            },
        ),
        AUTOENCODER(
            "countvae",
            "scpln.model.CountVAE",
            "variational autoencoder",
            "A variational autoencoder of counts.",
            function="count_vae",
            page="models/count_vae",
            options=AUTOENCODER_OPTIONS,
        ),
        AUTOENCODER(
            "countgmvae",
            "scpln.model.CountGMVAE",
            "the same with a mixture prior, which clusters cells",
            "A variational autoencoder of counts with a Gaussian mixture as prior, for clusters.",
            function="count_gmvae",
            page="models/count_gmvae",
            options=(
                *AUTOENCODER_OPTIONS,
                Option(
                    "n_components",
                    "components of the mixture",
                    metavar="K",
                    default="as many as labels, or else a held-out bound chooses",
                ),
                Option(
                    "labels_key",
                    "obs column of labels of some cells, each of which gets a component; missing for the others",
                    "column",
                ),
            ),
            results=(
                Result(
                    ('obs["KEY_cluster"]', 'obsm["KEY_cluster_probs"]'),
                    "cluster of every cell, and probabilities of all clusters",
                ),
            ),
            figures=("cluster_probabilities", "mixture_components"),
        ),
    )
}
"""Rows by key; the first is what is fitted unless the user says otherwise."""


def register(entry: Entry) -> None:
    """Add a model, or replace the one of the same key.

    Examples
    --------
    >>> register(Entry("mine", "my_package.Mine", "a model of mine"))
    >>> of_class("Mine").key
    'mine'
    >>> del MODELS["mine"]
    """
    MODELS[entry.key] = entry


def default_key() -> str:
    """Key of the model that is fitted unless the user says otherwise."""
    return next(iter(MODELS))


def of_class(class_name: str) -> Entry | None:
    """The row of a class; None if there is none."""
    return next((entry for entry in MODELS.values() if entry.class_name == class_name), None)


def of_function(function: str) -> Entry:
    """The row of a function of ``scpln.tl``.

    Examples
    --------
    >>> of_function("count_vae").class_name
    'CountVAE'
    """
    return next(entry for entry in MODELS.values() if entry.function == function)


def keys_of(option: str) -> list[str]:
    """Keys of the models that have an option.

    Examples
    --------
    >>> keys_of("n_hidden")
    ['countvae', 'countgmvae']
    """
    return [key for key, entry in MODELS.items() if option in {each.name for each in entry.options}]


def keys_with(likelihood: str) -> list[str]:
    """Keys of the models that have a likelihood."""
    return [key for key, entry in MODELS.items() if likelihood in entry.likelihoods]


def keys_writing(place: str) -> list[str]:
    """Keys of the models that write into a place, such as ``obs["KEY_cluster"]``."""
    return [key for key, entry in MODELS.items() if any(place in each.places for each in (*RESULTS, *entry.results))]


def options() -> dict[str, Option]:
    """Options that some models have only, by name."""
    found: dict[str, Option] = {}
    for entry in MODELS.values():
        for option in entry.options:
            found.setdefault(option.name, option)
    return found


def results() -> list[Result]:
    """What any model writes, each once."""
    own = [result for entry in MODELS.values() for result in entry.results]
    return list(dict.fromkeys([RESULTS[0], *own, *RESULTS[1:]]))


def likelihoods() -> tuple[str, ...]:
    """Likelihoods of all models."""
    return tuple(dict.fromkeys(name for entry in MODELS.values() for name in entry.likelihoods))


def in_words(keys: Iterable[str], last: str = "and") -> str:
    """Names as a text.

    Examples
    --------
    >>> in_words(["a", "b", "c"]), in_words(["a"])
    ('a, b and c', 'a')
    """
    *first, final = keys
    return f"{', '.join(first)} {last} {final}" if first else final
