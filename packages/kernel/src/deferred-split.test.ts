/** Huge pages that are split when memory is short. */
import { MADV_DONTNEED, MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, it } from 'vitest';
import { boot } from './index.ts';
import type { Machine, MachineConfigInput } from './index.ts';

const HUGE = 2 ** 21;
const THP = '/sys/kernel/mm/transparent_hugepage/';

function vmstat(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))?.[1] ?? -1);
}

function hugeMachine(config: Partial<MachineConfigInput> = {}): { machine: Machine; os: Os } {
  const machine = boot({ memory: '128M', ...config });
  machine.writeFile(`${THP}enabled`, 'madvise');
  return { machine, os: machine.createProcess().os };
}

/** So many huge pages, a word stored to the first of each. */
function hugePages(os: Os, count: number): number {
  const start = os.mmap(0, (count + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const first = Math.ceil(start / HUGE) * HUGE;
  os.madvise(first, count * HUGE, MADV_HUGEPAGE);
  for (let i = 0; i < count; i++) os.mem.store32(first + i * HUGE, i + 1);
  return first;
}

it('gives back the unmapped parts of huge pages when memory is short', () => {
  const { machine, os } = hugeMachine();
  const first = hugePages(os, 20);
  expect(vmstat(machine, 'thp_fault_alloc')).toBe(20);
  for (let i = 0; i < 20; i++) {
    os.mem.fill(first + i * HUGE, HUGE, 0x55);
    os.madvise(first + i * HUGE + HUGE / 2, HUGE / 2, MADV_DONTNEED);
  }
  expect([vmstat(machine, 'thp_deferred_split_page'), vmstat(machine, 'thp_split_page')]).toEqual([20, 0]);
  machine.validate();
  // More than is free as long as the halves are not given back.
  const bytes = Number(/MemFree:\s+(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]) * 1024 + 8 * 2 ** 20;
  const rest = os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let at = 0; at < bytes; at += PAGE_SIZE) os.mem.store8(rest + at, 1);
  expect(vmstat(machine, 'thp_split_page')).toBeGreaterThan(0);
  expect(vmstat(machine, 'thp_underused_split_page')).toBe(0);
  for (let i = 0; i < 20; i++) expect(os.mem.load8(first + i * HUGE + 100)).toBe(0x55);
  machine.validate();
});

it('splits huge pages of mostly zeros, where khugepaged would not have made them', () => {
  const { machine, os } = hugeMachine();
  const first = hugePages(os, 4);
  // By default any is worth it.
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  expect(vmstat(machine, 'thp_split_page')).toBe(0);
  machine.writeFile(`${THP}khugepaged/max_ptes_none`, '400');
  const later = hugePages(os, 4);
  os.mem.fill(later, HUGE, 1);
  const before = Number(/RssAnon:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1]);
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  // Those that were looked at before are not looked at again, and the full one stays.
  expect([vmstat(machine, 'thp_split_page'), vmstat(machine, 'thp_underused_split_page'), vmstat(machine, 'thp_deferred_split_page')]).toEqual([3, 3, 0]);
  expect(before - Number(/RssAnon:\s+(\d+)/.exec(os.readFile('/proc/self/status'))![1])).toBe((3 * 511 * PAGE_SIZE) / 1024);
  for (let i = 0; i < 4; i++) expect(os.mem.load32(first + i * HUGE)).toBe(i + 1);
  for (let i = 1; i < 4; i++) expect([os.mem.load32(later + i * HUGE), os.mem.load32(later + i * HUGE + 5 * PAGE_SIZE)]).toEqual([i + 1, 0]);
  os.mem.store32(later + HUGE + 5 * PAGE_SIZE, 9);
  machine.validate();
  expect(machine.readFile(`${THP}shrink_underused`)).toBe('1\n');
  machine.writeFile(`${THP}shrink_underused`, '0');
  hugePages(os, 4);
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  expect(vmstat(machine, 'thp_split_page')).toBe(3);
  machine.validate();
});

it('knows nothing of zeros in 6.1', () => {
  const { machine, os } = hugeMachine({ kernel: '6.1' });
  machine.writeFile(`${THP}khugepaged/max_ptes_none`, '400');
  hugePages(os, 4);
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  expect(vmstat(machine, 'thp_split_page')).toBe(0);
  expect(() => machine.readFile(`${THP}shrink_underused`)).toThrow('ENOENT');
});
