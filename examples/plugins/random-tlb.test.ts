import { tlbModelContract } from '@pagelab/hw/contract';
import { boot } from '@pagelab/kernel';
import { expect, test } from 'vitest';
import { RandomTlb } from './random-tlb.ts';

tlbModelContract((cpu) => new RandomTlb(64, cpu));

test('a machine counts with it', () => {
  const machine = boot({ memory: '64M' }, { tlbModel: (cpu) => new RandomTlb(16, cpu) });
  machine.run((os) => {
    const area = os.mmap(0, 64 * 4096, 3, 0x22);
    for (let round = 0; round < 4; round++) for (let page = 0; page < 64; page++) os.mem.store8(area + page * 4096, round);
  });
  const { tlbModel } = machine.stats();
  expect(tlbModel).toMatchObject({ name: 'random' });
  // Four times as many pages as entries: most accesses miss, but chance keeps some.
  expect(tlbModel!.misses).toBeGreaterThan(3 * 48);
  expect(tlbModel!.l1Hits).toBeGreaterThan(0);
  machine.validate();
});
