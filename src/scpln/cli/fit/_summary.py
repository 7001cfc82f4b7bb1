"""What ``scpln fit`` says of a fit: one summary, shown as text and written as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scpln.cli._versions import versions

if TYPE_CHECKING:
    import argparse

    from scpln.data import Data
    from scpln.model import ScplnModel

MOST_CLUSTERS = 8
"""Clusters whose sizes the text shows."""


def summarize(
    model: ScplnModel, adata: Data, args: argparse.Namespace, key: str, seconds: float, added: list[str]
) -> dict[str, Any]:
    """Numbers and names of a fit; ``scpln fit --help`` lists them."""
    from scpln.model.abilities import conditions
    from scpln.model.base import reliability_in_words

    training = model.training_
    return {
        "command": "fit",
        "versions": versions(),
        "model": type(model).__name__,
        "key": key,
        "input": args.input,
        "n_cells": adata.n_obs,
        "n_genes": len(model.genes),
        "n_latent": args.n_latent,
        "likelihood": _part(model, "likelihood"),
        "posterior": _posterior(model),
        "clusters": clusters(adata, key),
        "objective": {**asdict(model.objective)},
        "bound": adata.uns[key].get("elbo"),
        "bound_unit": model.objective.unit,
        "bound_conditions": conditions(model).removeprefix(", ") or None,
        "reliability": training.get("reliability"),
        "reliability_text": reliability_in_words(training),
        "converged": training["converged"],
        "stop_reason": model.stop_reason,
        "seconds": round(seconds, 3),
        "seed": args.seed,
        "outputs": {
            "annotated": args.out,
            "figure": args.figure,
            "model": args.save_model,
            "config": args.write_config,
        },
        "added": added,
    }


def as_text(summary: dict[str, Any]) -> str:
    """The same as text, one line for each thing."""
    outputs = summary["outputs"]
    rows = {
        "cells": f"{summary['n_cells']:,}",
        "genes": f"{summary['n_genes']:,}",
        "latent dimensions": summary["n_latent"],
        "likelihood": _likelihood_in_words(summary["likelihood"]),
        "posterior": None if summary["posterior"] is None else _posterior_in_words(**summary["posterior"]),
        "clusters": None if summary["clusters"] is None else clusters_in_words(**summary["clusters"]),
        **_objective(summary),
        "reliability": summary["reliability_text"],
        "training": summary["stop_reason"],
        "seconds": f"{summary['seconds']:.1f}",
        "wrote": outputs["annotated"],
        "added": ", ".join(summary["added"]),
        "figure": outputs["figure"],
        "model": outputs["model"],
        "options": outputs["config"],
    }
    lines = [f"  {name:<19}{value}" for name, value in rows.items() if value is not None]
    return "\n".join([f"{summary['model']} of {summary['input']}", *lines])


def _objective(summary: dict[str, Any]) -> dict[str, str]:
    """The bound of a model that has one, or else what its training optimised."""
    if summary["bound"] is None:
        found = summary["objective"]
        return {found["name"].replace("_", " "): f"{found['value']:.3f} {found['unit']}"}
    condition = summary["bound_conditions"]
    return {"bound per cell": f"{summary['bound']:.3f} nats{f', {condition}' if condition else ''}"}


def _posterior(model: Any) -> dict[str, Any] | None:
    """Family, kind of flow, and whether an encoder gives the posteriors; None where there is no choice of these."""
    if _part(model, "posterior") is None:
        return None
    amortized = bool(getattr(model, "amortized", True))
    return {"family": _part(model, "posterior"), "flow": _part(model, "flow"), "amortized": amortized}


def _part(model: Any, name: str) -> Any:
    """A choice that a model, or its architecture, was made with; None if it has none of this kind."""
    return getattr(getattr(model, "architecture", model), name, None)


def _posterior_in_words(family: str, flow: str | None, *, amortized: bool) -> str:
    return f"{family}{f' ({flow})' if flow else ''}{', from an encoder' if amortized else ''}"


def clusters(adata: Data, key: str) -> dict[str, Any] | None:
    """Components of a mixture: how many there are, how many effectively, and the cells of each, the largest first."""
    if f"{key}_cluster" not in adata.obs:
        return None
    sizes = adata.obs[f"{key}_cluster"].value_counts()
    return {
        "n_components": len(sizes),
        "n_effective": adata.uns[key]["n_effective_clusters"],
        "sizes": {str(name): int(size) for name, size in sizes.items()},
    }


def clusters_in_words(n_components: int, n_effective: float, sizes: dict[str, int]) -> str:
    """The same as text, the largest first."""
    used = {name: size for name, size in sizes.items() if size > 0}
    largest = ", ".join(f"{name} ({size:,})" for name, size in list(used.items())[:MOST_CLUSTERS])
    more = ", …" if len(used) > MOST_CLUSTERS else ""
    return f"{len(used)} of {n_components} components have cells, {n_effective:.1f} effective: {largest}{more}"


def _likelihood_in_words(likelihood: str | dict[str, str] | None) -> str | None:
    """One for all genes, or that of each modality."""
    if isinstance(likelihood, dict):
        return ", ".join(f"{name}: {each}" for name, each in likelihood.items())
    return likelihood
