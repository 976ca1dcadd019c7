import { boot } from '@pagelab/kernel';
import { pageAllocatorContract } from '@pagelab/mm-core/contract';
import { expect, test } from 'vitest';
import { setBuddy } from './set-buddy.ts';

pageAllocatorContract(setBuddy);

test('a machine runs on it', () => {
  const machine = boot({ memory: '256M', cpus: 2 }, { pageAllocator: setBuddy });
  const { status } = machine.run((os) => {
    const area = os.mmap(0, 64 * 4096, 3, 0x22);
    os.mem.fill(area, 64 * 4096, 1);
    os.waitpid(os.fork((child) => child.mem.store8(area, 1)));
  });
  expect(status).toBe(0);
  machine.validate();
});
