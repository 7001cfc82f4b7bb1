"""What several rows have in common."""

from __future__ import annotations

from ._entry import Option, Result

#: Latent dimensions unless the user says otherwise.
N_LATENT = 10
POSTERIORS = ("fullrank", "meanfield", "flow")
FLOWS = ("iaf", "maf", "realnvp", "nsf", "planar", "radial", "sylvester")
LIKELIHOODS = ("poisson", "nb", "zip", "zinb", "poisson_lognormal", "bernoulli", "gaussian")
#: Those of counts.
OF_COUNTS = LIKELIHOODS[:-1]
#: Those with parameters besides the rate.
WITH_PARAMETERS = ("nb", "zip", "zinb", "poisson_lognormal", "gaussian")
#: The one of values that are not counts.
OF_VALUES = "gaussian"

N_SAMPLES = Option(
    "n_samples",
    "draws of each cell, of --inference importance and nuts",
    metavar="K",
    default="200,000 of all cells together, but 100 to 5,000 of each; 400 for nuts; for plnpca, 100,000 and 16 or more",
)
OF_ALL = Result(('uns["KEY"]',), "what was fitted and how")
"""What every model writes."""
OF_GENES = Result(
    ('var["KEY_inverse_dispersion"]', 'var["KEY_zero_inflation"]'),
    "parameters that the likelihood has by gene",
    always=False,
)
"""What likelihoods with parameters write."""
RESULTS = (
    Result(('obsm["X_KEY"]',), 'every cell in latent space: sc.pp.neighbors(adata, use_rep="X_KEY")'),
    Result(('obs["KEY_elbo"]',), "each cell's contribution to the bound, nats"),
    Result(
        ('obs["KEY_iw_bound"]', 'obs["KEY_gap"]', 'obs["KEY_ess"]', 'obs["KEY_pareto_k"]'),
        "how close its posterior is to the exact one, with diagnostics",
        always=False,
    ),
    OF_GENES,
    OF_ALL,
)
"""What every model with a latent state writes."""

#: Of models whose posteriors may come from an encoder.
AMORTIZED = Option(
    "amortized",
    "let an encoder give the posteriors, shared by all cells, from the counts; autoencoders always do",
    "switch",
)
N_STEPS = Option(
    "n_steps",
    "steps of stochastic training, of a flow, an encoder or the importance-weighted bound",
    metavar="N",
    default="1,000, or as many as make ten passes over the data",
)
#: Of models of counts on a tree.
TREE = Option(
    "tree",
    "tree of the columns of the table: columns of var from coarse to fine, such as phylum,class,order, a file in Newick format, "
    "or a name in vart",
    "text",
    default="the only tree in vart, levels kept by tl.composition, or names such as a|b|c",
)
