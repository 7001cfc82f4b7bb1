"""Tables and the figure of the composition study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import anndata as ad


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as Markdown."""
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print(
            "| " + " | ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row) + " |",
            flush=True,
        )
    print()


def draw(counts: ad.AnnData, out: Path) -> None:
    """The change on the tree, beside changes of single types with intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from composition_tests import case_truth, pln

    import scpln

    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 8, "savefig.dpi": 110}
    on_tree = counts.copy()
    scpln.model.setup_anndata(on_tree, design="~ condition", size_factor_key="n_cells")
    model = scpln.model.PLNTree(on_tree)
    model.train(progress=False)
    model.annotate()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 7), width_ratios=(1.7, 1), layout="constrained")
    change = model.get_coefficients()["condition[T.case]"]
    scpln.pl.tree(on_tree, key="plntree", color=change, color_label="change in cases", size=None, ax=left, show=False)
    left.set_title("PLNTree: of each node among its siblings", fontsize=9)
    names = [label.get_text() for label in left.get_yticklabels()]
    found = pln(counts).loc[names]
    truth = dict(
        zip(counts.var_names, case_truth(counts, counts.var["changed"].to_numpy(bool), centred=False), strict=True)
    )
    at = np.arange(len(names))
    called = (found["p_adjusted"] < 0.05).to_numpy()
    right.hlines(
        at, found["effect"] - found["half_width"], found["effect"] + found["half_width"], color="0.7", linewidth=1
    )
    right.plot([truth[name] for name in names], at, "x", color="tab:orange", markersize=4, label="truth")
    for some, face, label in (
        (~called, "white", "PLN, interval at 95 %"),
        (called, "black", "called at a false discovery rate of 5 %"),
    ):
        right.plot(
            found["effect"][some], at[some], "o", markersize=3.5, markerfacecolor=face, color="black", label=label
        )
    right.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    right.set(ylim=left.get_ylim(), yticks=[], xlim=(-2.5, 2.5), xlabel="change of the log-share in cases")
    right.spines["left"].set_visible(False)
    right.set_title("PLN: of each type among all cells", fontsize=9)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", frameon=False, ncols=3, fontsize=7.5)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "composition.png")
