/**
 * What every swap device must do. An author of one runs this suite in their own tests:
 *
 *     import { swapDeviceContract } from '@pagelab/vm/contract';
 *     swapDeviceContract('mine', (ram) => new MyDevice(ram));
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { PhysicalMemory, firmwareMemoryMap } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import type { SwapDevice } from './swap-device.ts';

const SEED = 0x5eed;
/** Frames of ordinary memory that the tests move pages to and from. */
const FRAMES = [0x1000, 0x1001, 0x1777];

interface Rig {
  readonly device: SwapDevice;
  /** The bytes of a frame. */
  readonly frame: (pfn: number) => Uint8Array;
}

function rig(create: (ram: PhysicalMemory) => SwapDevice): Rig {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 2 ** 26));
  const device = create(ram);
  return {
    device,
    frame: (pfn) => {
      const host = ram.frameWord(pfn) * 4;
      return ram.u8.subarray(host, host + PAGE_SIZE);
    },
  };
}

/** A page's contents that depend on a number: some of one byte, some of noise. */
function fillPage(bytes: Uint8Array, salt: number): void {
  const prng = new Prng(salt);
  if (salt % 3 === 0) bytes.fill(salt & 0xff);
  else for (let i = 0; i < PAGE_SIZE; i++) bytes[i] = prng.below(256);
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.every((byte, at) => byte === other[at]);
}

/** Runs the suite: a `describe` block named after the device. */
export function swapDeviceContract(name: string, create: (ram: PhysicalMemory) => SwapDevice): void {
  describe(`swap device ${name}`, () => {
    it('gives back what was written, page by page, from and to any frame', () => {
      const { device, frame } = rig(create);
      const pages = Math.min(device.nrPages, 300);
      expect(Number.isSafeInteger(device.nrPages) && device.nrPages >= 2).toBe(true);
      for (let page = 0; page < pages; page++) {
        const pfn = FRAMES[page % FRAMES.length];
        fillPage(frame(pfn), page);
        expect(device.write(page, pfn)).toBe(0);
      }
      const expected = new Uint8Array(PAGE_SIZE);
      for (let page = pages - 1; page >= 0; page--) {
        const pfn = FRAMES[(page + 1) % FRAMES.length];
        frame(pfn).fill(0xa5);
        expect(device.read(page, pfn)).toBe(0);
        fillPage(expected, page);
        expect(sameBytes(frame(pfn), expected)).toBe(true);
      }
    });

    it('has every page that it says it has', () => {
      const { device, frame } = rig(create);
      const [pfn] = FRAMES;
      for (const page of [0, device.nrPages - 1]) {
        fillPage(frame(pfn), page + 1);
        expect(device.write(page, pfn)).toBe(0);
        const before = frame(pfn).slice();
        frame(pfn).fill(0);
        expect(device.read(page, pfn)).toBe(0);
        expect(sameBytes(frame(pfn), before)).toBe(true);
      }
    });

    it('keeps the last of many writes, whatever is discarded beside them', () => {
      const prng = new Prng(SEED);
      const { device, frame } = rig(create);
      const pages = Math.min(device.nrPages, 64);
      const salts = new Map<number, number>();
      const expected = new Uint8Array(PAGE_SIZE);
      for (let step = 0; step < 2000; step++) {
        const page = prng.below(pages);
        const pfn = FRAMES[prng.below(FRAMES.length)];
        const act = prng.below(10);
        if (act === 0) {
          const count = Math.min(1 + prng.below(4), pages - page);
          device.discard?.(page, count);
          for (let gone = page; gone < page + count; gone++) salts.delete(gone);
        } else if (act < 6) {
          fillPage(frame(pfn), step);
          expect(device.write(page, pfn)).toBe(0);
          salts.set(page, step);
        } else if (salts.has(page)) {
          expect(device.read(page, pfn)).toBe(0);
          fillPage(expected, salts.get(page)!);
          expect(sameBytes(frame(pfn), expected), `seed ${SEED}, step ${step}`).toBe(true);
        }
      }
    });

    it('touches no frame but the one it is given, and writing changes none', () => {
      const { device, frame } = rig(create);
      const [pfn, other] = FRAMES;
      fillPage(frame(pfn), 7);
      fillPage(frame(other), 8);
      const before = [frame(pfn).slice(), frame(other).slice()];
      device.write(1, pfn);
      expect([sameBytes(frame(pfn), before[0]), sameBytes(frame(other), before[1])]).toEqual([true, true]);
      device.read(1, pfn);
      expect([sameBytes(frame(pfn), before[0]), sameBytes(frame(other), before[1])]).toEqual([true, true]);
    });
  });
}
