import { GFP_KERNEL, __GFP_ZERO } from './index.ts';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { Machine } from './index.ts';

const FILE = '/sys/kernel/debug/page_owner';
const PAGE = 4096;

function watched(kernel: '6.1' | '6.18' = '6.18'): Machine {
  return boot({ memory: '64M', cpus: 2, kernel, cmdline: 'page_owner=on' });
}

/** The block of the file that is about a frame. */
function about(machine: Machine, pfn: number): string | undefined {
  return machine.readFile(FILE).split('\n\n').find((block) => block.includes(`PFN 0x${pfn.toString(16)} `) || block.includes(`PFN ${pfn} `));
}

test('each block tells who allocated it, how and when, until it is freed', () => {
  const machine = watched();
  const pfn = machine.module((k) => k.call('probe', () => k.allocPages(2, GFP_KERNEL | __GFP_ZERO)), { name: 'demo' });
  expect(about(machine, pfn)).toMatch(
    /^Page allocated via order 2, mask 0xdc0\(GFP_KERNEL\|__GFP_ZERO\), pid \d+, tgid \d+ \(insmod\), ts \d+ ns\nPFN 0x[0-9a-f]+ type Unmovable Block \d+ type (Unmovable|Movable) Flags 0x[0-9a-f]+\([a-z|]*\)\n probe \[demo\]\n init_module \[demo\]$/,
  );
  expect(machine.pageOwner(pfn + 3)).toMatchObject({ pfn, order: 2, trace: ['probe [demo]', 'init_module [demo]'], freeTs: 0 });
  machine.validate();
  machine.module((k) => k.freePages(pfn, 2));
  expect(about(machine, pfn)).toBeUndefined();
  expect(machine.pageOwner(pfn)).toBeUndefined();
  machine.validate();
});

test('a program\'s pages are its own; as an older kernel writes it, with the time of the last free', () => {
  const machine = watched('6.1');
  const process = machine.createProcess({ name: 'prog' });
  const { os } = process;
  const at = os.mmap(0, 8 * PAGE, 3, 0x22);
  os.mem.fill(at, 8 * PAGE, 1);
  const mine = machine.readFile(FILE).split('\n\n').filter((block) => block.includes(`pid ${process.pid}, tgid ${process.pid} (prog), ts`) && block.includes('type Movable Block'));
  expect(mine.length).toBeGreaterThanOrEqual(8);
  expect(mine[0]).toMatch(/ ns, free_ts \d+ ns\nPFN \d+ type Movable/);
  machine.validate();
  os.munmap(at, 8 * PAGE);
  process.exit(0);
  // Slabs that were made meanwhile are kept for others.
  expect(machine.readFile(FILE).split('\n\n').filter((block) => block.includes('(prog)') && block.includes('type Movable Block'))).toEqual([]);
  machine.validate();
});

test('pages of an exact size, freed one by one, and a run of programs keep the notes true', () => {
  const machine = watched();
  machine.module((k) => {
    const area = k.vmalloc(5 * PAGE);
    machine.validate();
    k.vfree(area);
  });
  machine.run((os) => {
    const at = os.mmap(0, 600 * PAGE, 3, 0x22);
    os.mem.fill(at, 600 * PAGE, 1);
    os.waitpid(os.fork((child) => child.mem.fill(at, 100 * PAGE, 2)));
    machine.validate();
  });
  machine.validate();
});

test('pages that compaction moves stay whose they are', () => {
  const machine = watched();
  machine.run((os) => {
    const at = os.mmap(0, 4096 * PAGE, 3, 0x22);
    os.mem.fill(at, 4096 * PAGE, 1);
    for (let i = 0; i < 4096; i += 2) os.munmap(at + i * PAGE, PAGE);
    machine.writeFile('/proc/sys/vm/compact_memory', '1');
    machine.validate();
    const own = machine.readFile(FILE).split('\n\n').filter((block) => block.includes('(mover)') && block.includes(' type Movable Block'));
    expect(own.length).toBeGreaterThanOrEqual(2048);
  }, { name: 'mover' });
  expect(Number(/compact_success (\d+)|pgmigrate_success (\d+)/.exec(machine.readFile('/proc/vmstat'))?.[2])).toBeGreaterThan(0);
  machine.validate();
});

test('without the word there is no such file', () => {
  const machine = boot({ memory: '64M' });
  expect(() => machine.readFile(FILE)).toThrow('ENOENT');
  expect(machine.pageOwner(5000)).toBeUndefined();
});
