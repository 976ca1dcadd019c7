/** Merging of pages of the same contents: the counts after each step are those that Linux 6.18 showed. */
import { MADV_MERGEABLE, MADV_UNMERGEABLE, Syscall } from '@pagelab/abi';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';

const PAGE = 4096;
const KSM = '/sys/kernel/mm/ksm/';

function sleep(process: Process, ms: number): void {
  const time = process.image.bssStart;
  process.os.mem.storeAddress(time, Math.floor(ms / 1000));
  process.os.mem.storeAddress(time + 8, (ms % 1000) * 1e6);
  expect(process.os.syscall(Syscall.nanosleep, time, 0)).toBe(0);
}

function start(settings: Readonly<Record<string, number>> = {}): { machine: Machine; process: Process } {
  const machine = boot({ memory: '256M', cmdline: 'transparent_hugepage=never' });
  for (const [name, value] of Object.entries({ pages_to_scan: 2000, smart_scan: 0, ...settings })) machine.writeFile(`${KSM}${name}`, String(value));
  const process = machine.createProcess();
  process.os.mem.store8(process.image.bssStart, 1);
  return { machine, process };
}

const read = (machine: Machine, name: string): number => Number(machine.readFile(`${KSM}${name}`));

/** Lets so many whole passes go by. */
function passes(machine: Machine, process: Process, count: number): void {
  const goal = read(machine, 'full_scans') + count;
  for (let i = 0; i < 1000 && read(machine, 'full_scans') < goal; i++) sleep(process, 20);
  machine.validate();
}

const counts = (machine: Machine): string =>
  ['pages_shared', 'pages_sharing', 'pages_unshared', 'pages_volatile', 'stable_node_chains', 'stable_node_dups'].map((name) => read(machine, name)).join(' ');

