"""Run seeds."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from simulation.fleets import FleetWorld, is_fleet
from simulation.loop import SimulationLoop
from simulation.plan import AS_IT_COMES, Emphasis
from simulation.world import World

FILES = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory instead of a disk


@dataclass(frozen=True)
class Result:
    """What became of a seed.

    Attributes:
        verdicts: what must not be; empty if all was well.
        crashes: those of them that say only that a daemon ended by an exception.
        notes: what happened last.
    """

    seed: int
    verdicts: list[str]
    crashes: list[str]
    notes: list[str]
    steps: int
    hours: float
    counts: Counter[str]


def run(seed: int, emphasis: Emphasis = AS_IT_COMES) -> Result:
    """Live through one seed's world; with an emphasis, it is another world than without."""
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=FILES))
    loops: list[SimulationLoop] = []

    def new_loop() -> SimulationLoop:
        loops.append(SimulationLoop())
        loops[0].set_exception_handler(lambda _, __: None)
        return loops[0]

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, SimulationLoop)
            make = FleetWorld if is_fleet(seed) else World
            world = make(seed, folder, loop, emphasis=emphasis)
            with world.patches():
                runner.run(world.live())
            judge = world.judge
            return Result(
                seed,
                judge.verdicts,
                judge.crashes,
                world.told(),
                loop.steps,
                loop.time() / 3600,
                judge.counts,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
