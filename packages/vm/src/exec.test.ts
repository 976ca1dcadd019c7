import { PAGE_SIZE, RLIMIT_STACK, TASK_SIZE } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { expect, test } from 'vitest';
import { doMprotect } from './mprotect.ts';
import { mmput } from './mm-lifetime.ts';
import { mapsLines, vmFlagsNames } from './maps.ts';
import type { MapsLine } from './maps.ts';
import { TestLimits, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

function line({ start, end, perms, offset, name }: MapsLine): string {
  return `${start.toString(16)}-${end.toString(16)} ${perms} ${offset.toString(16).padStart(8, '0')} ${name}`.trim();
}

test('a program lies where Linux puts one without address randomisation', () => {
  const { mm, vm } = new TestSpace();
  expect(mapsLines(mm).map(line)).toEqual([
    '400000-408000 r-xp 00000000 /bin/program',
    '408000-40a000 r--p 00008000 /bin/program',
    '40a000-40b000 rw-p 0000a000 /bin/program',
    '40b000-40f000 rw-p 00000000',
    '40f000-410000 r--p 0000b000 /bin/program',
    '7ffff7ff7000-7ffff7ffb000 r--p 00000000 [vvar]',
    '7ffff7ffb000-7ffff7ffd000 r--p 00000000 [vvar_vclock]',
    '7ffff7ffd000-7ffff7fff000 r-xp 00000000 [vdso]',
    '7ffffffde000-7ffffffff000 rw-p 00000000 [stack]',
  ]);
  expect([...mm.vmas].map((vma) => vmFlagsNames(vma).join(' '))).toEqual([
    'rd ex mr mw me',
    'rd mr mw me',
    'rd wr mr mw me ac',
    'rd wr mr mw me ac',
    'rd mr mw me',
    'rd mr pf io de dd',
    'rd mr pf io de dd',
    'rd ex mr mw me de',
    'rd wr mr mw me gd ac',
  ]);
  const { startBrk, brk, stackVm, execVm, dataVm } = mm;
  expect([startBrk, brk]).toEqual([0x41_0000, 0x41_0000]);
  expect({ stackVm, execVm, dataVm }).toEqual({ stackVm: 33, execVm: 10, dataVm: 5 });
  expect(mm.mmapBase).toBe(0x7fff_f7ff_f000);
  validateVm(vm);
});

test('a larger stack limit leaves more room below the stack', () => {
  const limits = new TestLimits();
  limits.soft.set(RLIMIT_STACK, 2 ** 30);
  // `ulimit -s 1048576; setarch -R cat /proc/self/maps`
  expect(new TestSpace({ limits }).mm.mmapBase).toBe(0x7fff_bfef_f000);
});

test('of a stack that is cut up, the part with the first stack pointer keeps the name', () => {
  const { mm } = new TestSpace();
  doMprotect(mm, 0x7fff_fffd_e000, PAGE_SIZE, 1);
  const names = mapsLines(mm).slice(-2).map(line);
  expect(names).toEqual(['7ffffffde000-7ffffffdf000 r--p 00000000', '7ffffffdf000-7ffffffff000 rw-p 00000000 [stack]']);
});

test('address-space randomisation moves stack, mapping area and heap, the same way for the same seed', () => {
  const layout = (seed: number): number[] => {
    const prng = new Prng(seed);
    const { mm, vm } = new TestSpace({ layout: { random: { below: (n) => prng.below(n), heap: true } } });
    validateVm(vm);
    return [mm.startStack, mm.mmapBase, mm.startBrk, mapsLines(mm)[0].start];
  };
  const [stack, base, heap, text] = layout(1);
  expect(layout(1)).toEqual([stack, base, heap, text]);
  expect(text).toBe(0x40_0000);
  expect(stack).toBeGreaterThan(TASK_SIZE - 2 ** 34 - 4 * PAGE_SIZE);
  expect(base).toBeLessThan(TASK_SIZE - 2 ** 34);
  expect(base).toBeGreaterThan(TASK_SIZE - 2 ** 41);
  expect(heap - 0x41_0000).toBeLessThan(2 ** 30 + PAGE_SIZE);
  const other = layout(2);
  expect([other[0] === stack, other[1] === base, other[2] === heap]).toEqual([false, false, false]);
});

test('nothing is left behind', () => {
  const { mm, vm } = new TestSpace();
  const { caches } = vm;
  mmput(mm);
  expect(vm.committedAs).toBe(0);
  const { vmArea, mapleNode, anonVma, anonVmaChain, file, shmemInode } = caches;
  const used = [vmArea, caches.mm, mapleNode, anonVma, anonVmaChain, file, shmemInode].map((cache) => cache.activeObjects);
  expect(used).toEqual([0, 0, 0, 0, 0, 0, 0]);
  validateVm(vm);
});
