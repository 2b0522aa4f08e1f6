"""The whole daemon in a world that is out to break it: seeded, on virtual time, judged at every step.

python -m simulation --seeds 1000        (from tests/; or `make simulate SEEDS=1000`)

plan.py       what kind of world a seed makes
shops.py      what kind of shop it has: legal ones that lie
world.py      one seed's world: what happens in it, in which order
processes.py  daemons: the real app.run, that can be killed, frozen and stopped between any two steps
places.py     where state lies: real SQLite files, real RedisStores on fakeredis, and their troubles
network.py    what carries requests to the shop and to the receivers, or does not
bulk.py       receivers that take many at once: Redis servers that the daemon's own redis-py talks to
judge.py      knows what was observed, and what must follow from that
fleets.py     worlds of several shops, which one to three processes share
fleet_judge.py  what must hold for a fleet as a whole
visitors.py   probes of /healthz, and webhooks
bugs.py       deliberate bugs, each of which the judge has to find
"""
