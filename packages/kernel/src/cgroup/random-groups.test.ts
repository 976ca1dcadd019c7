/**
 * Random processes in random groups: they map, touch, fork, write files, move between groups and are killed, while limits and
 * protections come and go, and groups are made and removed. After every few steps everything that groups count must add up; at
 * the end nothing may be left. `PAGELAB_GROUP_STEPS` makes it longer.
 */
import { SIGBUS, SIGKILL, SIGSEGV, SyscallError, WNOHANG } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { expect, test } from 'vitest';
import { boot } from '../boot.ts';
import type { MachineConfigInput } from '../config.ts';
import type { Machine, Process } from '../machine.ts';
import { inUse } from '../testing/run.ts';

const STEPS = Number(process.env['PAGELAB_GROUP_STEPS'] ?? 150);
const MOUNT = '/sys/fs/cgroup';
const PRIVATE_ANON = 0x4022;
const SHARED_ANON = 0x4021;

class Abandoned extends Error {}

interface Actor {
  readonly process: Process;
  readonly areas: { start: number; pages: number }[];
}

class World {
  readonly machine: Machine;
  readonly prng: Prng;
  readonly keeper: Process;
  groups: string[] = [];
  actors: Actor[] = [];

  constructor(machine: Machine, prng: Prng) {
    this.machine = machine;
    this.prng = prng;
    this.keeper = machine.createProcess({ name: 'keeper' });
    machine.writeFile(`/proc/${this.keeper.pid}/oom_score_adj`, '-1000');
    this.keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory');
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[this.prng.below(Math.max(1, list.length))];
  }

  start(): void {
    const process = this.machine.createProcess();
    for (const signal of [SIGSEGV, SIGBUS]) {
      process.os.sigaction(signal, () => {
        throw new Abandoned();
      });
    }
    this.actors.push({ process, areas: [] });
  }

  /** Something with the groups. */
  govern(): void {
    const { keeper, prng } = this;
    const group = this.pick(this.groups);
    const size = `${(16 + prng.below(2000)) * 4}K`;
    const set = (file: string, text: string): void => keeper.os.writeFile(`${MOUNT}/${group ?? ''}/${file}`, text);
    switch (prng.below(10)) {
      case 0:
      case 1: {
        const inside = prng.below(2) === 0 ? undefined : group;
        const path = `${inside === undefined ? '' : `${inside}/`}g${prng.below(1000)}`;
        if (inside !== undefined) keeper.os.writeFile(`${MOUNT}/${inside}/cgroup.subtree_control`, '+memory');
        keeper.os.mkdir(`${MOUNT}/${path}`);
        this.groups.push(path);
        break;
      }
      case 2:
        if (group === undefined) break;
        keeper.os.rmdir(`${MOUNT}/${group}`);
        this.groups = this.groups.filter((each) => each !== group);
        break;
      case 3:
        if (group !== undefined) set('memory.max', prng.below(4) === 0 ? 'max' : size);
        break;
      case 4:
        if (group !== undefined) set(prng.below(2) === 0 ? 'memory.low' : 'memory.min', prng.below(3) === 0 ? '0' : size);
        break;
      case 5:
        if (group !== undefined) set('memory.high', prng.below(3) === 0 ? 'max' : size);
        break;
      case 6:
        if (group !== undefined) set('memory.swap.max', prng.below(2) === 0 ? 'max' : size);
        break;
      case 7:
        if (group !== undefined) set('memory.reclaim', size);
        break;
      case 8:
        if (group !== undefined) set(prng.below(8) === 0 ? 'cgroup.kill' : 'memory.oom.group', '1');
        break;
      default:
        if (group !== undefined && prng.below(3) === 0) set('cgroup.subtree_control', '-memory');
    }
  }

