/**
 * What the kernel says when memory is short, line by line as kernels of three releases said it: the words and their order,
 * numbers aside.
 */
import { expect, test } from 'vitest';
import type { Os } from '@pagelab/abi';
import { boot } from './boot.ts';
import type { Machine } from './machine.ts';

const PAGE = 4096;

/** Touches pages until the process is killed, where it comes to that. */
function hog(machine: Machine, nrPages: number): void {
  const { os } = machine.createProcess({ name: 'hog' });
  try {
    touch(os, nrPages);
  } catch {
    // Its handle says that it has ended.
  }
}

function touch(os: Os, nrPages: number): void {
  const at = os.mmap(0, nrPages * PAGE, 3, 0x22);
  for (let i = 0; i < nrPages; i++) os.mem.store8(at + i * PAGE, 1);
}

/** Lines without their times, every number a #. */
function lines(machine: Machine, since: number): string[] {
  return machine.dmesg().slice(since).trim().split('\n').map((line) => line.replace(/^\[[^\]]*\] /, '').replace(/\b(0x[\da-f]+|\d+)(?=\b|kB|KB)/g, '#').replace(/ +/g, ' '));
}

const HEAD = [
  'Mem-Info:',
  'active_anon:# inactive_anon:# isolated_anon:#',
  ' active_file:# inactive_file:# isolated_file:#',
  ' unevictable:# dirty:# writeback:#',
  ' slab_reclaimable:# slab_unreclaimable:#',
  ' mapped:# shmem:# pagetables:#',
  ' sec_pagetables:# bounce:#',
  ' kernel_misc_reclaimable:#',
  ' free:# free_pcp:# free_cma:#',
];

test.each([
  ['6.18', '__GFP_ZERO|__GFP_COMP', 'shmem_thp:#kB shmem_pmdmapped:#kB anon_thp:#kB kernel_stack:', 'all_unreclaimable? yes Balloon:#kB', 'free_highatomic:#KB active_anon:', 'zspages:#kB present:', 'rss rss_anon rss_file rss_shmem pgtables_bytes'],
  ['6.12', '__GFP_COMP|__GFP_ZERO', 'shmem_thp:#kB shmem_pmdmapped:#kB anon_thp:#kB writeback_tmp:#kB kernel_stack:', 'all_unreclaimable? yes', 'reserved_highatomic:#KB active_anon:', 'writepending:#kB present:', 'rss rss_anon rss_file rss_shmem pgtables_bytes'],
  ['6.1', '__GFP_COMP|__GFP_ZERO', 'shmem_thp: #kB shmem_pmdmapped: #kB anon_thp: #kB writeback_tmp:#kB kernel_stack:', 'all_unreclaimable? yes', 'reserved_highatomic:#KB active_anon:', 'writepending:#kB present:', 'rss pgtables_bytes'],
] as const)('the report of %s: who asked, what there is, who goes, and that his own request failed', (kernel, flags, node, nodeEnd, zone, zoneEnd, table) => {
  const machine = boot({ memory: '64M', cpus: 1, kernel, cmdline: 'transparent_hugepage=never' });
  const before = machine.dmesg().length;
  hog(machine, 5000);
  hog(machine, 12_000);
  const text = lines(machine, before);
  expect(text[0]).toBe(`hog invoked oom-killer: gfp_mask=#(GFP_HIGHUSER_MOVABLE|${flags}), order=#, oom_score_adj=#`);
  expect(machine.dmesg()).toContain(`gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|${flags})`);
  expect(text.slice(1, 10).map((line) => ` ${line.trim()}`)).toEqual(HEAD.map((line) => ` ${line.trim()}`));
  expect(text[10]).toContain(node);
  expect(text[10]!.endsWith(nodeEnd)).toBe(true);
  expect(text[11]).toMatch(/^Node # DMA free:#kB boost:#kB min:#kB low:#kB high:#kB reserved_highatomic:#KB /);
  expect(text[11]).toContain(zone);
  expect(text[11]).toContain(zoneEnd);
  const at = text.indexOf('Node # hugepages_total=# hugepages_free=# hugepages_surp=# hugepages_size=#kB');
  expect(text.slice(at + 1, at + 9)).toEqual([
    '# total pagecache pages', '# pages in swap cache', 'Free swap = #kB', 'Total swap = #kB', '# pages RAM', '# pages HighMem/MovableOnly', '# pages reserved', '# pages hwpoisoned',
  ]);
  expect(text[at + 10]).toBe(`[ pid ] uid tgid total_vm ${table} swapents oom_score_adj name`);
  expect(text.some((line) => line.startsWith('Out of memory: Killed process # (hog) total-vm:#kB'))).toBe(true);
  const failure = text.findIndex((line) => line.startsWith('hog: page allocation failure: order:#, mode:#(GFP_HIGHUSER_MOVABLE|'));
  expect(text[failure]).toContain('nodemask=(null),cpuset=/,mems_allowed=#');
  expect(text[failure + 1]).toBe('Mem-Info:');
});

test('a promise that cannot be kept is told of, ten times in five seconds', () => {
  for (const [kernel, words] of [['6.18', 'bytes: 819200000 not enough memory for the allocation'], ['6.1', 'no enough memory for the allocation']] as const) {
    const machine = boot({ memory: '64M', kernel });
    const process = machine.createProcess({ name: 'asks' });
    for (let i = 0; i < 15; i++) expect(() => process.os.mmap(0, 819_200_000, 3, 0x22)).toThrow(/ENOMEM/);
    const told = machine.dmesg().split('\n').filter((line) => line.includes('__vm_enough_memory'));
    expect(told).toHaveLength(10);
    expect(told[0]).toContain(`__vm_enough_memory: pid: ${process.pid}, comm: asks, ${words}`);
  }
});
