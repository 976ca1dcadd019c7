/** The 32-bit page walks as the manual's tables have them, in BigInt: two levels, and PAE. Shares nothing with the real one. */
import type { PhysicalMemory } from '../index.ts';
import type { ModelAccess, ModelControls, ModelResult } from './walk-model.ts';

const PHYSICAL_BITS = 46n;

function bits(value: bigint, high: bigint, low: bigint): bigint {
  return (value >> low) & ((1n << (high - low + 1n)) - 1n);
}

function load(ram: PhysicalMemory, at: bigint, bytes: bigint): bigint {
  if (!ram.isRam(Number(at >> 12n))) return (1n << (bytes * 8n)) - 1n;
  let value = 0n;
  for (let i = bytes - 1n; i >= 0n; i--) value = (value << 8n) | BigInt(ram.load8(Number(at + i)));
  return value;
}

/** The four entries of PAE's top level as CR3's load reads them, or `null` where it raises #GP. */
export function modelPdptes(ram: PhysicalMemory, cr3: bigint): bigint[] | null {
  const entries = [0n, 1n, 2n, 3n].map((i) => load(ram, cr3 + i * 8n, 8n));
  // Table 5-8: 2:1, 8:5 and everything from the width of an address on.
  const bad = entries.some(
    (e) => bits(e, 0n, 0n) === 1n && (bits(e, 2n, 1n) !== 0n || bits(e, 8n, 5n) !== 0n || bits(e, 63n, PHYSICAL_BITS) !== 0n),
  );
  return bad ? null : entries;
}

interface Walk {
  readonly steps: { at: number; entry: bigint; leaf: boolean }[];
  physical: bigint;
  end: 'mapped' | 'absent' | 'reserved';
}

function walkTwoLevels(ram: PhysicalMemory, cr3: bigint, va: bigint, pse: boolean): Walk {
  const walk: Walk = { steps: [], physical: 0n, end: 'absent' };
  const pdeAt = bits(cr3, 31n, 12n) * 4096n + bits(va, 31n, 22n) * 4n;
  const pde = load(ram, pdeAt, 4n);
  if (bits(pde, 0n, 0n) === 0n) return walk;
  const large = pse && bits(pde, 7n, 7n) === 1n;
  walk.steps.push({ at: Number(pdeAt), entry: pde, leaf: large });
  if (large) {
    walk.end = bits(pde, 21n, 21n) === 1n ? 'reserved' : 'mapped';
    walk.physical = (bits(pde, 20n, 13n) << 32n) | (bits(pde, 31n, 22n) << 22n) | bits(va, 21n, 0n);
    return walk;
  }
  const pteAt = bits(pde, 31n, 12n) * 4096n + bits(va, 21n, 12n) * 4n;
  const pte = load(ram, pteAt, 4n);
  if (bits(pte, 0n, 0n) === 0n) return walk;
  walk.steps.push({ at: Number(pteAt), entry: pte, leaf: true });
  walk.physical = bits(pte, 31n, 12n) * 4096n + bits(va, 11n, 0n);
  walk.end = 'mapped';
  return walk;
}

function walkPae(ram: PhysicalMemory, pdptes: readonly bigint[], va: bigint, nxe: boolean): Walk {
  const walk: Walk = { steps: [], physical: 0n, end: 'absent' };
  const pdpte = pdptes[Number(bits(va, 31n, 30n))];
  if (bits(pdpte, 0n, 0n) === 0n) return walk;
  const reserved = (e: bigint): boolean => bits(e, 62n, PHYSICAL_BITS) !== 0n || (!nxe && bits(e, 63n, 63n) === 1n);
  const pdeAt = bits(pdpte, PHYSICAL_BITS - 1n, 12n) * 4096n + bits(va, 29n, 21n) * 8n;
  const pde = load(ram, pdeAt, 8n);
  if (bits(pde, 0n, 0n) === 0n) return walk;
  const large = bits(pde, 7n, 7n) === 1n;
  if (reserved(pde) || (large && bits(pde, 20n, 13n) !== 0n)) {
    walk.end = 'reserved';
    return walk;
  }
  walk.steps.push({ at: Number(pdeAt), entry: pde, leaf: large });
  if (large) {
    walk.physical = bits(pde, PHYSICAL_BITS - 1n, 21n) * 0x200000n + bits(va, 20n, 0n);
    walk.end = 'mapped';
    return walk;
  }
  const pteAt = bits(pde, PHYSICAL_BITS - 1n, 12n) * 4096n + bits(va, 20n, 12n) * 8n;
  const pte = load(ram, pteAt, 8n);
  if (bits(pte, 0n, 0n) === 0n) return walk;
  if (reserved(pte)) {
    walk.end = 'reserved';
    return walk;
  }
  walk.steps.push({ at: Number(pteAt), entry: pte, leaf: true });
  walk.physical = bits(pte, PHYSICAL_BITS - 1n, 12n) * 4096n + bits(va, 11n, 0n);
  walk.end = 'mapped';
  return walk;
}

/** Walks for a 32-bit `address`; changes nothing. `root` is CR3's address, or PAE's registers. */
export function modelWalk32(
  ram: PhysicalMemory,
  root: bigint | readonly bigint[],
  address: bigint,
  access: ModelAccess,
  controls: ModelControls & { readonly pse: boolean },
): ModelResult {
  const pae = typeof root !== 'bigint';
  const nxe = pae && controls.nxe;
  const walk = pae ? walkPae(ram, root, address, nxe) : walkTwoLevels(ram, root, address, controls.pse);
  const marks = new Map<number, bigint>();
  for (const { at, entry, leaf } of walk.steps) if (!leaf) marks.set(at, entry | 0x20n);
  const code = (access.write ? 2 : 0) | (access.user ? 4 : 0) | (access.fetch && (nxe || controls.smep) ? 16 : 0);
  if (walk.end === 'absent') return { fault: code, vector: 14, marks };
  if (walk.end === 'reserved') return { fault: code | 9, vector: 14, marks };
  const all = (n: bigint): boolean => walk.steps.every(({ entry }) => bits(entry, n, n) === 1n);
  const writable = all(1n);
  const userPage = all(2n);
  const executable = !(nxe && walk.steps.some(({ entry }) => bits(entry, 63n, 63n) === 1n));
  let allowed: boolean;
  if (access.user) allowed = userPage && (!access.write || writable) && (!access.fetch || executable);
  else if (access.fetch) allowed = executable && !(controls.smep && userPage);
  else allowed = !(userPage && controls.smap && !controls.ac) && (!access.write || writable || !controls.wp);
  if (!allowed) return { fault: code | 1, vector: 14, marks };
  const leaf = walk.steps[walk.steps.length - 1];
  marks.set(leaf.at, leaf.entry | 0x20n | (access.write ? 0x40n : 0n));
  return { physical: walk.physical, marks };
}
