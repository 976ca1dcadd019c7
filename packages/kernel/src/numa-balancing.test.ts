/** NUMA balancing and memory tiers. */
import { MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './index.ts';
import type { Machine, MachineConfigInput } from './index.ts';

const TWO_NODES: MachineConfigInput = {
  memory: '256M',
  cpus: 2,
  numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }],
};
/** A second node without CPUs, of slow memory. */
const SLOW: MachineConfigInput = {
  memory: '192M',
  cpus: 1,
  numa: [{ memory: '64M', cpus: [0] }, { memory: '128M', cpus: [], adistance: 2880 }],
};

function vmstat(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))![1]);
}

function map(os: Os, pages: number): number {
  // Between two pages that belong to nobody, so that it stays a mapping of its own.
  const start = os.mmap(0, (pages + 2) * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS) + PAGE_SIZE;
  os.mprotect(start, pages * PAGE_SIZE, PROT_READ | PROT_WRITE);
  return start;
}

function touch(os: Os, start: number, pages: number): void {
  for (let page = 0; page < pages; page++) os.mem.store32(start + page * PAGE_SIZE, page + 1);
}

function runOn(os: Os, scratch: number, cpu: number): void {
  os.mem.store32(scratch, 1 << cpu);
  expect(os.syscall(Syscall.sched_setaffinity, 0, 8, scratch)).toBe(0);
}

function sleep(os: Os, scratch: number, ms: number): void {
  os.mem.store64(scratch, BigInt(Math.floor(ms / 1000)));
  os.mem.store64(scratch + 8, BigInt((ms % 1000) * 1e6));
  expect(os.syscall(Syscall.nanosleep, scratch, 0)).toBe(0);
}

/** Pages of a range by node, as `move_pages` without nodes tells. */
function nodes(os: Os, start: number, pages: number): Record<number, number> {
  const line = os.readFile('/proc/self/numa_maps').split('\n').find((each) => each.startsWith(start.toString(16)))!;
  const found: Record<number, number> = {};
  for (const [, nid, count] of line.matchAll(/ N(\d)=(\d+)/g)) found[Number(nid)] = Number(count);
  expect(Object.values(found).reduce((sum, count) => sum + count, 0)).toBe(pages);
  return found;
}

