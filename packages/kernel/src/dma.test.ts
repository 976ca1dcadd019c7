import { decodeUtf8, encodeUtf8 } from '@pagelab/syscalls';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { boot, bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE, GFP_DMA, GFP_KERNEL } from './index.ts';
import type { Machine } from './index.ts';
import { createMachine } from './machine.ts';
import { inUse, small } from './testing/run.ts';

const PAGE = 4096;
const text = (value: string): Uint8Array => encodeUtf8(value);

/** A machine with memory above 4 GiB, and so with bounce buffers. */
const large = (): Machine => boot({ memory: '5G', cpus: 2 });

test('coherent memory comes from where the device reaches, zeroed, and both see it at once', () => {
  const machine = large();
  machine.module((k) => {
    for (const [bits, limit] of [[24, 2 ** 24], [32, 2 ** 32], [64, Infinity]] as const) {
      const device = k.device('card', bits);
      const block = device.allocCoherent(3 * PAGE)!;
      expect(block.dma + 4 * PAGE).toBeLessThanOrEqual(limit);
      expect(k.mem.bytes(block.cpu, 3 * PAGE).every((byte) => byte === 0)).toBe(true);
      expect(device.engine.write(block.dma + 100, text('hello'))).toBe(0);
      expect(decodeUtf8(k.mem.bytes(block.cpu + 100, 5))).toBe('hello');
      device.freeCoherent(3 * PAGE, block.cpu, block.dma);
      device.release();
    }
    expect(k.device('far', 64).allocCoherent(PAGE)!.dma).toBeGreaterThan(2 ** 32);
  });
  machine.validate();
  expect(machine.dmesg()).not.toContain('DMA-API');
});

test('large blocks come from the contiguous area, and go back there; a page does not', () => {
  const machine = boot({ memory: '256M', cmdline: 'cma=32M' });
  const free = (): number => Number(/CmaFree: +(\d+)/.exec(machine.readFile('/proc/meminfo'))![1]);
  const before = free();
  machine.module((k) => {
    const device = k.device('camera', 64);
    // Larger than the largest block of the page allocator.
    const frame = device.allocCoherent(6 * 2 ** 20)!;
    expect(device.engine.fill(frame.dma, 6 * 2 ** 20, 1)).toBe(0);
    expect(before - free()).toBe(6 * 1024);
    device.allocCoherent(PAGE);
    expect(before - free()).toBe(6 * 1024);
    device.freeCoherent(6 * 2 ** 20, frame.cpu, frame.dma);
  });
  machine.quiesce();
  expect(free()).toBe(before);
  machine.validate();
  expect(boot({ memory: '256M' }).module((k) => k.device('camera', 64).allocCoherent(6 * 2 ** 20))).toBeNull();
});

