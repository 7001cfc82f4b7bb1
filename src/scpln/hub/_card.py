"""The model card: a README for people, with a header that the Hub searches in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scpln import __version__
from scpln._catalogue import of_class

if TYPE_CHECKING:
    from collections.abc import Sequence

_MISSING = "Not provided."
#: Line of the header that tells a card from another README.
LIBRARY = "library_name: scpln"

_CARD = """\
---
{header}
---

# {name}

{description}

{sentence} It was trained with scpln {version} on {n_cells:,} cells × {n_genes:,} genes. The files are safetensors and
JSON; loading them runs no code.

```python
import scpln

model = scpln.hub.pull("…/…", adata)  # this repository's name, and counts of the same genes
model.get_latent_representation(adata)
```

## Model

```json
{params}
```

## Data

Arguments of `scpln.model.{setup_method}`:

```json
{setup}
```

Design: {design}

Training data: {training_data_url}

## Training

{bound} {reason}.

Training code: {training_code_url}

## References

{references}
"""


@dataclass(frozen=True)
class Card:
    """What people are to know of a model, besides what the model knows itself.

    Parameters
    ----------
    license
        Identifier of the licence, as the Hub has it, such as ``"mit"`` or ``"cc-by-4.0"``.
    description, references
        Markdown.
    modalities, tissues
        What was measured, by default the model's modalities, or ``"rna"`` of one AnnData; and of which tissues.
    annotated
        Whether the cells have annotated types.
    training_data_url, training_code_url
        Where to find these.
    """

    license: str
    description: str = ""
    references: str = ""
    modalities: Sequence[str] | None = None
    tissues: Sequence[str] = ()
    annotated: bool | None = None
    training_data_url: str | None = None
    training_code_url: str | None = None

    def __post_init__(self) -> None:
        if not self.license or not isinstance(self.license, str):
            msg = f"license={self.license!r}, but it must be an identifier such as 'mit' or 'cc-by-4.0'."
            raise ValueError(msg)
        for name in ("training_data_url", "training_code_url"):
            url = getattr(self, name)
            if url is not None and not str(url).startswith(("http://", "https://")):
                msg = f"{name}={url!r}, but it must start with http:// or https://."
                raise ValueError(msg)

    def write(self, saved: dict[str, Any]) -> str:
        """Markdown of the card of a saved model (what its ``model.json`` says)."""
        registry, training, name = saved["registry"], saved["training"], saved["class"]
        entry = of_class(name)
        states = {key: value["state_registry"] for key, value in registry["field_registries"].items()}
        return _CARD.format(
            header=self._header(name, registry),
            name=name,
            sentence="A model of counts." if entry is None else entry.sentence,
            description=self.description or _MISSING,
            version=saved["scpln_version"],
            n_cells=states["X"]["n_obs"],
            n_genes=states["X"]["n_vars"],
            params=json.dumps(saved["init_params"], indent=2),
            setup_method=registry["setup_method_name"],
            setup=json.dumps(registry["setup_args"], indent=2),
            design=", ".join(f"`{column}`" for column in states["design"]["names"]),
            bound=_objective(saved),
            reason=str(training.get("reason", "No training")).capitalize(),
            training_data_url=self.training_data_url or _MISSING,
            training_code_url=self.training_code_url or _MISSING,
            references=self.references or _MISSING,
        )

    def _header(self, name: str, registry: dict[str, Any]) -> str:
        """YAML between the lines of dashes; tags are those of scvi-tools, and one of scpln."""
        modalities = registry["setup_args"].get("modalities", ["rna"]) if self.modalities is None else self.modalities
        tags = ["biology", "genomics", "single-cell", f"model_cls_name:{name}", f"scpln_version:{__version__}"]
        tags += [f"scvi_version:{registry['scvi_version']}", f"anndata_version:{version('anndata')}"]
        tags += [f"modality:{modality}" for modality in modalities]
        tags += [f"tissue:{tissue}" for tissue in self.tissues]
        tags += [] if self.annotated is None else [f"annotated:{self.annotated}"]
        lines = [f"license: {json.dumps(self.license)}", LIBRARY, "tags:"]
        return "\n".join([*lines, *(f"- {json.dumps(tag)}" for tag in tags)])


def _objective(saved: dict[str, Any]) -> str:
    """What training optimised, and what it reached."""
    if not saved["training"]:
        return "Not trained."
    found = saved.get("objective", {"name": "elbo", "unit": "nats per cell", "value": saved["training"].get("elbo")})
    name = {"elbo": "Evidence lower bound"}.get(found["name"], found["name"].replace("_", " ").capitalize())
    return f"{name}: {found['value']:.3f} {found['unit']}."
