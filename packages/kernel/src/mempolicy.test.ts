/** Memory policies: what each call answers, as Linux 6.18 on a machine with one node did; and where pages lie with two. */
import { MPOL_BIND, MPOL_DEFAULT, MPOL_F_ADDR, MPOL_F_NODE, MPOL_INTERLEAVE, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, MPOL_PREFERRED, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE, Syscall, errnoName, isError } from '@pagelab/abi';
import type { SyscallName } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';

const PAGE = 4096;
const PRIVATE = 0x22;
const SHARED = 0x21;

type Row = readonly [call: string, args: readonly (string | number)[], expected: string | number];

/** In order. `pol` and `mask` tell what was stored; `M1` stores a set of nodes first. */
const OBSERVED: readonly Row[] = [
  ['set_mempolicy', [0, 0, 0], 0],
  ['set_mempolicy', [7, 'bad', 64], 'EINVAL'],
  ['set_mempolicy', [6, 'M1', 64], 0],
  ['set_mempolicy', [0, 'M1', 64], 'EINVAL'],
  ['set_mempolicy', [0, 'M0', 64], 0],
  ['set_mempolicy', [1, 0, 0], 0],
  ['set_mempolicy', [1, 'M0', 64], 0],
  ['set_mempolicy', [32769, 'M0', 64], 'EINVAL'],
  ['set_mempolicy', [2, 0, 0], 'EINVAL'],
  ['set_mempolicy', [2, 'M0', 64], 'EINVAL'],
  ['set_mempolicy', [2, 'M2', 64], 'EINVAL'],
  ['set_mempolicy', [2, 'M1', 64], 0],
  ['set_mempolicy', [2, 'M3', 64], 0],
  ['set_mempolicy', [2, 'M1', 1], 'EINVAL'],
  ['set_mempolicy', [2, 'M1', 2], 0],
  ['set_mempolicy', [2, 'M1', 0], 'EINVAL'],
  ['set_mempolicy', [2, 'M1', 32770], 'EINVAL'],
  ['set_mempolicy', [2, 'bad', 64], 'EFAULT'],
  ['set_mempolicy', [49154, 'bad', 64], 'EINVAL'],
  ['set_mempolicy', [8195, 'bad', 64], 'EINVAL'],
  ['set_mempolicy', [8194, 'M1', 64], 0],
  ['set_mempolicy', [4, 'M1', 64], 'EINVAL'],
  ['set_mempolicy', [4, 'M0', 64], 0],
  ['set_mempolicy', [32772, 'M0', 64], 'EINVAL'],
  ['set_mempolicy', [5, 'M1', 64], 0],
  ['set_mempolicy', [16386, 'M2', 64], 0],
  ['set_mempolicy', [2, 'M1', 1024], 0],
  ['get_mempolicy', ['pol', 0, 0, 0, 0], 0],
  ['pol', [], 2],
  ['set_mempolicy', [3, 'M1', 64], 0],
  ['get_mempolicy', ['pol', 0, 0, 0, 1], 0],
  ['pol', [], 0],
  ['get_mempolicy', ['pol', 'm', 64, 0, 0], 0],
  ['pol', [], 3],
  ['mask', [], 1],
  ['get_mempolicy', ['pol', 'm', 0, 0, 8], 'EINVAL'],
  ['get_mempolicy', ['pol', 'm', 1, 0, 0], 0],
  ['get_mempolicy', ['pol', 'm', 1024, 0, 0], 0],
  ['get_mempolicy', ['pol', 0, 0, 0, 8], 'EINVAL'],
  ['get_mempolicy', ['pol', 0, 0, 'p', 0], 'EINVAL'],
  ['get_mempolicy', ['pol', 0, 0, 'p', 2], 0],
  ['get_mempolicy', ['pol', 0, 0, 'bad', 2], 'EFAULT'],
  ['get_mempolicy', ['pol', 0, 0, 'p', 3], 0],
  ['pol', [], 0],
  ['get_mempolicy', ['pol', 0, 0, 'p+32768', 3], 0],
  ['get_mempolicy', [0, 'm', 1024, 0, 4], 0],
  ['mask', [], 1],
  ['get_mempolicy', [0, 'm', 1024, 0, 5], 'EINVAL'],
  ['get_mempolicy', ['bad', 0, 0, 0, 0], 'EFAULT'],
  ['get_mempolicy', [0, 'bad', 1024, 0, 0], 'EFAULT'],
  ['get_mempolicy', ['pol', 'm', 70000, 0, 0], 'EINVAL'],
  ['set_mempolicy', [0, 0, 0], 0],
  ['get_mempolicy', ['pol', 0, 0, 0, 1], 'EINVAL'],
  ['mbind', ['p+1', 4096, 2, 'M1', 64, 0], 'EINVAL'],
  ['mbind', ['p+1', 4096, 2, 'M2', 64, 0], 'EINVAL'],
  ['mbind', ['p', 0, 2, 'M1', 64, 0], 0],
  ['mbind', ['p', 0, 2, 'M0', 64, 0], 0],
  ['mbind', ['p', 4096, 9, 'bad', 64, 8], 'EINVAL'],
  ['mbind', ['p', 4096, 2, 'bad', 64, 8], 'EFAULT'],
  ['mbind', ['p', 4096, 2, 'M1', 64, 8], 'EINVAL'],
  ['mbind', ['p', 4096, 2, 'M1', 64, 7], 0],
  ['mbind', ['p', 4096, 2, 'M2', 64, 0], 'EINVAL'],
  ['mbind', ['p', 1048576, 2, 'M1', 64, 0], 0],
  ['mbind', ['bad-16', 4096, 2, 'M1', 64, 0], 'EFAULT'],
  ['mbind', ['bad-16', 4096, 0, 0, 0, 0], 'EFAULT'],
  ['mbind', ['p', -4096, 2, 'M1', 64, 0], 'EINVAL'],
  ['mbind', ['p', -1, 2, 'M1', 64, 0], 0],
  ['mbind', ['p', 8192, 2, 'M1', 64, 3], 0],
  ['get_mempolicy', ['pol', 'm', 1024, 'p', 2], 0],
  ['pol', [], 2],
  ['mask', [], 1],
  ['set_mempolicy_home_node', ['p', 4096, 0, 0], 0],
  ['set_mempolicy_home_node', [-(2 ** 47), 0, 0, 0], 0],
  ['set_mempolicy_home_node', [-(2 ** 47), 4096, 0, 0], 'ENOENT'],
  ['set_mempolicy_home_node', ['p+1', 4096, 0, 0], 'EINVAL'],
  ['set_mempolicy_home_node', ['p', 4096, 0, 1], 'EINVAL'],
  ['set_mempolicy_home_node', ['p', 4096, 1, 0], 'EINVAL'],
  ['set_mempolicy_home_node', ['p', 4096, 5000, 0], 'EINVAL'],
  ['set_mempolicy_home_node', ['p', 0, 0, 0], 0],
  ['set_mempolicy_home_node', ['p+32768', 4096, 0, 0], 0],
  ['mbind', ['p', 4096, 1, 'M1', 64, 0], 0],
  ['set_mempolicy_home_node', ['p', 4096, 0, 0], 'EOPNOTSUPP'],
  ['set_mempolicy_home_node', ['p', 65536, 0, 0], 'EOPNOTSUPP'],
  ['migrate_pages', [0, 64, 'a', 'a'], 0],
  ['migrate_pages', [0, 64, 'a', 'b'], 'EINVAL'],
  ['migrate_pages', [99999, 64, 'a', 'a'], 'ESRCH'],
  ['migrate_pages', [99999, 64, 'bad', 'a'], 'EFAULT'],
  ['migrate_pages', [0, 0, 'a', 'a'], 'EINVAL'],
  ['migrate_pages', [0, 64, 'b', 'a'], 0],
  ['move_pages', [0, 4, 'pg', 0, 'st', 0], 0],
  ['move_pages', [0, 4, 'pg', 'nd', 'st', 2], 0],
  ['move_pages', [0, 4, 'pg', 'nd', 'st', 8], 'EINVAL'],
  ['move_pages', [0, 4, 'bad', 'nd', 'st', 2], 'EFAULT'],
  ['move_pages', [0, 4, 'pg', 'bad', 'st', 2], 'EFAULT'],
  ['move_pages', [0, 4, 'pg', 'nd', 'bad', 2], 'EFAULT'],
  ['move_pages', [0, 4, 'pg', 0, 'bad', 2], 'EFAULT'],
  ['move_pages', [99999, 4, 'pg', 'nd', 'st', 2], 'ESRCH'],
  ['move_pages', [0, 0, 'pg', 'nd', 'st', 2], 0],
  ['move_pages', [0, 1, 'pg', 'nd', 'st', 0], 0],
  ['move_pages', [0, 1, 'bad', 'bad', 'bad', 8], 'EINVAL'],
];

