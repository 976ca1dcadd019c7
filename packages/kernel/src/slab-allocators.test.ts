import { expect, test } from 'vitest';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { boot, bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { runDaemons } from './daemons.ts';
import { createMachine } from './machine.ts';

/** Faults, forks, files and threads. */
test.each([
  ['slub', false],
  ['slab', false],
  ['slab', true],
  ['slob', false],
] as const)('a machine with "slab": "%s", "debugSlab": %s runs programs and gets all of its memory back', (slab, debugSlab) => {
  const machine = boot({ memory: '256M', cpus: 2, slab, debugSlab });
  machine.quiesce();
  const before = machine.stats().framesByOwner;
  for (let round = 0; round < 3; round++) {
    const { status, error } = machine.run((os) => {
      const area = os.mmap(0, 256 * 4096, 3, 0x22);
      os.mem.fill(area, 256 * 4096, 7);
      for (let i = 0; i < 40; i++) os.mprotect(area + i * 8192, 4096, 1);
      for (let i = 0; i < 6; i++) os.waitpid(os.fork((child) => child.mem.store8(area + 4096, i)));
      os.munmap(area, 256 * 4096);
    });
    expect(error).toBeUndefined();
    expect(status).toBe(0);
    machine.validate();
  }
  machine.quiesce();
  expect(machine.stats().framesByOwner).toEqual(before);
  expect(machine.slabReports()).toEqual([]);
  const tunables = /^vm_area_struct .* : tunables +(\d+) +(\d+) +(\d+) :/m.exec(machine.readFile('/proc/slabinfo'))!.slice(1);
  expect(tunables).toEqual(slab === 'slab' ? ['120', '60', '8'] : ['0', '0', '0']);
});

test('the arrays of SLAB are per-CPU memory, and blocks of kmalloc', () => {
  const config = { memory: '256M', cpus: 4 } as const;
  const [slub, slab] = [boot(config), boot({ ...config, slab: 'slab' })];
  const percpu = (machine: typeof slab): number => Number(/^ *nr_alloc +: +(\d+)$/m.exec(machine.readFile('/sys/kernel/debug/percpu_stats'))![1]);
  const caches = slab.readFile('/proc/slabinfo').split('\n').length - 3;
  expect(percpu(slab) - percpu(slub)).toBeGreaterThanOrEqual(caches);
  // 16 bytes and 480 objects make a block of 4 KiB.
  const shared = /^kmalloc-4k +(\d+) /m.exec(slab.readFile('/proc/slabinfo'))![1];
  expect(Number(shared)).toBeGreaterThan(20);
});

test('debugging of SLAB is for SLAB', () => {
  expect(() => boot({ memory: '256M', debugSlab: true })).toThrow('debugSlab: takes true or false: ');
  const machine = boot({ memory: '256M', slab: 'slab', debugSlab: true, kernel: '6.1' });
  machine.module((k) => {
    const block = k.kmalloc(96);
    k.mem.store8(block + 96, 1);
    k.kfree(block);
  });
  expect(machine.slabReports()).toMatchObject([{ kind: 'redzone', cache: 'kmalloc-96' }]);
  expect(machine.dmesg()).toContain("slab error in verify_redzone_free(): cache `kmalloc-96': memory outside object was overwritten");
});

test('the reaper gives back what SLAB keeps and nobody needs', () => {
  const kernel = bootKernel(parseMachineConfig({ memory: '256M', cpus: 2, slab: 'slab' }));
  const blocks = Array.from({ length: 2000 }, () => kernel.slab.kmalloc(1024, GFP_KERNEL));
  for (const block of blocks) kernel.slab.kfree(block);
  const before = kernel.slab.nrPages;
  for (let visit = 0; visit < 60; visit++) {
    kernel.clock.advance(2e9);
    runDaemons(kernel);
  }
  expect(kernel.slab.nrPages).toBeLessThan(before - 60);
  createMachine(kernel).validate();
});
