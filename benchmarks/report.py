"""Tables on the terminal and results as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def show_facts(facts: dict[str, Any]) -> None:
    """Print the machine's facts, one line for it and one for versions."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    print(
        f"{facts['date']} · {facts['cpu']} · {facts['cores']} cores · {facts['memory_gb']} GB · "
        f"load before {facts['load_before']} · {facts['threads']} threads · Python {facts['python']}\n{versions}\n"
    )


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table, its first column to the left and the others to the right."""
    cells = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(title)
    for row in cells:
        print("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))
    print(flush=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the results, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"Written to {path}")


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