describe('balancing', () => {
  it('is on where there are several nodes, and says so', () => {
    expect(boot(TWO_NODES).dmesg()).toContain('Enabling automatic NUMA balancing');
    const read = (config: MachineConfigInput): string => boot(config).readFile('/proc/sys/kernel/numa_balancing').trim();
    expect([read(TWO_NODES), read({ ...TWO_NODES, cmdline: 'numa_balancing=disable' }), read({ memory: '64M' })]).toEqual(['1', '0', '0']);
    const machine = boot(TWO_NODES);
    expect(() => machine.writeFile('/proc/sys/kernel/numa_balancing', '5')).toThrow('EINVAL');
    machine.writeFile('/proc/sys/kernel/numa_balancing', '4');
    expect(machine.readFile('/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps')).toBe('65536\n');
    expect(machine.readFile('/sys/kernel/debug/sched/numa_balancing/scan_size_mb')).toBe('256\n');
  });

  it('brings pages to the node where their task runs now', () => {
    const machine = boot(TWO_NODES);
    const { os } = machine.createProcess();
    const scratch = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    os.mem.store32(scratch, 0);
    runOn(os, scratch, 0);
    const start = map(os, 256);
    touch(os, start, 256);
    expect(nodes(os, start, 256)).toEqual({ 0: 256 });
    runOn(os, scratch, 1);
    for (let i = 0; i < 4; i++) {
      sleep(os, scratch, 1100);
      touch(os, start, 256);
      machine.validate();
    }
    expect(nodes(os, start, 256)).toEqual({ 1: 256 });
    const migrated = vmstat(machine, 'numa_pages_migrated');
    expect(migrated).toBeGreaterThanOrEqual(256);
    expect(vmstat(machine, 'numa_pte_updates')).toBeGreaterThanOrEqual(vmstat(machine, 'numa_hint_faults'));
    expect(vmstat(machine, 'numa_hint_faults')).toBeGreaterThanOrEqual(migrated);
    // The pages of a task alone in its address space are not looked at where they are right.
    expect(vmstat(machine, 'numa_hint_faults_local')).toBe(0);
    expect(vmstat(machine, 'pgmigrate_success')).toBe(migrated);
    for (let page = 0; page < 256; page++) expect(os.mem.load32(start + page * PAGE_SIZE)).toBe(page + 1);
    const updates = vmstat(machine, 'numa_pte_updates');
    for (let i = 0; i < 4; i++) sleep(os, scratch, 5000);
    expect(vmstat(machine, 'numa_pte_updates')).toBe(updates);
    // What is inaccessible can be protected, forked and unmapped as ever.
    runOn(os, scratch, 0);
    for (let i = 0; i < 16; i++) sleep(os, scratch, 5000);
    expect(vmstat(machine, 'numa_pte_updates')).toBeGreaterThan(updates);
    os.mprotect(start, 64 * PAGE_SIZE, PROT_READ);
    machine.validate();
    const child = os.fork((each) => (each.mem.load32(start + 100 * PAGE_SIZE) === 101 ? 0 : 1));
    expect(os.waitpid(child)).toMatchObject({ status: 0 });
    machine.validate();
    os.munmap(start, 256 * PAGE_SIZE);
    machine.validate();
  });

  it('leaves alone what has a policy, unless the policy says otherwise', () => {
    const machine = boot(TWO_NODES);
    const { os } = machine.createProcess();
    const scratch = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    os.mem.store32(scratch, 0);
    runOn(os, scratch, 0);
    const [bound, balanced] = [map(os, 64), map(os, 64)];
    const [MPOL_BIND, MPOL_F_NUMA_BALANCING] = [2, 1 << 13];
    os.mem.store64(scratch, 1n);
    expect(os.syscall(Syscall.mbind, bound, 64 * PAGE_SIZE, MPOL_BIND, scratch, 64, 0)).toBe(0);
    os.mem.store64(scratch, 3n);
    expect(os.syscall(Syscall.mbind, balanced, 64 * PAGE_SIZE, MPOL_BIND | MPOL_F_NUMA_BALANCING, scratch, 64, 0)).toBe(0);
    touch(os, bound, 64);
    touch(os, balanced, 64);
    runOn(os, scratch, 1);
    for (let i = 0; i < 4; i++) {
      sleep(os, scratch, 1100);
      touch(os, bound, 64);
      touch(os, balanced, 64);
    }
    expect([nodes(os, bound, 64), nodes(os, balanced, 64)]).toEqual([{ 0: 64 }, { 1: 64 }]);
    machine.validate();
  });

  it('moves huge pages whole', () => {
    const machine = boot(TWO_NODES);
    machine.writeFile('/sys/kernel/mm/transparent_hugepage/enabled', 'madvise');
    const { os } = machine.createProcess();
    const scratch = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    os.mem.store32(scratch, 0);
    runOn(os, scratch, 0);
    const start = os.mmap(0, 8 * 2 ** 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    os.madvise(start, 8 * 2 ** 20, MADV_HUGEPAGE);
    const aligned = Math.ceil(start / 2 ** 21) * 2 ** 21;
    touch(os, aligned, 1024);
    expect(nodes(os, start, 1024)).toEqual({ 0: 1024 });
    runOn(os, scratch, 1);
    for (let i = 0; i < 4; i++) {
      sleep(os, scratch, 1100);
      touch(os, aligned, 1024);
      machine.validate();
    }
    expect(nodes(os, start, 1024)).toEqual({ 1: 1024 });
    expect(vmstat(machine, 'numa_huge_pte_updates')).toBeGreaterThanOrEqual(2);
    expect(vmstat(machine, 'thp_migration_success')).toBeGreaterThanOrEqual(2);
    expect(vmstat(machine, 'thp_split_page')).toBe(0);
  });
});

describe('tiers', () => {
  it('are listed', () => {
    const machine = boot(SLOW);
    const tier = (number: number): string => machine.readFile(`/sys/devices/virtual/memory_tiering/memory_tier${number}/nodelist`);
    expect([tier(4), tier(22)]).toEqual(['0\n', '1\n']);
    expect(machine.readFile('/sys/kernel/mm/numa/demotion_enabled')).toBe('false\n');
  });

  it('take what is not used, instead of swap, and give back what is', () => {
    const machine = boot({ ...SLOW, swap: [{ size: '64M' }], cmdline: 'numa_balancing=disable' });
    machine.writeFile('/sys/kernel/mm/numa/demotion_enabled', '1');
    const { os } = machine.createProcess();
    const scratch = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    os.mem.store32(scratch, 0);
    const MPOL_BIND = 2;
    // Fast memory only, so that it runs short.
    os.mem.store64(scratch, 1n);
    const pages = 20_000;
    const start = map(os, pages);
    expect(os.syscall(Syscall.mbind, start, pages * PAGE_SIZE, MPOL_BIND, scratch, 64, 0)).toBe(0);
    touch(os, start, pages);
    machine.validate();
    const demoted = vmstat(machine, 'pgdemote_kswapd') + vmstat(machine, 'pgdemote_direct');
    expect(demoted).toBeGreaterThan(4000);
    expect(vmstat(machine, 'pswpout')).toBe(0);
    expect(nodes(os, start, pages)[1]).toBeGreaterThan(4000);
    // In mode 2 pages of slow memory that are used come back, as far as there is room.
    expect(os.syscall(Syscall.mbind, start, pages * PAGE_SIZE, 0, 0, 0, 0)).toBe(0);
    os.munmap(start, 18_000 * PAGE_SIZE);
    const rest = start + 18_000 * PAGE_SIZE;
    os.syscall(Syscall.madvise, rest, 2000 * PAGE_SIZE, 0);
    os.mem.store64(scratch, 1n);
    machine.writeFile('/proc/sys/kernel/numa_balancing', '2');
    machine.writeFile('/sys/kernel/mm/numa/demotion_enabled', '0');
    const slowBefore = nodes(os, rest, 2000)[1] ?? 0;
    const slow = map(os, 1000);
    os.mem.store64(scratch + 8, 2n);
    expect(os.syscall(Syscall.mbind, slow, 1000 * PAGE_SIZE, MPOL_BIND, scratch + 8, 64, 0)).toBe(0);
    touch(os, slow, 1000);
    expect(os.syscall(Syscall.mbind, slow, 1000 * PAGE_SIZE, 0, 0, 0, 0)).toBe(0);
    expect(nodes(os, slow, 1000)).toEqual({ 1: 1000 });
    for (let i = 0; i < 4; i++) {
      sleep(os, scratch, 1100);
      touch(os, slow, 1000);
      machine.validate();
    }
    expect(nodes(os, slow, 1000)).toEqual({ 0: 1000 });
    expect(vmstat(machine, 'pgpromote_success')).toBeGreaterThanOrEqual(1000);
    expect(slowBefore).toBeLessThanOrEqual(2000);
    machine.validate();
  });
});
