import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { GFP_NOWAIT, __GFP_NOWARN } from '@pagelab/mm-core';
import { boot, bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';

function meminfo(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(machine.readFile('/proc/meminfo'))?.[1] ?? NaN);
}

function vmstat(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))?.[1] ?? NaN);
}

/** Free blocks of the largest two orders, in pages of all zones. */
function largeFree(machine: Machine): number {
  return machine.readFile('/proc/buddyinfo').trim().split('\n').reduce((sum, line) => {
    const orders = line.trim().split(/\s+/).slice(4).map(Number);
    return sum + orders[9]! * 512 + orders[10]! * 1024;
  }, 0);
}

/** Fills most of memory, and gives every second page back. */
function scatter(os: Os, mib: number): number {
  const length = mib * 2 ** 20;
  const addr = os.mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
  for (let at = 0; at < length; at += 4096) os.mem.store32(addr + at, at / 4096);
  for (let at = 0; at < length; at += 8192) os.madvise(addr + at, 4096, MADV_DONTNEED);
  return addr;
}

describe('compaction, asked for by a program', () => {
  it('makes room for huge pages, and no page changes', () => {
    const machine = boot({ memory: '128M' });
    let before = 0;
    let after = 0;
    machine.run((os) => {
      const addr = scatter(os, 80);
      before = largeFree(machine);
      machine.writeFile('/proc/sys/vm/compact_memory', '1');
      after = largeFree(machine);
      for (let at = 4096; at < 80 * 2 ** 20; at += 8192) if (os.mem.load32(addr + at) !== at / 4096) throw new Error('changed');
    });
    expect(before).toBeLessThan(7000);
    expect(after).toBeGreaterThan(before + 6000);
    expect(vmstat(machine, 'compact_migrate_scanned')).toBeGreaterThan(8000);
    expect(vmstat(machine, 'compact_free_scanned')).toBeGreaterThan(1000);
    expect(vmstat(machine, 'pgmigrate_success')).toBeGreaterThan(3000);
    machine.validate();
  });

  it('takes 1 and nothing else, and each node by itself', () => {
    const machine = boot({ memory: '256M', cpus: 2, numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }] });
    expect(() => machine.writeFile('/proc/sys/vm/compact_memory', '2')).toThrow(/EINVAL/);
    expect(() => machine.writeFile('/proc/sys/vm/compaction_proactiveness', '101')).toThrow(/EINVAL/);
    machine.writeFile('/sys/devices/system/node/node1/compact', '1');
    expect(machine.readFile('/proc/sys/vm/compaction_proactiveness')).toBe('20\n');
    expect(machine.readFile('/proc/sys/vm/extfrag_threshold')).toBe('500\n');
    expect(machine.readFile('/sys/kernel/debug/extfrag/extfrag_index').split('\n')[0]).toBe(`Node 0, zone      DMA ${'-1.000 '.repeat(11)}`);
    machine.validate();
  });
});

describe('kcompactd', () => {
  it('is woken by who cannot compact, and works when its time has come', () => {
    const kernel = bootKernel(parseMachineConfig({ memory: '128M' }));
    const machine = createMachine(kernel);
    const { pages } = kernel;
    machine.run((os) => {
      scatter(os, 80);
      expect(pages.allocPages(GFP_NOWAIT | __GFP_NOWARN, 9)).toBeLessThan(0);
      expect(vmstat(machine, 'compact_daemon_wake')).toBe(0);
      os.syscall(Syscall.getppid);
      expect(vmstat(machine, 'compact_daemon_wake')).toBe(1);
      expect(vmstat(machine, 'compact_daemon_migrate_scanned')).toBeGreaterThan(0);
      const pfn = pages.allocPages(GFP_NOWAIT | __GFP_NOWARN, 9);
      expect(pfn).toBeGreaterThan(0);
      pages.freePages(pfn, 9);
    });
    machine.validate();
  });
});

describe('cma=', () => {
  it('shows as on a kernel with CMA', () => {
    const machine = boot({ memory: '1G', cmdline: 'cma=64M' });
    expect([meminfo(machine, 'CmaTotal'), meminfo(machine, 'CmaFree')]).toEqual([65_536, 65_536]);
    expect([vmstat(machine, 'nr_free_cma'), vmstat(machine, 'cma_alloc_success'), vmstat(machine, 'cma_alloc_fail')]).toEqual([16_384, 0, 0]);
    expect(machine.readFile('/proc/zoneinfo')).toMatch(/^ {8}cma {6}16384$/m);
    expect(machine.readFile('/proc/pagetypeinfo')).toMatch(/type {10}CMA .* 2 {5}15 $/m);
    expect(machine.readFile('/dev/kmsg')).toContain('cma: Reserved 64 MiB at 0x');
    const none = boot({ memory: '1G' });
    expect(none.readFile('/proc/meminfo')).not.toContain('Cma');
    expect(none.readFile('/proc/vmstat')).not.toContain('cma_alloc');
    expect(none.readFile('/proc/pagetypeinfo')).not.toContain('CMA');
    const zero = boot({ memory: '1G', cmdline: 'cma=0' });
    expect([meminfo(zero, 'CmaTotal'), meminfo(zero, 'CmaFree')]).toEqual([0, 0]);
  });

  it('lends its pages to programs, and gets them back in one piece', () => {
    const machine = boot({ memory: '192M', cmdline: 'cma=64M' });
    machine.run((os) => {
      const length = 100 * 2 ** 20;
      const addr = os.mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      for (let at = 0; at < length; at += 4096) os.mem.store32(addr + at, at);
      expect(meminfo(machine, 'CmaFree')).toBeLessThan(40_000);
      machine.writeFile('/sys/kernel/debug/cma/reserved/alloc', '8192');
      expect(machine.readFile('/sys/kernel/debug/cma/reserved/used')).toBe('8192\n');
      expect(vmstat(machine, 'cma_alloc_success')).toBe(1);
      expect(vmstat(machine, 'pgmigrate_success')).toBeGreaterThan(1000);
      for (let at = 0; at < length; at += 4096) if (os.mem.load32(addr + at) !== at) throw new Error('changed');
    });
    expect(() => machine.writeFile('/sys/kernel/debug/cma/reserved/alloc', '16384')).toThrow(/ENOMEM/);
    machine.writeFile('/sys/kernel/debug/cma/reserved/free', '8192');
    expect(machine.readFile('/sys/kernel/debug/cma/reserved/maxchunk')).toBe('16384\n');
    machine.validate();
  });

  it('says so where there is no place', () => {
    const machine = boot({ memory: '192M', cmdline: 'cma=64M@512M' });
    expect(machine.readFile('/dev/kmsg')).toContain('cma: Failed to reserve 64 MiB');
    expect(meminfo(machine, 'CmaTotal')).toBe(0);
  });
});