describe('streaming', () => {
  test('what a device reaches is mapped as it is; what it does not is bounced, and copied when that is said', () => {
    const machine = large();
    machine.module((k) => {
      const near = k.device('near', 64);
      const far = k.device('far', 32);
      const pfn = k.allocPages(0);
      const at = k.pageAddress(pfn);
      expect(pfn * PAGE).toBeGreaterThan(2 ** 32);
      k.mem.set(at, text('written by the CPU'));
      expect(near.mapSingle(at, 64, DMA_TO_DEVICE)).toBe(pfn * PAGE);
      near.unmap(pfn * PAGE, 64, DMA_TO_DEVICE);

      const bus = far.mapSingle(at, 64, DMA_BIDIRECTIONAL);
      expect(bus).toBeLessThan(2 ** 32);
      const seen = new Uint8Array(7);
      far.engine.read(bus, seen);
      expect(decodeUtf8(seen)).toBe('written');
      // The device's bytes are not there before somebody asks.
      far.engine.write(bus, text('REPLIED'));
      expect(k.mem.load8(at)).toBe('w'.charCodeAt(0));
      far.syncForCpu(bus, 64, DMA_BIDIRECTIONAL);
      expect(k.mem.load8(at)).toBe('R'.charCodeAt(0));
      k.mem.store8(at, '!'.charCodeAt(0));
      far.engine.read(bus, seen);
      expect(seen[0]).toBe('R'.charCodeAt(0));
      far.syncForDevice(bus, 64, DMA_BIDIRECTIONAL);
      far.engine.read(bus, seen);
      expect(seen[0]).toBe('!'.charCodeAt(0));
      far.unmap(bus, 64, DMA_BIDIRECTIONAL);

      // Bytes that the device left alone come back as they were.
      const again = far.mapPage(pfn, 0, 64, DMA_FROM_DEVICE);
      far.engine.write(again + 2, text('__'));
      far.unmap(again, 64, DMA_FROM_DEVICE);
      expect(decodeUtf8(k.mem.bytes(at, 10))).toBe('!E__IED by');
      k.freePages(pfn);
    });
    machine.validate();
    expect(machine.dmesg()).not.toContain('DMA-API');
  });

  test('a mapping has slots side by side in a segment of 256 KiB; the pool may be full', () => {
    const machine = large();
    machine.module((k) => {
      const device = k.device('disk', 32);
      const block = k.allocPages(7);
      expect(device.mapPage(block, 0, 256 * 1024 + 1, DMA_TO_DEVICE)).toBe(DMA_MAPPING_ERROR);
      const mapped: number[] = [];
      for (;;) {
        const bus = device.mapPage(block, 0, 256 * 1024, DMA_TO_DEVICE);
        if (bus === DMA_MAPPING_ERROR) break;
        mapped.push(bus);
      }
      expect([mapped.length, new Set(mapped).size]).toEqual([256, 256]);
      machine.validate();
      device.unmap(mapped[7]!, 256 * 1024, DMA_TO_DEVICE);
      const small = [1, 2, 3].map(() => device.mapPage(block, 0, 100, DMA_TO_DEVICE));
      expect(small.map((bus) => bus - mapped[7]!)).toEqual([0, 2048, 4096]);
    });
    expect(machine.dmesg()).toContain('disk: swiotlb buffer is full (sz: 262144 bytes), total 32768 (slots), used 32768 (slots)');
    expect(machine.dmesg()).toContain('software IO TLB: mapped [mem 0x');
  });

  test('without bounce buffers, and where even they are too far, mapping fails', () => {
    small().module((k) => {
      const device = k.device('isa', 24);
      const pages = [k.allocPages(0)];
      while (pages.at(-1)! * PAGE < 2 ** 24) pages.push(k.allocPages(0));
      expect(device.mapPage(pages.at(-1)!, 0, PAGE, DMA_TO_DEVICE)).toBe(DMA_MAPPING_ERROR);
      const low = k.kmalloc(100, GFP_KERNEL | GFP_DMA);
      expect(device.mapSingle(low, 100, DMA_TO_DEVICE)).toBeLessThan(2 ** 24);
    });
    const machine = large();
    machine.module((k) => expect(k.device('isa', 24).mapPage(k.allocPages(), 0, PAGE, DMA_TO_DEVICE)).toBe(DMA_MAPPING_ERROR));
    expect(machine.dmesg()).toMatch(/DMA-API: isa: swiotlb addr 0x[0-9a-f]{16}\+4096 overflow \(mask ffffff, bus limit 0\)\./);
    const forced = boot({ memory: '64M', cmdline: 'swiotlb=force' });
    forced.module((k) => {
      const pfn = k.allocPages();
      expect(k.device('any', 64).mapPage(pfn, 0, PAGE, DMA_TO_DEVICE)).not.toBe(pfn * PAGE);
    });
    forced.validate();
  });

  test('a list is mapped whole or not at all', () => {
    const machine = large();
    machine.module((k) => {
      const device = k.device('disk', 32);
      const list = [8, 100, 4096].map((length) => ({ pfn: k.allocPages(), offset: 0, length }));
      const bus = device.mapSg(list, DMA_FROM_DEVICE)!;
      device.engine.scatter(bus.map((address, i) => ({ address, length: list[i]!.length })), new Uint8Array(4204).fill(3));
      device.unmapSg(bus, list, DMA_FROM_DEVICE);
      for (const { pfn, length } of list) expect(k.mem.load8(k.pageAddress(pfn) + length - 1)).toBe(3);
      expect(device.mapSg([...list, { pfn: list[0]!.pfn, offset: 0, length: 2 ** 20 }], DMA_FROM_DEVICE)).toBeNull();
      device.release();
    });
    expect(machine.dmesg()).not.toContain('pending');
    machine.validate();
  });
});