/** A process with a page for what calls read and write. */
class Caller {
  readonly process: Process;
  readonly page: number;

  constructor(machine: Machine) {
    this.process = machine.createProcess();
    this.page = this.map(PAGE);
  }

  get os(): Process['os'] {
    return this.process.os;
  }

  map(bytes: number, flags = PRIVATE): number {
    return this.os.mmap(0, bytes, 3, flags);
  }

  touch(start: number, pages: number): void {
    for (let i = 0; i < pages; i++) this.os.mem.store8(start + i * PAGE, 1);
  }

  call(name: SyscallName, ...args: number[]): number | string {
    const result = this.os.syscall(Syscall[name], ...args);
    return isError(result) ? errnoName(result) : result;
  }

  /** Stores a set of nodes; returns its address. */
  mask(bits: number, offset = 0): number {
    this.os.mem.storeAddress(this.page + offset, bits);
    return this.page + offset;
  }

  policy(mode: number, bits: number): void {
    expect(this.call('set_mempolicy', mode, bits === 0 ? 0 : this.mask(bits), 64)).toBe(0);
  }

  bind(start: number, pages: number, mode: number, bits: number, flags = 0): number | string {
    return this.call('mbind', start, pages * PAGE, mode, bits === 0 ? 0 : this.mask(bits), 64, flags);
  }

