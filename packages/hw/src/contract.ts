/**
 * What every model of a TLB must do. An author of one runs this suite in their own tests:
 *
 *     import { tlbModelContract } from '@pagelab/hw/contract';
 *     tlbModelContract(() => new MyTlb());
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
import {
  INVPCID_TYPE_ALL_INCL_GLOBAL,
  INVPCID_TYPE_ALL_NON_GLOBAL,
  INVPCID_TYPE_INDIV_ADDR,
  INVPCID_TYPE_SINGLE_CTXT,
  TLB_DATA,
  TLB_INSTRUCTION,
  WALK_FAULT,
  WALK_GLOBAL,
} from './tlb-model.ts';
import type { TlbModel, TlbModelFactory, TlbSideStats } from './tlb-model.ts';

const SEED = 0x7ab;
/** Levels of x86-64, and of 32 bits with 4 MiB pages. */
const SHIFTS = [39, 30, 21, 12];
const SHIFTS_32 = [22, 12];

/** An access as a CPU makes it; returns where it was found. */
function access(tlb: TlbModel, va: number, pcid: number, shift = 12, flags = 0, side = TLB_DATA): number {
  const hi = Math.floor(va / 2 ** 32) | 0;
  const found = tlb.lookup(hi, va | 0, pcid, side);
  if (found === 0) tlb.walked(hi, va | 0, pcid, side, shift, flags, shift === 22 ? SHIFTS_32 : SHIFTS);
  return found;
}

const invlpg = (tlb: TlbModel, va: number, pcid: number): void =>
  tlb.invlpg(Math.floor(va / 2 ** 32) | 0, va | 0, pcid);

const invpcid = (tlb: TlbModel, kind: number, pcid: number, va = 0): void =>
  tlb.invpcid(kind, pcid, Math.floor(va / 2 ** 32) | 0, va | 0);

function accounted(side: TlbSideStats): number {
  return [...side.l1Hits, ...side.l2Hits, ...side.misses].reduce((sum, count) => sum + count, 0) + side.faults;
}

