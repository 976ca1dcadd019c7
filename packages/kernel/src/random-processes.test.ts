/**
 * Random processes on a small machine: they map, touch, protect, fork, fault, wait and are killed, and now and then memory
 * runs out. After each step the machine must be valid; at the end nothing may be left.
 */
import { SIGBUS, SIGKILL, SIGSEGV, SyscallError, WNOHANG } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';
import { inUse } from './testing/run.ts';

const STEPS = 250;
const PRIVATE_ANON = 0x4022;
const SHARED_ANON = 0x4021;

class Abandoned extends Error {}

interface Actor {
  readonly process: Process;
  readonly areas: { start: number; pages: number }[];
  readonly children: Actor[];
}

function start(machine: Machine): Actor {
  const process = machine.createProcess();
  for (const signal of [SIGSEGV, SIGBUS]) {
    process.os.sigaction(signal, () => {
      throw new Abandoned();
    });
  }
  return { process, areas: [], children: [] };
}

/** Does one random thing. Whatever an exception tells of a program's mistake is as good as success. */
function step(prng: Prng, actor: Actor, actors: Actor[]): void {
  const { os } = actor.process;
  const area = actor.areas[prng.below(Math.max(1, actor.areas.length))];
  const someAddress = (): number => (area === undefined ? 4096 : area.start + prng.below(area.pages) * 4096);
  switch (prng.below(16)) {
    case 0:
    case 1: {
      const pages = 1 + prng.below(prng.below(4) === 0 ? 1500 : 40);
      const start = os.mmap(0, pages * 4096, 1 + prng.below(3), prng.below(4) === 0 ? SHARED_ANON : PRIVATE_ANON);
      actor.areas.push({ start, pages });
      break;
    }
    case 2:
      os.munmap(someAddress(), (1 + prng.below(20)) * 4096);
      break;
    case 3:
      os.mprotect(someAddress(), (1 + prng.below(8)) * 4096, prng.below(4));
      break;
    case 4:
      os.sbrk((prng.below(40) - 15) * 4096);
      break;
    case 5:
    case 6: {
      if (actors.length >= 8) break;
      const child = actor.process.fork();
      if (typeof child === 'number') break;
      const forked = { process: child, areas: [...actor.areas], children: [] };
      actor.children.push(forked);
      actors.push(forked);
      break;
    }
    case 7:
      if (actors.length > 1) os.kill(actors[prng.below(actors.length)]!.process.pid, SIGKILL);
      break;
    case 8:
      os.waitpid(-1, WNOHANG);
      break;
    case 9:
      os.madvise(someAddress(), (1 + prng.below(30)) * 4096, [4, 8, 10, 18, 102, 103][prng.below(6)]!);
      break;
    case 10:
      os.mlock(someAddress(), 8192);
      break;
    case 11:
      os.readFile(['/proc/self/smaps', '/proc/meminfo', '/proc/self/status', '/proc/zoneinfo'][prng.below(4)]!);
      break;
    case 12:
      if (prng.below(3) === 0) actor.process.exit(prng.below(256));
      break;
    case 13:
      if (area !== undefined) os.mem.fill(area.start, area.pages * 4096, 1);
      break;
    default:
      os.mem.fill(someAddress(), (1 + prng.below(60)) * 4096, prng.below(256));
  }
}

test.each([
  ['x86-64', 11],
  ['x86-64', 22],
  ['x86-64', 1011],
  ['x86-64', 1021],
  ['x86-pae', 31],
  ['x86-32', 41],
] as const)('%s, seed %i', (arch, seed) => {
  const prng = new Prng(seed);
  const machine = boot({ arch, memory: '64M', cmdline: 'mem=20M', cpus: 2, seed, sysctl: { 'vm.overcommit_memory': 1 } });
  const before = inUse(machine);
  let actors: Actor[] = [];
  for (let i = 0; i < STEPS; i++) {
    if (actors.length === 0) actors.push(start(machine));
    const actor = actors[prng.below(actors.length)]!;
    try {
      step(prng, actor, actors);
    } catch (error) {
      const known = error instanceof SyscallError || error instanceof Abandoned || !actor.process.alive;
      if (!known) throw error;
    }
    actors = actors.filter(({ process }) => process.alive);
    if (i % 5 === 0) machine.validate();
  }
  for (const { process } of actors) process.exit(0);
  machine.validate();
  expect(inUse(machine)).toEqual(before);
});
