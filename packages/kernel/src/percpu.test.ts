import fc from 'fast-check';
import { expect, test } from 'vitest';
import { boot, bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { GFP_NOWAIT } from './index.ts';
import { createMachine } from './machine.ts';
import { inUse, small } from './testing/run.ts';

const percpuKib = (machine: { readFile(path: string): string }): number => Number(/Percpu: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);

test('the first chunk is what stock kernels log, for every CPU there could be', () => {
  for (const [config, text, kib] of [
    [{ kernel: '6.1', cpus: 1 }, 'Embedded 62 pages/cpu s217088 r8192 d28672 u2097152', 248],
    [{ kernel: '6.12', cpus: 4 }, 'Embedded 66 pages/cpu s233472 r8192 d28672 u524288', 1056],
    [{ kernel: '6.1', cpus: 1, possibleCpus: 8 }, 'Embedded 62 pages/cpu s217088 r8192 d28672 u262144', 1984],
    [{ kernel: '6.1', cpus: 2, arch: 'x86-pae' }, 'Embedded 33 pages/cpu s104276 r0 d30892 u135168', 264],
    [{ kernel: '6.1', cpus: 1, arch: 'x86-32' }, 'Embedded 33 pages/cpu s103316 r0 d31852 u135168', 132],
    [{ cpus: 64 }, 'Embedded 66 pages/cpu', 64 * 264],
  ] as const) {
    const machine = boot({ memory: '256M', ...config });
    expect(machine.dmesg()).toContain(text);
    expect(percpuKib(machine)).toBe(kib);
    machine.validate();
  }
});

test('CPUs of different nodes have units in different pieces', () => {
  const numa = [{ memory: '1G', cpus: [0, 1] }, { memory: '1G', cpus: [2, 3] }];
  expect(boot({ kernel: '6.1', cpus: 4, memory: '2G', numa }).dmesg()).toContain('percpu: Embedded 62 pages/cpu s217088 r8192 d28672 u1048576');
});

test('each CPU has a copy of its own, zeroed', () => {
  const machine = small(4);
  const before = inUse(machine);
  machine.module((k) => {
    const counter = k.allocPercpu(8);
    for (let cpu = 0; cpu < 4; cpu++) {
      expect(k.mem.loadAddress(k.perCpuPtr(counter, cpu))).toBe(0);
      k.onCpu(cpu, () => k.mem.storeAddress(k.thisCpuPtr(counter), cpu + 1));
    }
    expect([0, 1, 2, 3].map((cpu) => k.mem.loadAddress(k.perCpuPtr(counter, cpu)))).toEqual([1, 2, 3, 4]);
    k.freePercpu(counter);
    const again = k.allocPercpu(8);
    expect(again).toBe(counter);
    expect(k.mem.loadAddress(k.perCpuPtr(again, 3))).toBe(0);
    k.freePercpu(again);
    expect(() => k.perCpuPtr(counter, 4)).toThrow('CPUs are 0 to 3');
  });
  machine.validate();
  expect(inUse(machine)).toEqual(before);
});

test('where the first chunk is full, another is made in vmalloc\'s address space, from its end down, page by page', () => {
  const machine = small(2);
  const before = inUse(machine);
  const kib = percpuKib(machine);
  machine.module((k) => {
    // 28 KiB are free in the first one.
    const first = k.allocPercpu(28 * 1024);
    const second = k.allocPercpu(6000);
    expect(percpuKib(machine) - kib).toBe(2 * 2 * 4);
    expect(machine.readFile('/proc/vmallocinfo')).toMatch(/^0xffffe8[0-9a-f]{10}-0xffffe8ffffff[ef]000 +2097152 pcpu_get_vm_areas vmalloc$/m);
    k.mem.fill(k.perCpuPtr(second, 1), 6000, 7);
    expect(k.mem.load8(k.perCpuPtr(second, 0) + 5999)).toBe(0);
    expect(machine.readFile('/sys/kernel/debug/percpu_stats')).toMatch(/nr_cur_alloc +: +2\n.*\n {2}nr_chunks +: +2\n/);
    k.freePercpu(first);
    k.freePercpu(second);
    machine.validate();
  });
  expect(inUse(machine)).toEqual(before);
  expect(percpuKib(machine)).toBe(kib);
});

test('who may not sleep gets what is there, and no new chunk', () => {
  const machine = small(1);
  machine.module((k) => {
    expect(k.allocPercpu(28 * 1024, 8, GFP_NOWAIT)).toBeGreaterThan(0);
    expect(k.allocPercpu(2000, 8, GFP_NOWAIT)).toBe(0);
    const page = k.allocPercpu(2000);
    expect(page).not.toBe(0);
    expect(k.allocPercpu(2000, 8, GFP_NOWAIT)).not.toBe(0);
    expect(k.allocPercpu(2000, 8, GFP_NOWAIT)).toBe(0);
  });
});

test('sizes and alignments that no area has are refused, and pointers that are none', () => {
  const machine = small(1);
  machine.module((k) => {
    expect([k.allocPercpu(0), k.allocPercpu(32 * 1024 + 1), k.allocPercpu(8, 3), k.allocPercpu(8, 8192)]).toEqual([0, 0, 0, 0]);
    const ok = k.allocPercpu(100, 64);
    expect(Math.abs(k.perCpuPtr(ok, 0) % 64)).toBe(0);
    k.freePercpu(ok + 4);
    k.freePercpu(12);
  });
  expect(machine.dmesg().match(/illegal size \(\d+\) or align \(\d+\) for percpu allocation/g)).toHaveLength(4);
  expect(machine.dmesg().match(/not a per-CPU allocation/g)).toHaveLength(2);
  machine.validate();
});

test('a failure at each allocation inside leaves nothing behind', () => {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M', cpus: 2, arch: 'x86-pae' }));
  const machine = createMachine(kernel);
  const { pages, percpu, slab } = kernel;
  let asked = 0;
  let point = 0;
  const allocPage = pages.allocPage.bind(pages);
  pages.allocPage = (gfp) => (++asked === point ? -12 : allocPage(gfp));
  for (const cache of slab.caches()) {
    const alloc = cache.alloc.bind(cache);
    cache.alloc = (gfp) => (++asked === point ? 0 : alloc(gfp));
  }
  const run = (fails: number): number => {
    const first = percpu.alloc(28 * 1024);
    asked = 0;
    point = fails;
    const pointer = percpu.alloc(9000);
    point = 0;
    const total = asked;
    percpu.free(pointer);
    percpu.free(first);
    machine.validate();
    return total;
  };
  // What the first time leaves: tables of the kernel's own.
  run(0);
  const before = inUse(machine);
  const total = run(0);
  expect(total).toBeGreaterThan(15);
  for (let fails = 1; fails <= total; fails++) {
    // The chunk that is kept for next time goes.
    expect(inUse(machine)).toEqual(before);
    run(fails);
  }
});

test('random areas are aligned, never overlap, and keep what each CPU wrote', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.nat(12), fc.nat(3)), { maxLength: 40 }), (steps) => {
      const machine = small(2);
      const before = inUse(machine);
      machine.module((k) => {
        const live: { at: number; size: number; mark: number }[] = [];
        for (const [size, log, what] of steps) {
          if (what > 0 || live.length === 0) {
            const at = k.allocPercpu(size, 2 ** log);
            expect(Math.abs(k.perCpuPtr(at, 1) % 2 ** Math.max(2, log))).toBe(0);
            const mark = live.length + 1;
            for (const cpu of [0, 1]) k.mem.fill(k.perCpuPtr(at, cpu), size, mark * 2 + cpu);
            live.push({ at, size, mark });
          } else {
            const [{ at, size: bytes, mark }] = live.splice(size % live.length, 1) as [(typeof live)[0]];
            for (const cpu of [0, 1]) expect(new Set(k.mem.bytes(k.perCpuPtr(at, cpu), bytes))).toEqual(new Set([(mark * 2 + cpu) & 255]));
            k.freePercpu(at);
          }
        }
        machine.validate();
        for (const { at } of live) k.freePercpu(at);
      });
      machine.validate();
      expect(inUse(machine)).toEqual(before);
    }),
    { numRuns: 8, verbose: true },
  );
});