test('misuse is reported, once for each, and nothing else happens', () => {
  const machine = large();
  machine.module((k) => {
    const device = k.device('nic', 32);
    const pfn = k.allocPages();
    device.unmap(pfn * PAGE, 64, DMA_TO_DEVICE);
    for (const [size, direction] of [[32, DMA_TO_DEVICE], [64, DMA_FROM_DEVICE]] as const) {
      device.unmap(device.mapPage(pfn, 0, 64, DMA_TO_DEVICE), size, direction);
    }
    const bus = device.mapPage(pfn, 0, 64, DMA_TO_DEVICE);
    device.syncForCpu(bus, 64, DMA_FROM_DEVICE);
    device.syncForCpu(bus, 65, DMA_TO_DEVICE);
    device.syncForDevice(5, 1, DMA_TO_DEVICE);
    device.freeCoherent(64, k.pageAddress(pfn), bus);
    expect(device.mapSingle(k.vmalloc(100), 100, DMA_TO_DEVICE)).toBe(DMA_MAPPING_ERROR);
    device.release();
  });
  const said = machine.dmesg().split('\n').filter((line) => line.includes('DMA-API')).map((line) => line.replace(/^\[[^\]]*\] /, '').replace(/0x[0-9a-f]{16}/g, 'ADDRESS'));
  expect(said).toEqual([
    'DMA-API: nic: device driver tries to free DMA memory it has not allocated [device address=ADDRESS] [size=64 bytes]',
    'DMA-API: nic: device driver frees DMA memory with different size [device address=ADDRESS] [map size=64 bytes] [unmap size=32 bytes]',
    'DMA-API: nic: device driver frees DMA memory with different direction [device address=ADDRESS] [size=64 bytes] [mapped with DMA_TO_DEVICE] [unmapped with DMA_FROM_DEVICE]',
    'DMA-API: nic: device driver syncs DMA memory for CPU with different direction [device address=ADDRESS] [mapped with DMA_TO_DEVICE] [synced with DMA_FROM_DEVICE]',
    'DMA-API: nic: device driver syncs DMA memory outside allocated range [device address=ADDRESS] [allocation size=64 bytes] [sync offset+size=65]',
    'DMA-API: nic: device driver tries to sync DMA memory it has not allocated [device address=ADDRESS] [size=1 bytes]',
    'DMA-API: nic: device driver frees DMA memory with wrong function [device address=ADDRESS] [size=64 bytes] [mapped as single] [unmapped as coherent]',
    'DMA-API: nic: rejecting DMA map of vmalloc memory',
    'DMA-API: nic: device driver has pending DMA allocations while released from device [count=1]',
  ]);
  machine.validate();
});

describe('pools of blocks', () => {
  test('are cut from coherent pages, across no boundary, the last freed first', () => {
    const machine = small();
    const before = inUse(machine);
    machine.module((k) => {
      const device = k.device('hcd', 32);
      expect([k.dmaPoolCreate(device, 'bad', 64, 3), k.dmaPoolCreate(device, 'bad', 64, 8, 32), k.dmaPoolCreate(device, 'bad', 0)]).toEqual([-22, -22, -22]);
      const pool = k.dmaPoolCreate(device, 'td', 100, 32, 512);
      if (typeof pool === 'number') throw new Error('no pool');
      const blocks = Array.from({ length: 33 }, () => pool.alloc()!);
      // 128 bytes each, 32 a page.
      expect([pool.pages.length, pool.nrBlocks]).toEqual([2, 64]);
      for (const { cpu, dma } of blocks) {
        expect([dma % 32, Math.floor(dma / 512) === Math.floor((dma + 127) / 512)]).toEqual([0, true]);
        device.engine.fill(dma, 128, 9);
        expect(k.mem.load8(cpu + 127)).toBe(9);
      }
      pool.free(blocks[3]!.cpu, blocks[3]!.dma);
      expect(pool.alloc()).toEqual(blocks[3]);
      machine.validate();
      for (const { cpu, dma } of blocks) pool.free(cpu, dma);
      expect(pool.destroy()).toBe(0);
      device.release();
    });
    expect(machine.dmesg()).not.toMatch(/DMA-API|dma_pool/);
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });

  test('say what is wrong, and stay when blocks are out', () => {
    const machine = small();
    machine.module((k) => {
      const device = k.device('hcd', 32);
      const pool = k.dmaPoolCreate(device, 'td', 64);
      if (typeof pool === 'number') throw new Error('no pool');
      const [a, b] = [pool.alloc()!, pool.alloc()!];
      pool.free(a.cpu, a.dma);
      pool.free(a.cpu, a.dma);
      pool.free(b.cpu + 8, b.dma + 8);
      pool.free(b.cpu, 4096);
      expect(pool.nrActive).toBe(1);
      machine.validate();
      expect(pool.destroy()).toBe(-16);
    });
    for (const what of ['already free', '(bad vaddr)', '(bad dma)', 'dma_pool_destroy td busy']) expect(machine.dmesg()).toContain(what);
  });
});

