import { PAGE_SIZE } from '@pagelab/abi';
import { boot } from '@pagelab/kernel';
import { swapDeviceContract } from '@pagelab/vm/contract';
import { expect, test } from 'vitest';
import { CompressedSwap } from './compressed-swap.ts';

swapDeviceContract('compressed', (ram) => new CompressedSwap(ram, 4096));

test('a program that needs twice the memory runs on it', () => {
  let device: CompressedSwap | undefined;
  const machine = boot({ memory: '64M' }, {
    swapDevices: [{ name: 'zram0', priority: 5, create: (ram) => (device = new CompressedSwap(ram, 32_768)) }],
  });
  expect(machine.readFile('/proc/swaps')).toMatch(/^\/dev\/zram0 +partition\s+131068\s+0\s+5$/m);
  const pages = 24_576;
  const { status } = machine.run((os) => {
    const area = os.mmap(0, pages * PAGE_SIZE, 3, 0x22);
    for (let page = 0; page < pages; page++) os.mem.store32(area + page * PAGE_SIZE, page + 1);
    let wrong = 0;
    for (let page = 0; page < pages; page++) if (os.mem.load32(area + page * PAGE_SIZE) !== page + 1) wrong++;
    os.print(os.readFile('/proc/swaps'));
    return wrong === 0 ? 0 : 1;
  });
  expect(status).toBe(0);
  expect(device!.sizes.original).toBeGreaterThan(8192 * PAGE_SIZE);
  expect(device!.sizes.stored).toBeLessThan(device!.sizes.original / 20);
  machine.validate();
});
