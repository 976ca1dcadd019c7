/**
 * What the kernel's own memory allocators say when someone misuses them: a typed value, and the line Linux would log.
 */
import type { VirtAddr } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';

/** A misuse that was noticed, or a request that could not be met and is reported. */
export interface KernelWarning {
  /** What: `vfree-nonexistent`, `vmalloc-failed`, … */
  readonly kind: string;
  /** The address concerned; 0 where there is none. */
  readonly address: VirtAddr;
  readonly text: string;
}

/** Takes a warning. When it returns, the kernel goes on as Linux would. */
export type KernelWarningSink = (warning: KernelWarning) => void;

/** The sink used when none is handed in: stops the emulator. @throws KernelBug always */
export function throwWarning(warning: KernelWarning): never {
  throw new KernelBug(warning.text);
}

/** Writes a kernel address as Linux prints it on 64 bits: sixteen hexadecimal digits. */
export { formatAddress } from '@pagelab/slab';