/** Runs the suite: a `describe` block named after the model. */
export function tlbModelContract(create: TlbModelFactory): void {
  describe(`TLB model ${create(0).name}`, () => {
    const VA = 0x7f0012345000;

    it('misses a page once, and then finds it, anywhere in it', () => {
      const tlb = create(0);
      for (const [va, shift, bytes] of [
        [VA, 12, 4096],
        [0x7e0000200000, 21, 2 ** 21],
        [-0x778000000000, 21, 2 ** 21],
        [0x80400000, 22, 2 ** 22],
      ] as const) {
        expect(access(tlb, va, 1, shift)).toBe(0);
        expect(access(tlb, va, 1, shift)).toBe(1);
        // Of a page of 4 MiB the other half may have an entry of its own.
        const half = shift === 22 ? bytes / 2 : bytes;
        expect(access(tlb, va + half - 1, 1, shift)).toBe(1);
        expect(access(tlb, va + bytes, 1, 12, WALK_FAULT)).toBe(0);
      }
    });

    it('keeps contexts apart, and shares global pages', () => {
      const tlb = create(0);
      access(tlb, VA, 1);
      expect(access(tlb, VA, 2)).toBe(0);
      expect(access(tlb, VA, 1)).toBe(1);
      expect(access(tlb, VA, 2)).toBe(1);
      access(tlb, VA + 4096, 1, 12, WALK_GLOBAL);
      expect(access(tlb, VA + 4096, 4095)).not.toBe(0);
    });

    it('learns nothing from a fault', () => {
      const tlb = create(0);
      for (let i = 0; i < 3; i++) expect(access(tlb, VA, 0, 12, WALK_FAULT)).toBe(0);
      expect(tlb.stats.data.faults).toBe(3);
      expect(access(tlb, VA, 0, 39, WALK_FAULT)).toBe(0);
    });

    it('drops a page by INVLPG, whatever its size and part, global ones too, and no other', () => {
      const tlb = create(0);
      for (const [va, shift, far] of [
        [VA, 12, 4095],
        [0x7e0000200000, 21, 2 ** 21 - 1],
        [0x80400000, 22, 2 ** 22 - 1],
        [0x7d0040000000, 30, 2 ** 30 - 1],
      ] as const) {
        access(tlb, va, 3, shift);
        access(tlb, va + far, 3, shift);
        access(tlb, 0x1000, 3);
        invlpg(tlb, va + far, 3);
        expect(access(tlb, va, 3, shift)).toBe(0);
        expect(access(tlb, va, 3, shift, 0, TLB_INSTRUCTION) < 3).toBe(true);
        expect(access(tlb, 0x1000, 3)).toBe(1);
      }
      access(tlb, VA + 8192, 3, 12, WALK_GLOBAL);
      invlpg(tlb, VA + 8192, 5);
      expect(access(tlb, VA + 8192, 3)).toBe(0);
    });

    it('drops what each kind of INVPCID names', () => {
      const [one, other, shared] = [0x10000, 0x20000, 0x30000];
      for (const [kind, kept] of [
        [INVPCID_TYPE_INDIV_ADDR, [false, true, true, true]],
        [INVPCID_TYPE_SINGLE_CTXT, [false, false, true, true]],
        [INVPCID_TYPE_ALL_INCL_GLOBAL, [false, false, false, false]],
        [INVPCID_TYPE_ALL_NON_GLOBAL, [false, false, false, true]],
      ] as const) {
        const tlb = create(0);
        access(tlb, one, 1);
        access(tlb, other, 1);
        access(tlb, one, 2);
        access(tlb, shared, 1, 12, WALK_GLOBAL);
        invpcid(tlb, kind, 1, one);
        const found = [
          [one, 1],
          [other, 1],
          [one, 2],
          [shared, 7],
        ].map(([va, pcid]) => access(tlb, va, pcid, 12, WALK_FAULT) !== 0);
        expect(found).toEqual(kept);
      }
      const tlb = create(0);
      access(tlb, shared, 1, 12, WALK_GLOBAL);
      invpcid(tlb, INVPCID_TYPE_INDIV_ADDR, 1, shared);
      expect(access(tlb, shared, 1)).not.toBe(0);
    });

    it('holds no more than it can: pages far beyond its size are walked again and again', () => {
      const tlb = create(0);
      for (let round = 0; round < 2; round++) for (let i = 0; i < 6000; i++) access(tlb, i * 4096, 0);
      expect(tlb.stats.data.misses[0]).toBeGreaterThan(10_000);
      tlb.validate();
    });

    it('never finds what it may not hold, and counts every access once, in random runs', () => {
      const prng = new Prng(SEED);
      const tlb = create(0);
      /** What may be held: the pages that a walk found since the last flush of them, by context. */
      const allowed = new Set<string>();
      const shiftOf = (va: number): number => (va < 0x40000000 ? 12 : va < 0x80000000 ? 21 : 30);
      const name = (va: number, context: number): string => `${Math.floor(va / 2 ** shiftOf(va))}/${shiftOf(va)}/${context}`;
      const GLOBAL = -1;
      let accesses = 0;
      for (let step = 0; step < 20_000; step++) {
        const region = prng.below(3);
        const va =
          region === 0 ? prng.below(3000) * 4096 : region === 1 ? 0x40000000 + prng.below(300) * 2 ** 20 : 0x80000000 + prng.below(12) * 2 ** 29;
        const pcid = prng.below(3);
        const what = prng.below(1000);
        if (what >= 4) {
          const isGlobal = Math.floor(va / 2 ** shiftOf(va)) % 7 === 0;
          const fault = prng.below(50) === 0;
          const side = prng.below(4) === 0 ? TLB_INSTRUCTION : TLB_DATA;
          const flags = (isGlobal ? WALK_GLOBAL : 0) | (fault ? WALK_FAULT : 0);
          const found = access(tlb, va, pcid, shiftOf(va), flags, side);
          accesses += 1;
          if (found !== 0) {
            const held = allowed.has(name(va, pcid)) || allowed.has(name(va, GLOBAL));
            expect(held, `seed ${SEED}, step ${step}: found ${name(va, pcid)}`).toBe(true);
          } else if (!fault) {
            allowed.add(name(va, isGlobal ? GLOBAL : pcid));
          }
        } else if (what === 0) {
          invlpg(tlb, va, pcid);
          allowed.delete(name(va, pcid));
          allowed.delete(name(va, GLOBAL));
        } else {
          const kind = prng.below(4);
          invpcid(tlb, kind, pcid, va);
          if (kind === INVPCID_TYPE_INDIV_ADDR) allowed.delete(name(va, pcid));
          for (const entry of kind === INVPCID_TYPE_INDIV_ADDR ? [] : allowed) {
            const context = Number(entry.split('/')[2]);
            if (kind === INVPCID_TYPE_ALL_INCL_GLOBAL || context === pcid) allowed.delete(entry);
            else if (kind === INVPCID_TYPE_ALL_NON_GLOBAL && context !== GLOBAL) allowed.delete(entry);
          }
        }
        if (step % 1000 === 0) tlb.validate();
      }
      const { data, instruction } = tlb.stats;
      expect(data.accesses + instruction.accesses).toBe(accesses);
      expect([accounted(data), accounted(instruction)]).toEqual([data.accesses, instruction.accesses]);
    });

    it('repeats itself', () => {
      const run = (): string => {
        const tlb = create(1);
        const prng = new Prng(SEED);
        for (let i = 0; i < 5000; i++) access(tlb, prng.below(2500) * 4096, prng.below(2));
        return JSON.stringify(tlb.stats);
      };
      expect(run()).toBe(run());
    });
  });
}
