"""Mixtures of linear classifiers: recovery, the published pathology, peers, and time; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scpln.datasets import simulate_mixture_classifier
from scpln.inference.classifiers import (
    COVARIANCES,
    ClassifierData,
    FitOptions,
    Scaling,
    centred_log_ratio,
    dirichlet_fixed_point,
    dirichlet_newton,
    expectation,
    fit_mixture_classifier,
    maximization,
    start_parameters,
)
from scpln.model import MixtureClassifier

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seeds of simulated sets.
SEEDS = range(3)
FAMILIES = ("gaussian", "dirichlet", "dirichlet_multinomial")


def main() -> None:
    """Run the parts that are asked for."""
    parts = {"recovery": recovery, "scale": scale, "donors": donors, "dirichlet": dirichlet, "speed": speed}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in parser.parse_args().parts:
        parts[name]()
        print(flush=True)


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table as the rows come."""
    names = list(header)
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print(
            "| " + " | ".join(f"{each:.3f}" if isinstance(each, float) else str(each) for each in row) + " |",
            flush=True,
        )


def labels(adata: Any) -> np.ndarray:
    """Labels as text."""
    return adata.obs["label"].astype(str).to_numpy()


def recovery() -> None:
    """5,000 rows of the generators, and 5,000 others: means over seeds."""

    def rows() -> Iterable[list[Any]]:
        for family in FAMILIES:
            for k, p in ((2, None), (3, 6)):
                found = []
                for seed in SEEDS:
                    adata = simulate_mixture_classifier(
                        10_000, components=family, n_components=k, n_vars=p, standardize=True, seed=seed
                    )
                    train, test = adata[:5000], adata[5000:]
                    y = labels(test) == "case"
                    model = MixtureClassifier(k, components=family, n_init=3).fit(train.X, labels(train))
                    own = train.X if family == "gaussian" else centred_log_ratio(train.X, 0.5 * (family[-1] == "l"))
                    new = test.X if family == "gaussian" else centred_log_ratio(test.X, 0.5 * (family[-1] == "l"))
                    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(own, labels(train))
                    found.append(
                        [
                            ((test.obs["true_probability"] > 0.5) == y).mean(),
                            model.score(test.X, labels(test)),
                            line.score(new, labels(test)),
                            adjusted_rand_score(test.obs["component"], model.predict_component(test.X)),
                            MixtureClassifier(components=family, n_init=4).fit(train.X, labels(train)).n_components_
                            == k,
                        ]
                    )
                mean = np.mean(found, axis=0)
                least = np.min([each[1] - each[0] for each in found])
                yield [family, k, train.n_vars, *map(float, mean[:3]), float(least), float(mean[3]), f"{mean[4]:.0%}"]

    table(
        (
            "components",
            "K",
            "columns",
            "truth",
            "mixture",
            "logistic",
            "worst of mixture − truth",
            "ARI",
            "K chosen by BIC",
        ),
        rows(),
    )


def scale() -> None:
    """Within components, how well the truth itself and the fit predict labels, by the scale of the rows."""

    def rows() -> Iterable[list[Any]]:
        for standardize in (False, True):
            for factor in (1.0, 0.3, 0.1, 0.01):
                truth, fit = [], []
                for seed in SEEDS:
                    adata = simulate_mixture_classifier(5000, scale=factor, standardize=standardize, seed=seed)
                    model = MixtureClassifier(2, n_init=4).fit(adata.X, labels(adata))
                    predicted = model.predict_proba(adata.X)[:, 0]
                    for k in "01":
                        mine = (adata.obs["component"] == k).to_numpy()
                        y = labels(adata)[mine] == "case"
                        truth.append(roc_auc_score(y, adata.obs["true_probability"][mine]))
                        fit.append(roc_auc_score(y, predicted[mine]))
                yield [
                    "on one scale" if standardize else "as published",
                    factor,
                    float(np.mean(truth)),
                    float(np.mean(fit)),
                ]

    table(("labels by", "scale of rows", "AUROC of the truth", "of the fit"), rows())


