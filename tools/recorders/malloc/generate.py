#!/usr/bin/env python3
"""Prints a random script for glibc-calls: `generate.py PROFILE SEED [CALLS [TUNABLES]]`, tunables as JSON of GlibcOptions.

Profiles: `threads` (some threads, blocks freed by others, threads that end and begin), `many` (more threads than the CPUs
allow arenas), `limit` (more than a tunable allows), `heaps` (thread arenas that grow over several heaps and shrink),
`family` (every function of one thread, and what the library tells in text).
"""
import json
import random
import sys

TUNABLES = {"limit": {"arenaMax": 3}}
MALLOPT = {
    1: [0, 64, 160, 161, -1], -1: [0, 4096, 200_000, -1], -2: [0, 4096, 100_000], -3: [4096, 100_000, 40_000_000, -1],
    -4: [0, 1, 100, -1], -6: [0, 90, 300], -7: [0, 1, 5], -8: [0, 2, 5], -5: [0, 3], 99: [1],
}
THREADS = {"threads": 6, "limit": 12, "many": 40, "heaps": 3, "family": 1}


def size(rng, profile):
    kind = rng.random()
    if profile == "heaps":
        if kind < 0.35:
            return rng.randrange(1 << 20, 24 << 20)
        if kind < 0.6:
            return rng.randrange(1 << 16, 1 << 20)
    if kind < 0.5:
        return rng.randrange(0, 260)
    if kind < 0.8:
        return rng.randrange(0, 2000)
    if kind < 0.97:
        return rng.randrange(1000, 30_000)
    return rng.randrange(60_000, 500_000)


def script(profile, seed, calls, tunables):
    rng = random.Random(seed)
    most = THREADS[profile]
    live, threads, spare, next_id, fresh = [], [0], [], 1, 1
    print("# calls v1 " + json.dumps({"tunables": tunables}))
    if profile == "heaps":
        print("m 0 0 30000000\nf 0 0")
    for _ in range(calls):
        thread = rng.choice(threads)
        action = rng.random()
        if len(threads) < most and action < 0.04:
            new = spare.pop(0) if spare and rng.random() < 0.5 else fresh
            fresh = max(fresh, new + 1)
            threads.append(new)
            print(f"n {new}")
        elif len(threads) > 1 and action < 0.05:
            ended = threads.pop(rng.randrange(1, len(threads)))
            spare.append(ended)
            print(f"e {ended}")
        elif action < 0.052 and profile == "many":
            print("K 0")
            threads = [0]
        elif action < 0.06:
            print(rng.choice([f"i {thread}", f"t {thread} {rng.choice([0, 0, 100_000])}"]))
        elif action < 0.075 and profile == "family":
            print(rng.choice([f"s {thread}", f"X {thread}"]))
        elif action < 0.085 and profile == "family":
            param = rng.choice(list(MALLOPT))
            print(f"o {thread} {param} {rng.choice(MALLOPT[param])}")
        elif live and (action < 0.46 or len(live) > (14 if profile == "heaps" else 250)):
            print(f"f {thread} {live.pop(rng.randrange(len(live)))}")
        elif live and action < 0.6:
            at = rng.randrange(len(live))
            print(f"r {thread} {live[at]} {next_id} {size(rng, profile) + 1}")
            live[at] = next_id
            next_id += 1
        else:
            what = rng.random()
            bytes_ = size(rng, profile)
            if what < 0.15:
                print(f"c {thread} {next_id} {bytes_}")
            elif what < 0.25:
                print(f"a {thread} {next_id} {bytes_} {1 << rng.randrange(3, 13)}")
            elif what < 0.35 and profile == "family":
                op = rng.choice("vVP")
                alignment = f" {1 << rng.randrange(2, 13)}" if op == "P" else ""
                print(f"{op} {thread} {next_id} {bytes_}{alignment}")
            else:
                print(f"m {thread} {next_id} {bytes_}")
            live.append(next_id)
            next_id += 1
    print("s 0\nX 0\ni 0")


arguments = dict(enumerate(sys.argv))
profile, seed = sys.argv[1], int(sys.argv[2])
script(profile, seed, int(arguments.get(3, 1500)), json.loads(arguments[4]) if 4 in arguments else TUNABLES.get(profile, {}))