  /** Something by a process. */
  act(actor: Actor): void {
    const { prng } = this;
    const { os } = actor.process;
    const area = this.pick(actor.areas);
    const someAddress = (): number => (area === undefined ? 4096 : area.start + prng.below(area.pages) * 4096);
    switch (prng.below(13)) {
      case 0:
      case 1: {
        const pages = 1 + prng.below(prng.below(4) === 0 ? 1500 : 60);
        actor.areas.push({ start: os.mmap(0, pages * 4096, 3, prng.below(4) === 0 ? SHARED_ANON : PRIVATE_ANON), pages });
        break;
      }
      case 2:
        os.munmap(someAddress(), (1 + prng.below(20)) * 4096);
        break;
      case 3: {
        if (this.actors.length >= 8) break;
        const child = actor.process.fork();
        if (typeof child !== 'number') this.actors.push({ process: child, areas: [...actor.areas] });
        break;
      }
      case 4:
        if (this.actors.length > 1) os.kill(this.pick(this.actors)!.process.pid, SIGKILL);
        break;
      case 5:
        os.waitpid(-1, WNOHANG);
        break;
      case 6:
        os.madvise(someAddress(), (1 + prng.below(30)) * 4096, [4, 8, 14, 20, 21][prng.below(5)]!);
        break;
      case 7:
        os.mlock(someAddress(), 8192);
        break;
      case 8:
        os.writeFile(`${MOUNT}/${this.pick(['', ...this.groups])}/cgroup.procs`, '0');
        break;
      case 9:
        os.readFile(`${MOUNT}/${this.pick(['', ...this.groups])}/memory.stat`);
        break;
      case 10:
        if (prng.below(3) === 0) actor.process.exit(prng.below(256));
        break;
      case 11:
        if (area !== undefined) os.mem.fill(area.start, area.pages * 4096, 1);
        break;
      default:
        os.mem.fill(someAddress(), (1 + prng.below(60)) * 4096, prng.below(256));
    }
  }

  step(): void {
    if (this.actors.length === 0) this.start();
    const actor = this.pick(this.actors)!;
    try {
      if (this.prng.below(3) === 0) this.govern();
      else this.act(actor);
    } catch (error) {
      const known = error instanceof SyscallError || error instanceof Abandoned || !actor.process.alive;
      if (!known) throw error;
    }
    this.actors = this.actors.filter(({ process }) => process.alive);
  }

  /** Ends all processes, and removes all groups. */
  finish(): void {
    for (const { process } of this.actors) process.exit(0);
    for (const group of this.groups.sort((a, b) => b.length - a.length)) this.keeper.os.rmdir(`${MOUNT}/${group}`);
    this.keeper.exit(0);
  }
}

const KINDS: readonly (readonly [string, Partial<MachineConfigInput>])[] = [
  ['without swap', {}],
  ['with swap', { swap: [{ size: '32M' }] }],
  ['with huge pages', { memory: '64M', swap: [{ size: '32M' }], cmdline: 'transparent_hugepage=always' }],
  ['with two nodes', { numa: [{ memory: '64M', cpus: [0] }, { memory: '64M', cpus: [1] }], memory: '128M', swap: [{ size: '32M' }] }],
  ['with generations', { swap: [{ size: '32M' }], reclaim: 'mglru' }],
  ['first in, first out', { swap: [{ size: '32M' }], reclaim: 'fifo' }],
  ['with other allocators', { swap: [{ size: '32M' }], slab: 'slab', pageAllocator: 'llfree' }],
  ['with SLOB, on 32 bits', { arch: 'x86-32', swap: [{ size: '32M' }], slab: 'slob' }],
];

test.each(KINDS.map(([name, config], i) => [name, 100 + i, config] as const))('%s, seed %i', (_name, seed, config) => {
  const prng = new Prng(seed);
  const machine = boot({ memory: '64M', cpus: 2, seed, sysctl: { 'vm.overcommit_memory': 1 }, ...config });
  // The first group makes a cache, which stays.
  const first = new World(machine, prng);
  first.keeper.os.mkdir(`${MOUNT}/first`);
  first.groups.push('first');
  first.finish();
  const before = inUse(machine);
  const world = new World(machine, prng);
  for (let i = 0; i < STEPS; i++) {
    world.step();
    if (i % 7 === 0) machine.validate();
  }
  world.finish();
  machine.validate();
  expect(machine.readFile(`${MOUNT}/cgroup.stat`)).toMatch(/nr_descendants 0\n/);
  expect(inUse(machine)).toEqual(before);
});
