import { expect, test } from 'vitest';
import { BufferPool } from '@pagelab/hw';
import { boot } from './boot.ts';

test('a booted machine is valid, and has its memory free', () => {
  const machine = boot({ memory: '1G' });
  machine.validate();
  const { totalPages, freePages, framesByOwner } = machine.stats();
  expect(freePages).toBeGreaterThan(totalPages * 0.98);
  expect(framesByOwner['kernel code']).toBeGreaterThan(0);
});

test('each kernel, board and number of CPUs boots', () => {
  for (const kernel of ['6.1', '6.12', '6.18'] as const) {
    for (const board of ['pc', 'q35'] as const) {
      const machine = boot({ memory: '512M', kernel, board, cpus: 3 });
      expect(machine.run((os) => os.mem.load8(os.mmap(0, 4096, 1, 0x22))).status).toBe(0);
      machine.validate();
    }
  }
});

test('the smallest and the largest machine run programs', () => {
  for (const memory of ['64M', '1T']) {
    const machine = boot({ memory, cpus: 2 });
    const { status } = machine.run((os) => {
      const page = os.mmap(0, 4096, 3, 0x22);
      os.mem.store8(page, 9);
      return os.mem.load8(page);
    });
    expect(status).toBe(9);
    machine.validate();
    expect(machine.stats().hostBytes).toBeLessThan(300 * 2 ** 20);
  }
});

test('the command line is acted on', () => {
  const total = (cmdline: string): number => boot({ memory: '1G', cmdline }).stats().totalPages;
  expect(total('mem=512M')).toBeLessThan(total('') * 0.55);
  const merged = boot({ memory: '128M' }).readFile('/proc/slabinfo').split('\n').length;
  const apart = boot({ memory: '128M', cmdline: 'slab_nomerge' }).readFile('/proc/slabinfo').split('\n').length;
  expect(apart).toBeGreaterThan(merged);
});

test('sysctl settings of the configuration take effect, and wrong ones are refused', () => {
  const machine = boot({ memory: '128M', sysctl: { 'vm.overcommit_memory': 2, 'vm.max_map_count': 100 } });
  expect(machine.readFile('/proc/sys/vm/overcommit_memory')).toBe('2\n');
  expect(machine.readFile('/proc/sys/vm/max_map_count')).toBe('100\n');
  expect(() => boot({ memory: '128M', sysctl: { 'vm.no_such': 1 } })).toThrow('sysctl: "vm.no_such" cannot be set to 1');
});

test('a machine that was disposed of says so, and so do the handles of its processes', () => {
  const buffers = new BufferPool();
  const machine = boot({ memory: '64M' }, { buffers });
  const { os } = machine.createProcess();
  const page = os.mmap(0, 4096, 3, 0x22);
  os.mem.store8(page, 1);
  machine.dispose();
  machine.dispose();
  expect(() => machine.stats()).toThrow('disposed');
  expect(() => os.getpid()).toThrow('disposed');
  expect(() => os.mem.load8(page)).toThrow('disposed');
  expect(buffers.size).toBe(1);
});

test('a machine in the buffer of another is as new', () => {
  const buffers = new BufferPool();
  const figures = (): unknown => {
    const machine = boot({ memory: '128M', cpus: 2 }, { buffers });
    machine.run((os) => os.mem.fill(os.mmap(0, 2 ** 20, 3, 0x22), 2 ** 20, 255));
    machine.validate();
    const stats = machine.stats();
    machine.dispose();
    return stats;
  };
  const first = figures();
  for (let i = 0; i < 3; i++) expect(figures()).toEqual(first);
});

test('a modelled TLB counts the accesses of programs, and is not there by default', () => {
  const touch = (spec: string): ReturnType<typeof boot> => {
    const machine = boot({ memory: '256M', tlb: spec });
    machine.run((os) => {
      const area = os.mmap(0, 64 * 4096, 3, 0x22);
      for (let round = 0; round < 4; round++) for (let page = 0; page < 64; page++) os.mem.store8(area + page * 4096, round);
    });
    machine.validate();
    return machine;
  };
  const { tlbModel } = touch('modelled:skylake').stats();
  // 64 pages fit its 64 entries: four rounds of stores, the first of which faults and is tried again.
  expect(tlbModel).toMatchObject({ name: 'skylake' });
  expect(tlbModel!.accesses).toBeGreaterThanOrEqual(4 * 64);
  expect(tlbModel!.l1Hits + tlbModel!.l2Hits).toBeGreaterThanOrEqual(3 * 64);
  expect(touch('functional').stats().tlbModel).toBeNull();
});