def donors() -> None:
    """Donors of two hidden kinds, in which a label depends on other cell types: fitted to n, tested on 2,000 others."""

    def rows() -> Iterable[list[Any]]:
        for n in (50, 200):
            for same in (True, False):
                found = []
                for seed in range(5):
                    random = np.random.default_rng(seed)
                    alpha = random.gamma(1.0, 3.0, (2, 20)) + 0.3
                    kind = random.integers(2, size=n + 2000)
                    shares = random.standard_gamma(alpha[np.zeros_like(kind) if same else kind])
                    shares /= shares.sum(1, keepdims=True)
                    counts = random.multinomial(2000, shares).astype(float)
                    features = centred_log_ratio(counts, 0.5)
                    rule = np.where(kind == 1, features[:, 0] - features[:, 2], features[:, 1] - features[:, 0])
                    rule = features[:, 1] - features[:, 0] if same else rule
                    rule = (rule - rule.mean()) / rule.std()
                    y = (random.random(n + 2000) < expit(2 * rule)).astype(int)
                    model = MixtureClassifier(components="dirichlet_multinomial", max_components=3, n_init=3).fit(
                        counts[:n], y[:n]
                    )
                    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(features[:n], y[:n])
                    found.append(
                        [
                            model.n_components_,
                            roc_auc_score(y[n:], model.predict_proba(counts[n:])[:, 1]),
                            roc_auc_score(y[n:], line.predict_proba(features[n:])[:, 1]),
                        ]
                    )
                mean = np.mean(found, axis=0)
                yield [n, "one" if same else "two", f"{mean[0]:.1f}", float(mean[1]), float(mean[2])]

    table(("donors", "kinds", "K chosen by BIC", "AUROC of the mixture", "CLR + ridge logistic"), rows())


def dirichlet() -> None:
    """Maximum likelihood by Newton's method and by the fixed point, beside the package `dirichlet` where that is installed."""
    try:
        from dirichlet import mle
    except ImportError:
        mle = None

    def rows() -> Iterable[list[Any]]:
        for name, alpha in (("(2, 3, 5)", np.array([2.0, 3, 5])), ("2 … 60, 50 parts", np.linspace(2, 60, 50))):
            x = np.random.default_rng(0).dirichlet(alpha, size=2000)
            mean_log = np.log(x).mean(0)
            start = time.process_time()
            newton, steps = dirichlet_newton(np.ones(len(alpha)), mean_log)
            seconds = time.process_time() - start
            fixed, slow = dirichlet_fixed_point(np.ones(len(alpha)), mean_log, max_steps=20_000)
            few, _ = dirichlet_fixed_point(np.ones(len(alpha)), mean_log, max_steps=5)
            slope = np.abs(digamma(newton) - digamma(newton.sum()) - mean_log).max()
            peer = "–" if mle is None else f"{np.abs(mle(x, tol=1e-9, maxiter=20_000) / newton - 1).max():.1e}"
            yield [
                name,
                steps,
                f"{1000 * seconds:.1f}",
                slow,
                f"{np.abs(few / newton - 1).max():.0%}",
                f"{np.abs(fixed / newton - 1).max():.1e}",
                f"{slope:.1e}",
                peer,
            ]

    table(
        (
            "α",
            "Newton steps",
            "ms",
            "fixed-point steps",
            "error after 5 of them",
            "fixed point − Newton",
            "gradient",
            "`dirichlet` − Newton",
        ),
        rows(),
    )


def speed() -> None:
    """One step of expectation maximisation of 100,000 × 20 in five components, a whole fit, and donors by cell types."""
    random = np.random.default_rng(0)
    n, p, k = 100_000, 20, 5
    kind = random.integers(k, size=n)
    means, slopes = random.normal(0, 2, (k, p)), random.normal(size=(k, p))
    x = means[kind] + random.standard_normal((n, p))
    y = (random.random(n) < expit(((x - means[kind]) * slopes[kind]).sum(1))).astype(int)
    data = ClassifierData(x, Scaling.of(x, np.ones(n)).design(x), y, np.ones(n), 2)
    share = np.full((n, k), 0.1 / k)
    share[np.arange(n), kind] += 0.9

    def steps() -> Iterable[list[Any]]:
        for covariance in COVARIANCES:
            parameters = start_parameters(data, share, FitOptions(family={"covariance": covariance}))
            times = []
            for _ in range(5):
                start = time.process_time()
                found, _ = expectation(parameters, data)
                parameters = maximization(parameters, data, found)
                times.append(time.process_time() - start)
            yield [covariance, float(np.median(times))]

    table(("covariance", "seconds of a step, 100,000 × 20, K = 5"), steps())
    start = time.process_time()
    run = fit_mixture_classifier(data, data.features[:, 1:], k)
    whole = time.process_time() - start
    start = time.process_time()
    GaussianMixture(k, n_init=10, random_state=0).fit(x)
    print(
        f"\nwhole fit, 10 starts: {whole:.1f} s, {run.n_steps} steps; GaussianMixture(n_init=10) without labels: {time.process_time() - start:.1f} s\n"
    )

    def tables() -> Iterable[list[Any]]:
        adata = simulate_mixture_classifier(
            100, components="dirichlet_multinomial", n_components=5, n_vars=60, total=2000, standardize=True
        )
        for number in range(1, 6):
            start = time.process_time()
            model = MixtureClassifier(number, components="dirichlet_multinomial").fit(adata.X, labels(adata))
            yield [number, float(time.process_time() - start), model.n_iter_, str(model.converged_)]

    table(("K of 100 donors × 60 types", "seconds, 10 starts", "steps", "converged"), tables())


if __name__ == "__main__":
    main()
