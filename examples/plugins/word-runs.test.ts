import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import { compressorContract } from '@pagelab/vm/contract';
import { expect, it } from 'vitest';
import { wordRuns } from './word-runs.ts';

compressorContract(wordRuns);

it('keeps pages of runs in a small part of their room', () => {
  const machine = boot({ memory: '64M', swap: [{ size: '64M' }], cmdline: 'zswap.enabled=1' }, { compressors: [wordRuns] });
  const { os } = machine.createProcess();
  const start = os.mmap(0, 64 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let page = 0; page < 64; page++) os.mem.store32(start + page * PAGE_SIZE, page + 1);
  os.madvise(start, 64 * PAGE_SIZE, MADV_PAGEOUT);
  expect(machine.readFile('/proc/meminfo')).toMatch(/Zswapped: +256 kB/);
  expect(machine.readFile('/sys/kernel/debug/zswap/pool_total_size')).toBe('4096\n');
  for (let page = 0; page < 64; page++) expect(os.mem.load32(start + page * PAGE_SIZE)).toBe(page + 1);
  machine.validate();
});
