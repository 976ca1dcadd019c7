import { expect, test } from 'vitest';
import { PhysicalMemory, Smp, createUserMemory, firmwareMemoryMap, pgdIndex, pudIndex, pmdIndex, pteIndex } from './index.ts';

test('a task reads and writes through its page tables, faulting once', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 64 * 2 ** 20));
  const smp = new Smp(ram, 1);
  smp.current.loadCr3(0x100000);
  const va = 0x7fff12345000;
  let faults = 0;
  const port = createUserMemory(ram, {
    onDetached: () => port.attach(smp.current),
    onFault(address, code, vector) {
      expect([address, code, vector]).toEqual([va + 8, 6, 14]);
      faults += 1;
      ram.storeAddress(0x100000 + pgdIndex(va) * 8, 0x101007);
      ram.storeAddress(0x101000 + pudIndex(va) * 8, 0x102007);
      ram.storeAddress(0x102000 + pmdIndex(va) * 8, 0x103007);
      ram.storeAddress(0x103000 + pteIndex(va) * 8, 0x104007);
    },
  });
  port.memory.store32(va + 8, 0xdeadbeef);
  expect(port.memory.load32(va + 8)).toBe(0xdeadbeef);
  expect(ram.load32(0x104008)).toBe(0xdeadbeef);
  port.memory.write(va + 16, Uint8Array.of(65, 66, 0));
  expect(port.memory.loadCString(va + 16)).toBe('AB');
  expect(faults).toBe(1);
});
