"""PLN-PCA against pyPLNmodels, side by side in one run with the same thread count; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data import REAL, SIMULATED, SOURCE_FILE, prepare
from fits import Runner
from machine import machine_facts
from report import show_facts, write_json
from seeds import compare_seeds
from versus_peer import compare

QUICK = ("sim_2000x500",)


def main() -> None:
    """Measure, print a table and write JSON."""
    args = parse()
    facts = machine_facts(args.threads)
    show_facts(facts)
    cache = args.out / "data"
    sets = {name: path for name in args.sets if (path := prepare(name, cache, args.data)) is not None}
    for name in args.sets:
        if name not in sets:
            print(f"{name}: skipped, needs --data DIR with {SOURCE_FILE[name]} in it")
    peer = args.peer_python if args.peer_python and args.peer_python.exists() else None
    if peer is None and args.seeds is None:
        print("pyPLNmodels: skipped, needs --peer-python of an environment with the dependency group `bench`")
    runner = Runner(Path(sys.executable), peer, args.out / "fits", args.threads)
    if args.seeds is None:
        found = compare(runner, sets, args.repeats)
        name = "plnpca.json"
    else:
        found = compare_seeds(runner, sets, args.seeds, max_iter=args.max_iter, tol=args.tol, update=args.update_best)
        name = "plnpca_seeds.json"
    write_json(args.out / name, {"machine": facts, **found})


def parse() -> argparse.Namespace:
    """Read the command line; `--quick` is one simulated set, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the real data sets; without it they are skipped")
    parser.add_argument("--peer-python", type=Path, help="interpreter of the environment that has pyPLNmodels")
    parser.add_argument("--sets", nargs="+", choices=[*SIMULATED, *REAL], default=[*SIMULATED, *REAL])
    parser.add_argument("--threads", type=int, default=2, help="threads for every method (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="fits of each set and method (default 3)")
    parser.add_argument("--seeds", type=int, metavar="N", help="instead: N seeds against the best bound known")
    parser.add_argument("--max-iter", type=int, help="with --seeds: scpln's iterations, for long runs")
    parser.add_argument("--tol", type=float, help="with --seeds: scpln's tolerance, for long runs")
    parser.add_argument(
        "--update-best", action="store_true", help="with --seeds: keep better bounds in best_known.json"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of results and caches")
    parser.add_argument("--quick", action="store_true", help="one small set, one repeat")
    args = parser.parse_args()
    if args.quick:
        args.sets, args.repeats = list(QUICK), 1
    return args


if __name__ == "__main__":
    main()
