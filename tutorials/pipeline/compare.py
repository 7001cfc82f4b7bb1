"""Table of the fits: bounds, agreement of clusters with known labels, reliability, time. Run by Snakemake."""

import json
from pathlib import Path

import pandas as pd

rows = {}
for fit, scores in zip(snakemake.input.fits, snakemake.input.scores, strict=True):  # noqa: F821 (Snakemake gives it)
    summary, evaluation = json.loads(Path(fit).read_text()), json.loads(Path(scores).read_text())
    latent = next(space for space in evaluation["latent_spaces"] if space["name"] == f"X_{summary['key']}")
    rows[Path(fit).parent.name] = {
        "model": summary["model"],
        "likelihood": summary["likelihood"],
        "bound": summary["bound"],
        "gap": summary["reliability"]["gap"],
        "ari_best": latent["ari_best"],
        "seconds": summary["seconds"],
    }
table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("fit").sort_values("bound", ascending=False)
table.to_csv(snakemake.output[0], float_format="%.4g")  # noqa: F821
