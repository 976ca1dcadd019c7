/**
 * Watches how drivers use DMA memory: what they map they must unmap, once, and as they mapped it.
 *
 * @linux kernel/dma/debug.c
 */
import type { PhysAddr } from '@pagelab/hw';
import type { DmaDevice } from './dma-mapping.ts';
import type { KernelWarningSink } from './kernel-warning.ts';

const DIRECTIONS: readonly string[] = ['DMA_BIDIRECTIONAL', 'DMA_TO_DEVICE', 'DMA_FROM_DEVICE'];

/** Something a device may reach. @linux kernel/dma/debug.c:dma_debug_entry */
interface DmaEntry {
  readonly device: DmaDevice;
  readonly bus: PhysAddr;
  readonly size: number;
  /** −1 for a coherent block. */
  readonly direction: number;
}

export class DmaDebug {
  readonly #sink: KernelWarningSink;
  /** By bus address: one memory may be mapped several times. */
  readonly #entries = new Map<PhysAddr, DmaEntry[]>();

  constructor(sink: KernelWarningSink) {
    this.#sink = sink;
  }

  /** Reports something of a device. */
  warn(kind: string, device: DmaDevice, address: number, text: string): void {
    this.#sink({ kind, address, text: `DMA-API: ${device.name}: ${text}` });
  }

  /** Everything that is mapped, for who looks. */
  entries(): readonly Readonly<DmaEntry>[] {
    return [...this.#entries.values()].flat();
  }

  add(device: DmaDevice, bus: PhysAddr, size: number, direction: number): void {
    const entry = { device, bus, size, direction };
    const there = this.#entries.get(bus);
    if (there === undefined) this.#entries.set(bus, [entry]);
    else there.push(entry);
  }

  addCoherent(device: DmaDevice, bus: PhysAddr, size: number): void {
    this.add(device, bus, size, -1);
  }

  /** Whether there is such a mapping, which is forgotten. What does not fit is reported. @linux kernel/dma/debug.c:check_unmap */
  remove(device: DmaDevice, bus: PhysAddr, size: number, direction: number): boolean {
    const entry = this.#take(device, bus, size, direction);
    if (entry === undefined) {
      this.warn('dma-unmap-unknown', device, bus, `device driver tries to free DMA memory it has not allocated ${where(bus)} [size=${size} bytes]`);
      return false;
    }
    if (entry.direction < 0) {
      this.warn('dma-wrong-function', device, bus, `device driver frees DMA memory with wrong function ${where(bus)} [size=${size} bytes] [mapped as coherent] [unmapped as single]`);
      this.#put(entry);
      return false;
    }
    this.#checkSize(device, entry, size);
    if (entry.direction !== direction) {
      const how = `[mapped with ${DIRECTIONS[entry.direction]}] [unmapped with ${DIRECTIONS[direction]}]`;
      this.warn('dma-wrong-direction', device, bus, `device driver frees DMA memory with different direction ${where(bus)} [size=${size} bytes] ${how}`);
    }
    return true;
  }

  /** Forgets a coherent block. @returns the bytes it was allocated with; −1 where there is none */
  removeCoherent(device: DmaDevice, bus: PhysAddr, size: number): number {
    const entry = this.#take(device, bus, size, -1);
    if (entry === undefined) {
      this.warn('dma-unmap-unknown', device, bus, `device driver tries to free DMA memory it has not allocated ${where(bus)} [size=${size} bytes]`);
      return -1;
    }
    if (entry.direction >= 0) {
      this.warn('dma-wrong-function', device, bus, `device driver frees DMA memory with wrong function ${where(bus)} [size=${size} bytes] [mapped as single] [unmapped as coherent]`);
      this.#put(entry);
      return -1;
    }
    this.#checkSize(device, entry, size);
    return entry.size;
  }

  #checkSize(device: DmaDevice, entry: DmaEntry, size: number): void {
    if (entry.size === size) return;
    const sizes = `[map size=${entry.size} bytes] [unmap size=${size} bytes]`;
    this.warn('dma-wrong-size', device, entry.bus, `device driver frees DMA memory with different size ${where(entry.bus)} ${sizes}`);
  }

  /** Whether bytes of a mapping may be synced in a direction. @linux kernel/dma/debug.c:check_sync */
  checkSync(device: DmaDevice, bus: PhysAddr, size: number, direction: number, side: 'CPU' | 'device'): boolean {
    const entry = this.#covering(device, bus);
    if (entry === undefined) {
      this.warn('dma-sync-unknown', device, bus, `device driver tries to sync DMA memory it has not allocated ${where(bus)} [size=${size} bytes]`);
      return false;
    }
    if (bus + size > entry.bus + entry.size) {
      const bytes = `[allocation size=${entry.size} bytes] [sync offset+size=${bus - entry.bus + size}]`;
      this.warn('dma-sync-range', device, bus, `device driver syncs DMA memory outside allocated range ${where(bus)} ${bytes}`);
      return false;
    }
    const allowed = entry.direction === 0 || entry.direction === direction;
    if (!allowed) {
      const how = `[mapped with ${DIRECTIONS[entry.direction]}] [synced with ${DIRECTIONS[direction]}]`;
      this.warn('dma-sync-direction', device, bus, `device driver syncs DMA memory for ${side} with different direction ${where(bus)} ${how}`);
    }
    return allowed;
  }

  #covering(device: DmaDevice, bus: PhysAddr): DmaEntry | undefined {
    const exact = this.#entries.get(bus)?.find((entry) => entry.device === device && entry.direction >= 0);
    if (exact !== undefined) return exact;
    for (const entry of this.entries()) {
      if (entry.device === device && entry.direction >= 0 && bus >= entry.bus && bus < entry.bus + entry.size) return entry;
    }
    return undefined;
  }

  /** The mapping at an address that fits best. @linux kernel/dma/debug.c:bucket_find_exact */
  #take(device: DmaDevice, bus: PhysAddr, size: number, direction: number): DmaEntry | undefined {
    const there = this.#entries.get(bus)?.filter((entry) => entry.device === device) ?? [];
    const found = there.find((entry) => entry.size === size && entry.direction === direction) ?? there[0];
    if (found === undefined) return undefined;
    const left = this.#entries.get(bus)!.filter((entry) => entry !== found);
    if (left.length === 0) this.#entries.delete(bus);
    else this.#entries.set(bus, left);
    return found;
  }

  #put({ device, bus, size, direction }: DmaEntry): void {
    this.add(device, bus, size, direction);
  }

  /** @linux kernel/dma/debug.c:device_dma_allocations */
  deviceReleased(device: DmaDevice): void {
    const pending = this.entries().filter((entry) => entry.device === device);
    if (pending.length === 0) return;
    const [{ bus, size, direction }] = pending;
    const one = `One of leaked entries details: ${where(bus)} [size=${size} bytes] [mapped with ${DIRECTIONS[direction] ?? 'DMA_BIDIRECTIONAL'}]`;
    const text = `device driver has pending DMA allocations while released from device [count=${pending.length}]`;
    this.warn('dma-pending', device, bus, `${text}\n${one} [mapped as ${direction < 0 ? 'coherent' : 'single'}]`);
  }
}

function where(bus: PhysAddr): string {
  return `[device address=0x${bus.toString(16).padStart(16, '0')}]`;
}
