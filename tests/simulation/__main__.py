"""`python -m simulation`: run seeds, look into one of them, or look for a deliberate bug."""

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from simulation.bugs import BUGS
from simulation.run import Result, run


def main() -> int:
    """0: all was well (or the bug was found); 1: it was not; 2: it was not asked for rightly."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many to run (300)")
    parser.add_argument("--start", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (one a core)")
    parser.add_argument("--seed", type=int, help="run this one, and show what happened in it")
    parser.add_argument("--bug", choices=sorted(BUGS), help="run until this deliberate bug is found")
    requested = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        parser.error("set PYTHONHASHSEED=0, or a seed is another world each time")
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # a world is short, and makes much
    if requested.bug is not None:
        return _hunt(requested.bug, requested.start)
    if requested.seed is not None:
        result = run(requested.seed)
        print("\n".join([*result.notes, *(result.verdicts or ["all is well"])]))
        return bool(result.verdicts)
    return _many(range(requested.start, requested.start + requested.seeds), jobs=requested.jobs)


def _hunt(name: str, start: int) -> int:
    bug = BUGS[name]
    for seed in filter(bug.can_show, range(start, start + bug.within)):
        with bug.in_place():
            result = run(seed, bug.emphasis)
        if signs := [one for one in result.verdicts if one not in result.crashes]:
            if otherwise := run(seed, bug.emphasis).verdicts:
                print(f"seed {seed} is not well without the bug either: {otherwise[0]}")
                return 1
            print(f"found by seed {seed}: {signs[0]}")
            return 0
    print(f"not found within {bug.within} seeds")
    return 1


def _many(seeds: range, *, jobs: int) -> int:
    began, bad, steps, hours, counts = time.monotonic(), 0, 0, 0.0, Counter[str]()
    for n, result in enumerate(_results(seeds, jobs), 1):
        steps, hours = steps + result.steps, hours + result.hours
        counts += result.counts
        if result.verdicts:
            bad += 1
            print(f"seed {result.seed}: {result.verdicts[0]}")
            print(f'  look into it: make simulate ARGS="--seed {result.seed}"', flush=True)
        if n % 500 == 0 or sys.stderr.isatty():
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{n} of {len(seeds)} seeds, {time.monotonic() - began:.0f} s", end=end, file=sys.stderr)
    print(
        f"{len(seeds)} seeds, {bad} of them not well: {hours:.0f} hours lived in"
        f" {time.monotonic() - began:.0f} s, {steps:,} steps; {counts['observed']:,} events observed,"
        f" {counts['taken']:,} deliveries made, {counts['repeats']:,} repeats; daemons killed"
        f" {counts['killed']:,} times, frozen {counts['frozen']:,}, states set back {counts['restored']:,}"
    )
    return bool(bad)


def _results(seeds: range, jobs: int) -> Iterator[Result]:
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        yield from pool.map(run, seeds, chunksize=4) if pool else map(run, seeds)


if __name__ == "__main__":
    sys.exit(main())