describe('KSM', () => {
  it('shows the zero page for pages of zeros, where it is asked to, and counts what Linux counts', () => {
    const { machine, process } = start({ use_zero_pages: 1 });
    const { os } = process;
    const p = os.mmap(0, 128 * PAGE, 3, 0x22);
    for (let page = 0; page < 128; page++) os.mem.fill(p + page * PAGE, PAGE, page < 64 ? 0 : page < 96 ? 2 : page);
    machine.writeFile(`${KSM}run`, '1');
    os.madvise(p, 128 * PAGE, MADV_MERGEABLE);
    const zeros = (who: Process = process): string =>
      `${read(machine, 'ksm_zero_pages')} ${read(machine, 'general_profit')} ${/ksm_zero_pages (\d+)/.exec(machine.readFile(`/proc/${who.pid}/ksm_stat`))![1]}`;
    passes(machine, process, 4);
    expect([counts(machine), zeros()]).toEqual(['1 31 32 0 0 0', '64 385024 64']);
    expect(machine.readFile(`/proc/${process.pid}/ksm_stat`)).toContain('ksm_process_profit 389120\n');
    os.mem.store8(p + 5, 1);
    os.mem.store8(p + 2 * PAGE, 0);
    passes(machine, process, 3);
    expect([counts(machine), zeros()]).toEqual(['1 31 33 0 0 0', '63 380864 63']);
    const child = process.fork() as Process;
    expect(zeros(child)).toBe('126 638912 63');
    child.os.mem.store8(p + 10 * PAGE, 1);
    expect(zeros(child)).toBe('125 634816 62');
    machine.validate();
    child.exit(0);
    expect(zeros()).toBe('63 380864 63');
    os.munmap(p + 20 * PAGE, 4 * PAGE);
    os.madvise(p + 24 * PAGE, 8 * PAGE, 4);
    expect(zeros()).toBe('51 331712 51');
    machine.validate();
    // Everybody has pages of their own again, of zeros too.
    machine.writeFile(`${KSM}run`, '2');
    expect(zeros()).toMatch(/^0 0 0$/);
    expect(os.mem.load8(p + 40 * PAGE)).toBe(0);
    machine.validate();
  });

  it('counts what Linux counts', () => {
    const { machine, process } = start();
    const { os } = process;
    const p = os.mmap(0, 128 * PAGE, 3, 0x22);
    for (let page = 0; page < 128; page++) os.mem.fill(p + page * PAGE, PAGE, page < 64 ? 1 : page < 96 ? 2 : page);
    machine.writeFile(`${KSM}run`, '1');
    os.madvise(p, 128 * PAGE, MADV_MERGEABLE);
    const anonymous = machine.stats().framesByOwner['anonymous']!;
    passes(machine, process, 4);
    expect(counts(machine)).toBe('2 94 32 0 0 0');
    expect(anonymous - machine.stats().framesByOwner['anonymous']!).toBe(94);
    expect(machine.readFile(`/proc/${process.pid}/ksm_merging_pages`)).toBe('96\n');
    expect(machine.readFile(`/proc/${process.pid}/smaps`)).toMatch(/KSM: +384 kB[^]*?VmFlags: .*\bmg\b/);
    os.mem.store8(p, 9);
    os.mem.store8(p + PAGE, 9);
    passes(machine, process, 3);
    expect(counts(machine)).toBe('3 93 32 0 0 0');
    const child = process.fork() as Process;
    passes(machine, process, 3);
    expect(counts(machine)).toBe('3 189 32 32 0 0');
    os.mem.store8(p + 10 * PAGE, 77);
    passes(machine, process, 3);
    expect(counts(machine)).toBe('3 188 33 32 0 0');
    expect([child.os.mem.load8(p + 10 * PAGE), os.mem.load8(p + 10 * PAGE), os.mem.load8(p + 11 * PAGE)]).toEqual([1, 77, 1]);
    child.exit(0);
    passes(machine, process, 3);
    expect(counts(machine)).toBe('3 92 33 0 0 0');
    os.madvise(p, 32 * PAGE, MADV_UNMERGEABLE);
    passes(machine, process, 3);
    expect(counts(machine)).toBe('2 62 32 0 0 0');
    os.munmap(p + 64 * PAGE, 32 * PAGE);
    passes(machine, process, 3);
    expect(counts(machine)).toBe('1 31 32 0 0 0');
    machine.writeFile(`${KSM}run`, '2');
    expect(counts(machine)).toBe('0 0 0 0 0 0');
    machine.validate();
    machine.writeFile(`${KSM}max_page_sharing`, '8');
    machine.writeFile(`${KSM}run`, '1');
    passes(machine, process, 4);
    expect(counts(machine)).toBe('4 28 32 0 1 4');
    expect(() => machine.writeFile(`${KSM}max_page_sharing`, '9')).toThrow(/EBUSY/);
    machine.writeFile(`${KSM}run`, '2');
    expect(counts(machine)).toBe('0 0 0 0 0 0');
    for (let page = 96; page < 128; page++) expect(os.mem.load8(p + page * PAGE + 9)).toBe(page);
    process.exit(0);
    machine.validate();
    const left = machine.stats().slabs.filter(({ name }) => name.startsWith('ksm_')).map(({ activeObjects }) => activeObjects);
    expect(left.every((objects) => objects === 0)).toBe(true);
  });

  it('passes over what never merges, and goes no further than it is told at a time', () => {
    const { machine, process } = start({ pages_to_scan: 10, smart_scan: 1 });
    const { os } = process;
    const p = os.mmap(0, 40 * PAGE, 3, 0x22);
    for (let page = 0; page < 40; page++) os.mem.store32(p + page * PAGE, page);
    os.madvise(p, 40 * PAGE, MADV_MERGEABLE);
    machine.writeFile(`${KSM}run`, '1');
    sleep(process, 20);
    const first = read(machine, 'pages_scanned');
    sleep(process, 20);
    expect(read(machine, 'pages_scanned') - first).toBeLessThanOrEqual(10);
    passes(machine, process, 12);
    expect(read(machine, 'pages_skipped')).toBeGreaterThan(100);
    process.exit(0);
    machine.validate();
  });

  it('splits huge pages to merge their parts', () => {
    const machine = boot({ memory: '256M', cmdline: 'transparent_hugepage=always' });
    machine.writeFile('/sys/kernel/mm/transparent_hugepage/enabled', 'always');
    machine.writeFile(`${KSM}pages_to_scan`, '5000');
    const process = machine.createProcess();
    const { os } = process;
    const p = Math.ceil(os.mmap(0, 2 ** 22, 3, 0x22) / 2 ** 21) * 2 ** 21;
    os.mem.fill(p, 2 ** 21, 5);
    os.madvise(p, 2 ** 21, MADV_MERGEABLE);
    machine.writeFile(`${KSM}run`, '1');
    passes(machine, process, 3);
    expect(read(machine, 'pages_sharing') + read(machine, 'pages_shared')).toBe(512);
    expect(os.mem.findNot(p, 2 ** 21, 5)).toBe(-1);
    process.exit(0);
    machine.validate();
  });

  it('lets merged pages go to swap, and whoever brings one back has a page of their own again', () => {
    const machine = boot({ memory: '64M', cmdline: 'transparent_hugepage=never', swap: [{ size: '64M' }] });
    for (const [name, value] of [['pages_to_scan', 2000], ['smart_scan', 0]] as const) machine.writeFile(`${KSM}${name}`, String(value));
    const one = machine.createProcess();
    one.os.mem.store8(one.image.bssStart, 1);
    const two = machine.createProcess();
    const [a, b] = [one, two].map(({ os }) => {
      const p = os.mmap(0, 32 * PAGE, 3, 0x22);
      for (let page = 0; page < 32; page++) os.mem.fill(p + page * PAGE, PAGE, page % 4 + 1);
      os.madvise(p, 32 * PAGE, MADV_MERGEABLE);
      return p;
    }) as [number, number];
    machine.writeFile(`${KSM}run`, '1');
    passes(machine, one, 4);
    expect(counts(machine)).toBe('4 60 0 0 0 0');
    machine.writeFile(`${KSM}run`, '0');
    // So many used them that they would stay for long.
    for (const { pid } of [one, two]) machine.writeFile(`/proc/${pid}/clear_refs`, '1');
    const event = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))![1]);
    const swapped = (pid: number): string => /VmSwap:\s+(\d+)/.exec(machine.readFile(`/proc/${pid}/status`))![1]!;
    const hungry = machine.createProcess();
    const bytes = 56 * 2 ** 20;
    const more = hungry.os.mmap(0, bytes, 3, 0x22);
    for (let at = 0; at < bytes; at += PAGE) hungry.os.mem.store32(more + at, at + 1);
    machine.validate();
    expect(Math.min(Number(swapped(one.pid)), Number(swapped(two.pid)))).toBeGreaterThanOrEqual(128);
    hungry.exit(0);
    for (const [process, p] of [[one, a], [two, b]] as const) {
      for (let page = 0; page < 32; page++) expect(process.os.mem.load8(p + page * PAGE + 9)).toBe(page % 4 + 1);
      machine.validate();
    }
    expect(event('ksm_swpin_copy')).toBeGreaterThan(0);
    one.os.mem.store8(a, 99);
    expect([one.os.mem.load8(a), one.os.mem.load8(a + 4 * PAGE), two.os.mem.load8(b)]).toEqual([99, 1, 1]);
    machine.writeFile(`${KSM}run`, '1');
    passes(machine, one, 4);
    expect(counts(machine)).toBe('4 59 1 0 0 0');
    two.exit(0);
    one.exit(0);
    machine.validate();
  });

  it('never changes what a program sees', () => {
    const step = fc.record({ kind: fc.constantFrom('store', 'fork', 'end', 'unmap', 'sleep', 'advise'), page: fc.nat(31), value: fc.nat(2), who: fc.nat(2) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 40 }), (steps) => {
        const { machine, process } = start();
        machine.writeFile(`${KSM}run`, '1');
        const p = process.os.mmap(0, 32 * PAGE, 3, 0x22);
        process.os.madvise(p, 32 * PAGE, MADV_MERGEABLE);
        const all: { process: Process; model: number[] }[] = [{ process, model: new Array<number>(32).fill(0) }];
        for (const { kind, page, value, who } of steps) {
          const one = all[who % all.length]!;
          const { os } = one.process;
          if (kind === 'store') {
            os.mem.fill(p + page * PAGE, PAGE, value);
            one.model[page] = value;
          } else if (kind === 'fork' && all.length < 3) all.push({ process: one.process.fork() as Process, model: [...one.model] });
          else if (kind === 'end' && all.length > 1 && who > 0) all.splice(who % all.length || 1, 1)[0]!.process.exit(0);
          else if (kind === 'unmap') {
            os.madvise(p + page * PAGE, PAGE, 4);
            one.model[page] = 0;
          } else if (kind === 'advise') os.madvise(p + page * PAGE, PAGE, value === 0 ? MADV_UNMERGEABLE : MADV_MERGEABLE);
          else sleep(process, 40);
          for (const each of all) each.model.forEach((byte, i) => {
            expect(each.process.os.mem.load8(p + i * PAGE + 7)).toBe(byte);
          });
        }
        machine.validate();
        for (const each of all) each.process.exit(0);
        machine.validate();
      }),
      { seed: 3, numRuns: 6 },
    );
  });
});