  /** The node of each page. */
  nodes(start: number, pages: number): string {
    let text = '';
    for (let i = 0; i < pages; i++) {
      expect(this.call('get_mempolicy', this.page + 512, 0, 0, start + i * PAGE, MPOL_F_NODE | MPOL_F_ADDR)).toBe(0);
      text += String(this.os.mem.load32(this.page + 512));
    }
    return text;
  }

  pin(cpu: number): void {
    expect(this.call('sched_setaffinity', 0, 8, this.mask(1 << cpu))).toBe(0);
  }
}

it('answers as Linux does', () => {
  const machine = boot({ memory: '128M' });
  const caller = new Caller(machine);
  const { os } = caller;
  const p = caller.map(2 ** 20);
  caller.touch(p, 4);
  const { page } = caller;
  const at: Record<string, number> = { p, bad: 16, pol: page + 1024, m: page, a: page + 1040, b: page + 1048, pg: page + 1100, nd: page + 1200, st: page + 1300 };
  os.mem.storeAddress(at['a']!, 1);
  os.mem.storeAddress(at['b']!, 2);
  [p, p + PAGE, p + 10 * PAGE, 16].forEach((address, i) => os.mem.storeAddress(at['pg']! + i * 8, address));
  const resolve = (arg: string | number): number => {
    if (typeof arg === 'number') return arg;
    if (/^M\d+$/.test(arg)) return caller.mask(Number(arg.slice(1)));
    const [, name, offset] = /^(\w+?)([+-]\d+)?$/.exec(arg)!;
    return at[name!]! + Number(offset ?? 0);
  };
  const seen = OBSERVED.map(([name, args]): Row => {
    if (name === 'pol') return [name, args, os.mem.load32(at['pol']!)];
    if (name === 'mask') return [name, args, os.mem.loadAddress(page)];
    return [name, args, caller.call(name as SyscallName, ...args.map(resolve))];
  });
  expect(seen).toEqual(OBSERVED);
  expect([0, 4, 8, 12].map((offset) => os.mem.load32(at['st']! + offset) | 0)).toEqual([0, 0, -2, -14]);
  caller.process.exit(0);
  machine.validate();
  expect(machine.stats().slabs.find(({ name }) => name === 'numa_policy')?.activeObjects ?? 0).toBe(0);
});

