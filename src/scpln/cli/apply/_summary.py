"""What ``scpln predict`` and ``scpln map`` say: one summary, shown as text and written as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scpln.cli._versions import versions
from scpln.cli.fit import clusters, clusters_in_words

if TYPE_CHECKING:
    import argparse

    from scpln.data import Data
    from scpln.model import ScplnModel

SUMMARY = """\
--summary FILE.json writes (null for what there is not):
  model, key, input, loaded, reference
                         what was applied to what
  n_cells, n_genes, seed, versions
  new_categories         {column: categories that the model was not trained on}
  refused                cells that --reject calls unknown, in obs["KEY_label"], or whose obs["KEY_prediction"] is missing
  clusters               {"n_components", "n_effective", "sizes": {name: cells}}
  bound                  mean over cells, in nats
  training               why the estimation of what is new ended
  seconds
  outputs                {"annotated", "figure", "model", "config"}: paths
  added                  places in the annotated file

"""


def summarize(
    model: ScplnModel, adata: Data, args: argparse.Namespace, key: str, seconds: float, added: list[str]
) -> dict[str, Any]:
    """Numbers and names; the help of the commands lists them."""
    return {
        "command": args.command,
        "versions": versions(),
        "model": type(model).__name__,
        "key": key,
        "input": args.input,
        "loaded": args.load_model,
        "reference": args.reference,
        "n_cells": adata.n_obs,
        "n_genes": len(model.genes),
        "new_categories": getattr(model, "new_categories", {}),
        "refused": _refused(model, adata, args, key),
        "clusters": clusters(adata, key),
        "bound": adata.uns[key].get("elbo"),
        "training": model.stop_reason if args.command == "map" else None,
        "seconds": round(seconds, 3),
        "seed": args.seed,
        "outputs": {
            "annotated": args.out,
            "figure": args.figure,
            "model": getattr(args, "save_model", None),
            "config": args.write_config,
        },
        "added": added,
    }


def _refused(model: ScplnModel, adata: Data, args: argparse.Namespace, key: str) -> int | None:
    """Cells that get no label."""
    if args.reject is not None:
        return int((adata.obs[f"{key}_label"] == getattr(model, "rejected_name", None)).sum())
    column = f"{key}_prediction"
    return int(adata.obs[column].isna().sum()) if column in adata.obs else None


def as_text(summary: dict[str, Any]) -> str:
    """The same as text, one line for each thing."""
    outputs, new = summary["outputs"], summary["new_categories"]
    rows = {
        "model": summary["loaded"],
        "cells": f"{summary['n_cells']:,}",
        "genes": f"{summary['n_genes']:,}",
        "new": "; ".join(f"{name}: {', '.join(each)}" for name, each in new.items()) or None,
        "training": summary["training"],
        "clusters": None if summary["clusters"] is None else clusters_in_words(**summary["clusters"]),
        "unknown": None if summary["refused"] is None else f"{summary['refused']:,} cells",
        "bound per cell": None if summary["bound"] is None else f"{summary['bound']:.3f} nats",
        "seconds": f"{summary['seconds']:.1f}",
        "wrote": outputs["annotated"],
        "added": ", ".join(summary["added"]),
        "figure": outputs["figure"],
        "saved model": outputs["model"],
        "options": outputs["config"],
    }
    lines = [f"  {name:<19}{value}" for name, value in rows.items() if value is not None]
    return "\n".join([f"{summary['model']} and {summary['input']}", *lines])
