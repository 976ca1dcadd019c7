/** khugepaged on the virtual clock: what it makes huge pages of, how far it goes at a time, and what programs see of it. */
import { MADV_DONTNEED, MADV_HUGEPAGE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';

const H = 2 ** 21;
const PAGE = 4096;
const THP = '/sys/kernel/mm/transparent_hugepage/';
const OWN = `${THP}khugepaged/`;

function start(settings: Readonly<Record<string, number>> = {}): { machine: Machine; process: Process } {
  const machine = boot({ memory: '512M', cmdline: 'transparent_hugepage=madvise' });
  machine.writeFile(`${THP}enabled`, 'madvise');
  for (const [name, value] of Object.entries({ scan_sleep_millisecs: 10, ...settings })) machine.writeFile(`${OWN}${name}`, String(value));
  return { machine, process: machine.createProcess() };
}

const read = (machine: Machine, name: string): number => Number(machine.readFile(`${OWN}${name}`));
const hugeKib = (machine: Machine): number => Number(/AnonHugePages: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);

function sleep(process: Process, ms: number): void {
  const time = process.image.bssStart;
  process.os.mem.storeAddress(time, Math.floor(ms / 1000));
  process.os.mem.storeAddress(time + 8, (ms % 1000) * 1e6);
  expect(process.os.syscall(Syscall.nanosleep, time, 0)).toBe(0);
}

/** Blocks of small pages, each with its number in every page. */
function blocks(os: Os, count: number, pages = 512): number {
  const mapped = os.mmap(0, (count + 1) * H, 3, 0x22);
  const first = Math.ceil(mapped / H) * H;
  for (let block = 0; block < count; block++) {
    for (let page = 0; page < pages; page++) os.mem.store32(first + block * H + page * PAGE, block * 512 + page + 1);
  }
  return first;
}

describe('khugepaged', () => {
  it('makes huge pages of what asks for them, and keeps what they hold', () => {
    const { machine, process } = start();
    const { os } = process;
    const asked = blocks(os, 3);
    const other = blocks(os, 1);
    os.madvise(asked, 3 * H, MADV_HUGEPAGE);
    expect(hugeKib(machine)).toBe(0);
    sleep(process, 100);
    expect(hugeKib(machine)).toBe(3 * 2048);
    expect(read(machine, 'pages_collapsed')).toBe(3);
    expect(read(machine, 'full_scans')).toBeGreaterThan(1);
    for (let page = 0; page < 3 * 512; page += 37) expect(os.mem.load32(asked + page * PAGE)).toBe(page + 1);
    expect(os.mem.load32(other + PAGE)).toBe(2);
    machine.validate();
    process.exit(0);
    machine.validate();
  });

  it('looks at so many pages and goes on there the next time', () => {
    const { machine, process } = start({ pages_to_scan: 1024 });
    process.os.madvise(blocks(process.os, 6), 6 * H, MADV_HUGEPAGE);
    const seen: number[] = [];
    for (let i = 0; i < 6; i++) {
      sleep(process, 10);
      seen.push(read(machine, 'pages_collapsed'));
    }
    expect(seen.at(-1)).toBe(6);
    for (let i = 1; i < seen.length; i++) expect(seen[i]! - seen[i - 1]!).toBeLessThanOrEqual(2);
    machine.validate();
  });

  it.each([
    [511, 1, 1],
    [100, 411, 0],
    [100, 412, 1],
    [0, 511, 0],
    [0, 512, 1],
  ])('with max_ptes_none %i, of a block with %i pages makes %i', (maxNone, pages, made) => {
    const { machine, process } = start({ max_ptes_none: maxNone });
    process.os.madvise(blocks(process.os, 1, pages), H, MADV_HUGEPAGE);
    sleep(process, 50);
    expect(read(machine, 'pages_collapsed')).toBe(made);
    machine.validate();
  });

  it('leaves pages alone that too many share', () => {
    const { machine, process } = start({ max_ptes_shared: 100 });
    const first = blocks(process.os, 2);
    process.os.madvise(first, 2 * H, MADV_HUGEPAGE);
    const child = process.fork() as Process;
    // The child's own copies: of the first block few are shared still, of the second all.
    for (let page = 0; page < 450; page++) child.os.mem.store32(first + page * PAGE, 7);
    sleep(child, 50);
    expect(hugeKib(machine)).toBe(2 * 2048);
    expect(process.os.mem.load32(first)).toBe(1);
    expect(child.os.mem.load32(first)).toBe(7);
    expect(child.os.mem.load32(first + 500 * PAGE)).toBe(501);
    machine.validate();
    child.exit(0);
    process.exit(0);
    machine.validate();
  });

  it('is quiet where huge pages are switched off, and while nobody lets time pass', () => {
    const { machine, process } = start();
    const first = blocks(process.os, 1);
    process.os.madvise(first, H, MADV_HUGEPAGE);
    machine.writeFile(`${THP}enabled`, 'never');
    sleep(process, 100);
    expect(read(machine, 'pages_collapsed')).toBe(0);
    machine.writeFile(`${THP}enabled`, 'madvise');
    process.os.madvise(first, PAGE, MADV_DONTNEED);
    sleep(process, 100);
    expect(read(machine, 'pages_collapsed')).toBe(1);
    expect(process.os.mem.load32(first)).toBe(0);
    expect(process.os.mem.load32(first + PAGE)).toBe(2);
  });
});

describe('settings', () => {
  it('are Linux\'s at first, and refuse what makes no sense', () => {
    const machine = boot({ memory: '1G' });
    const shown = Object.fromEntries(machine.listFiles().filter((path) => path.startsWith(THP)).map((path) => [path.slice(THP.length), machine.readFile(path).trim()]));
    expect(shown).toMatchObject({
      defrag: 'always defer defer+madvise [madvise] never', use_zero_page: '1', hpage_pmd_size: '2097152',
      'khugepaged/alloc_sleep_millisecs': '60000', 'khugepaged/scan_sleep_millisecs': '10000', 'khugepaged/pages_to_scan': '4096', 'khugepaged/defrag': '1',
      'khugepaged/max_ptes_none': '511', 'khugepaged/max_ptes_shared': '256', 'khugepaged/max_ptes_swap': '64', 'khugepaged/pages_collapsed': '0', 'khugepaged/full_scans': '0',
    });
    expect(() => machine.writeFile(`${OWN}max_ptes_none`, '512')).toThrow(/EINVAL/);
    expect(() => machine.writeFile(`${THP}defrag`, 'sometimes')).toThrow(/EINVAL/);
  });

  it('let reads go without the huge page of zeros', () => {
    const machine = boot({ memory: '1G', cmdline: 'transparent_hugepage=always' });
    machine.writeFile(`${THP}use_zero_page`, '0');
    const process = machine.createProcess();
    const first = Math.ceil(process.os.mmap(0, 2 * H, 3, 0x22) / H) * H;
    expect(process.os.mem.load8(first)).toBe(0);
    expect(hugeKib(machine)).toBe(2048);
    machine.validate();
  });
});