describe('two nodes', () => {
  const machineOf = (kernel: '6.18' | '6.1' = '6.18'): Machine =>
    boot({ kernel, memory: '256M', cpus: 2, numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }], cmdline: 'transparent_hugepage=never' });

  function finish(machine: Machine, caller: Caller): void {
    machine.validate();
    caller.process.exit(0);
    machine.validate();
    expect(machine.stats().slabs.find(({ name }) => name === 'numa_policy')?.activeObjects ?? 0).toBe(0);
  }

  it('takes pages from where each policy says', () => {
    const machine = machineOf();
    const caller = new Caller(machine);
    caller.pin(0);
    const fresh = (mode: number, bits: number): string => {
      caller.policy(mode, bits);
      const start = caller.map(8 * PAGE);
      caller.touch(start, 8);
      return caller.nodes(start, 8);
    };
    expect(fresh(MPOL_DEFAULT, 0)).toBe('00000000');
    expect(fresh(MPOL_BIND, 2)).toBe('11111111');
    expect(fresh(MPOL_INTERLEAVE, 3)).toMatch(/^(01){4}$|^(10){4}$/);
    expect(fresh(MPOL_PREFERRED, 2)).toBe('11111111');
    expect(fresh(MPOL_PREFERRED_MANY, 2)).toBe('11111111');
    machine.writeFile('/sys/kernel/mm/mempolicy/weighted_interleave/node0', '3');
    expect(fresh(MPOL_WEIGHTED_INTERLEAVE, 3)).toMatch(/^(?=.*00010001|.*00100010|.*01000100|.*10001000)/);
    caller.policy(MPOL_DEFAULT, 0);
    caller.pin(1);
    expect(fresh(MPOL_DEFAULT, 0)).toBe('11111111');
    finish(machine, caller);
  });

  it('splits and merges mappings by their policies, and lets a child have them', () => {
    const machine = machineOf();
    const caller = new Caller(machine);
    const start = caller.map(16 * PAGE);
    const lines = (): number => caller.os.readFile('/proc/self/numa_maps').split('\n').filter((line) => /^(?:7f\w+) (bind|default|prefer)/.test(line) && !/stack|file/.test(line)).length;
    const before = lines();
    expect(caller.bind(start + 4 * PAGE, 4, MPOL_BIND, 2)).toBe(0);
    expect(lines()).toBe(before + 2);
    expect(caller.bind(start + 8 * PAGE, 4, MPOL_BIND, 2)).toBe(0);
    expect(lines()).toBe(before + 2);
    caller.touch(start, 16);
    expect(caller.nodes(start + 4 * PAGE, 8)).toBe('11111111');
    const child = caller.process.fork() as Process;
    child.os.mem.store8(start + 4 * PAGE, 2);
    expect(machine.readFile(`/proc/${child.pid}/numa_maps`)).toMatch(/bind:1 anon=8 dirty=8 mapmax=2 active=0 N1=8 /);
    child.exit(0);
    expect(caller.bind(start, 16, MPOL_DEFAULT, 0)).toBe(0);
    expect(lines()).toBe(before);
    finish(machine, caller);
  });

  it('moves what lies elsewhere, but not what others share unless told', () => {
    const machine = machineOf();
    const caller = new Caller(machine);
    caller.pin(0);
    const start = caller.map(8 * PAGE);
    caller.touch(start, 8);
    expect(caller.bind(start, 8, MPOL_BIND, 2, MPOL_MF_STRICT)).toBe('EIO');
    expect(caller.nodes(start, 8)).toBe('00000000');
    const child = caller.process.fork() as Process;
    expect(caller.bind(start, 8, MPOL_BIND, 2, MPOL_MF_MOVE)).toBe(0);
    expect(caller.nodes(start, 8)).toBe('00000000');
    expect(caller.bind(start, 4, MPOL_BIND, 2, MPOL_MF_MOVE_ALL | MPOL_MF_STRICT)).toBe(0);
    expect(caller.nodes(start, 8)).toBe('11110000');
    child.exit(0);
    expect(caller.call('migrate_pages', 0, 64, caller.mask(2), caller.mask(1, 8))).toBe(0);
    expect(caller.nodes(start, 8)).toBe('00000000');
    for (let i = 0; i < 8; i++) expect(caller.os.mem.load8(start + i * PAGE)).toBe(1);
    finish(machine, caller);
  });

  it('moves pages one by one, and says what came of each', () => {
    const machine = machineOf();
    const caller = new Caller(machine);
    caller.pin(0);
    const start = caller.map(4 * PAGE);
    caller.touch(start, 3);
    const { mem } = caller.os;
    const [pages, nodes, status] = [caller.page + 1024, caller.page + 1280, caller.page + 1536];
    [0, 1, 2, 3].forEach((i) => {
      mem.storeAddress(pages + i * 8, start + i * PAGE);
      mem.store32(nodes + i * 4, i === 1 ? 0 : 1);
    });
    expect(caller.call('move_pages', 0, 4, pages, nodes, status, MPOL_MF_MOVE)).toBe(0);
    expect([0, 4, 8, 12].map((offset) => mem.load32(status + offset) | 0)).toEqual([1, 0, 1, -2]);
    expect(caller.nodes(start, 3)).toBe('101');
    finish(machine, caller);
  });

  it('gives shared memory one policy for all who map it', () => {
    const machine = machineOf();
    const caller = new Caller(machine);
    caller.pin(0);
    const start = caller.map(8 * PAGE, SHARED);
    const child = caller.process.fork() as Process;
    expect(caller.bind(start + 2 * PAGE, 4, MPOL_BIND, 2)).toBe(0);
    for (let i = 0; i < 8; i++) child.os.mem.store8(start + i * PAGE, 1);
    expect(caller.nodes(start, 8)).toBe(child.os.getpid() > 0 ? '00111100' : '');
    child.exit(0);
    finish(machine, caller);
  });

  it('counts hits, misses and pages taken in turn', () => {
    const machine = machineOf('6.1');
    const caller = new Caller(machine);
    caller.pin(0);
    const stat = (nid: number, name: string): number => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(machine.readFile(`/sys/devices/system/node/node${nid}/numastat`))![1]);
    const [hits, turns, others] = [stat(1, 'numa_hit'), stat(1, 'interleave_hit'), stat(1, 'other_node')];
    caller.policy(MPOL_INTERLEAVE, 3);
    const start = caller.map(64 * PAGE);
    caller.touch(start, 64);
    expect(stat(1, 'interleave_hit') - turns).toBeGreaterThanOrEqual(32);
    expect(stat(1, 'numa_hit') - hits).toBe(stat(1, 'interleave_hit') - turns);
    expect(stat(1, 'other_node') - others).toBe(stat(1, 'numa_hit') - hits);
    expect(stat(1, 'numa_miss') + stat(0, 'numa_foreign')).toBe(0);
    finish(machine, caller);
  });
});
