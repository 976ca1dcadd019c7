/** The page walk as the manual's prose has it, in BigInt: slow, plain, and sharing nothing with the real one. */
import type { PhysicalMemory } from '../index.ts';

/** What an access does. */
export interface ModelAccess {
  readonly write: boolean;
  readonly user: boolean;
  readonly fetch: boolean;
}

/** The processor's settings. */
export interface ModelControls {
  readonly wp: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly ac: boolean;
  readonly nxe: boolean;
}

/** How a walk ends: a physical address, and the entries it marked; or a fault. */
export type ModelResult =
  | { readonly physical: bigint; readonly marks: ReadonlyMap<number, bigint> }
  | { readonly fault: number; readonly vector: number; readonly marks: ReadonlyMap<number, bigint> };

const PHYSICAL_BITS = 46n;
const bit = (n: bigint, value: bigint): boolean => ((value >> n) & 1n) === 1n;

function load64(ram: PhysicalMemory, at: bigint): bigint {
  if (!ram.isRam(Number(at >> 12n))) return (1n << 64n) - 1n;
  return (BigInt(ram.load32(Number(at) + 4)) << 32n) | BigInt(ram.load32(Number(at)));
}

/** Walks the tables at `root` for a 64-bit `address`; changes nothing. */
export function modelWalk(
  ram: PhysicalMemory,
  root: number,
  address: bigint,
  access: ModelAccess,
  controls: ModelControls,
): ModelResult {
  const marks = new Map<number, bigint>();
  const upper = address >> 47n;
  if (upper !== 0n && upper !== 0x1ffffn) return { fault: 0, vector: 13, marks };
  const tellsFetch = access.fetch && (controls.nxe || controls.smep);
  const code = (present: boolean, reserved: boolean): number =>
    (present ? 1 : 0) | (access.write ? 2 : 0) | (access.user ? 4 : 0) | (reserved ? 8 : 0) | (tellsFetch ? 16 : 0);
  let table = BigInt(root);
  let writable = true;
  let userPage = true;
  let executable = true;
  for (const shift of [39n, 30n, 21n, 12n]) {
    const at = table + ((address >> shift) & 511n) * 8n;
    const entry = load64(ram, at);
    if (!bit(0n, entry)) return { fault: code(false, false), vector: 14, marks };
    const large = shift !== 12n && bit(7n, entry);
    const frame = entry & ((1n << 52n) - 1n) & ~0xfffn;
    let reserved = frame >> PHYSICAL_BITS !== 0n;
    if (bit(63n, entry) && !controls.nxe) reserved = true;
    if (large && shift === 39n) reserved = true;
    if (large && shift !== 39n && (frame & ((1n << shift) - 1n) & ~0x1000n) !== 0n) reserved = true;
    if (reserved) return { fault: code(true, true), vector: 14, marks };
    writable &&= bit(1n, entry);
    userPage &&= bit(2n, entry);
    executable &&= !(bit(63n, entry) && controls.nxe);
    if (shift !== 12n && !large) {
      marks.set(Number(at), entry | 0x20n);
      table = frame;
      continue;
    }
    let allowed: boolean;
    if (access.user) {
      allowed = userPage && (!access.write || writable) && (!access.fetch || executable);
    } else if (access.fetch) {
      allowed = executable && !(controls.smep && userPage);
    } else {
      allowed = !(userPage && controls.smap && !controls.ac) && (!access.write || writable || !controls.wp);
    }
    if (!allowed) return { fault: code(true, false), vector: 14, marks };
    marks.set(Number(at), entry | 0x20n | (access.write ? 0x40n : 0n));
    const inPage = (1n << shift) - 1n;
    return { physical: (frame & ~inPage) | (address & inPage), marks };
  }
  throw new Error('not reached');
}
