import { boot } from '@pagelab/kernel';
import { reclaimPolicyContract } from '@pagelab/vm/contract';
import { expect, test } from 'vitest';
import randomReclaim from './random-reclaim.ts';

reclaimPolicyContract(randomReclaim);

test('a machine runs on it', () => {
  const machine = boot({ memory: '64M', swap: [{ size: '128M' }] }, { reclaimPolicy: randomReclaim });
  const nrPages = 20_000;
  const { status } = machine.run((os) => {
    const area = os.mmap(0, nrPages * 4096, 3, 0x22);
    for (let page = 0; page < nrPages; page++) os.mem.store32(area + page * 4096, page);
    for (let page = 0; page < nrPages; page++) if (os.mem.load32(area + page * 4096) !== page) return 1;
    return 0;
  });
  expect(status).toBe(0);
  expect(machine.stats().majorFaults).toBeGreaterThan(100);
  machine.validate();
});
