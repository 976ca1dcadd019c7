/**
 * What the slab allocator says when someone misuses it: a typed value, and the line Linux would log.
 */
import type { VirtAddr } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';

/** A misuse that was noticed. */
export interface SlabReport {
  /**
   * `invalid-free`: the pointer is no slab object; `double-free`: the object is the last one freed; `wrong-cache`: the
   * object is another cache's; `freelist-corrupt`: a free object's pointer was overwritten; `objects-remaining`: a cache
   * was destroyed with live objects.
   */
  readonly kind: 'invalid-free' | 'double-free' | 'wrong-cache' | 'freelist-corrupt' | 'objects-remaining';
  /** The cache concerned; empty where there is none. */
  readonly cache: string;
  readonly address: VirtAddr;
  readonly text: string;
}

/** Takes a report. When it returns, the kernel goes on as Linux would. */
export type SlabReporter = (report: SlabReport) => void;

/** Writes a kernel address as Linux prints it: sixteen hexadecimal digits. */
export function formatAddress(address: VirtAddr): string {
  const high = Math.floor(address / 2 ** 32);
  const low = address - high * 2 ** 32;
  return (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0');
}

/** The reporter used when none is handed in: stops the emulator. @throws KernelBug always */
export function throwReport(report: SlabReport): never {
  throw new KernelBug(report.text);
}