test('a failure at each allocation inside leaves nothing behind', () => {
  const run = (point: number): number => {
    const kernel = bootKernel(parseMachineConfig({ memory: '64M', cpus: 2 }));
    const machine = createMachine(kernel);
    const device = kernel.dma.addDevice('card', 32);
    const before = inUse(machine);
    let asked = 0;
    const { pages } = kernel;
    const allocPages = pages.allocPages.bind(pages);
    pages.allocPages = (gfp, order) => (++asked === point ? -12 : allocPages(gfp, order));
    for (const cache of kernel.slab.caches()) {
      const alloc = cache.alloc.bind(cache);
      cache.alloc = (gfp) => (++asked === point ? 0 : alloc(gfp));
    }
    const block = device.allocCoherent(5 * PAGE);
    const pool = machine.module((k) => k.dmaPoolCreate(device, 'small', 40));
    const small = typeof pool === 'number' ? null : pool.alloc();
    machine.validate();
    if (block !== null) device.freeCoherent(5 * PAGE, block.cpu, block.dma);
    if (typeof pool !== 'number') {
      if (small !== null) pool.free(small.cpu, small.dma);
      expect(pool.destroy()).toBe(0);
    }
    machine.validate();
    expect(inUse(machine)).toEqual(before);
    return asked;
  };
  const total = run(Infinity);
  for (let point = 1; point <= total; point++) {
    try {
      run(point);
    } catch (error) {
      // The module's own thread could not be made.
      expect(String(error)).toContain('init_module');
    }
  }
});

test('random transfers through bounce buffers move what they should, and leave no slot taken', () => {
  const machine = large();
  machine.module((k) => {
    const device = k.device('disk', 32);
    const block = k.allocPages(6);
    const at = k.pageAddress(block);
    const steps = fc.array(fc.tuple(fc.nat(PAGE * 32), fc.integer({ min: 1, max: PAGE * 31 }), fc.nat(255)), { maxLength: 30 });
    fc.assert(
      fc.property(steps, (transfers) => {
        const open: { bus: number; offset: number; size: number; byte: number }[] = [];
        for (const [offset, size, byte] of transfers) {
          const bus = k.onCpu(byte & 1, () => device.mapSingle(at + offset, size, DMA_FROM_DEVICE));
          if (bus === DMA_MAPPING_ERROR) continue;
          if (open.some((other) => offset < other.offset + other.size && other.offset < offset + size)) device.unmap(bus, size, DMA_FROM_DEVICE);
          else open.push({ bus, offset, size, byte });
        }
        for (const { bus, size, byte } of open) device.engine.fill(bus, size, byte);
        machine.validate();
        for (const { bus, size } of open) device.unmap(bus, size, DMA_FROM_DEVICE);
        for (const { offset, size, byte } of open) expect(new Set(k.mem.bytes(at + offset, size))).toEqual(new Set([byte]));
        machine.validate();
      }),
      { numRuns: 6, verbose: true },
    );
  });
});
