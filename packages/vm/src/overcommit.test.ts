import { Errno, MAP_ANONYMOUS, MAP_NORESERVE, MAP_SHARED, PAGE_SIZE, PROT_NONE } from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { dupMm } from './mm-lifetime.ts';
import { vmMunmap } from './munmap.ts';
import { OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER, vmCommitLimit } from './overcommit.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const SHARED = MAP_SHARED | MAP_ANONYMOUS;

let space: TestSpace;
/** Pages of RAM. */
let ram: number;

beforeEach(() => {
  space = new TestSpace();
  ram = space.vm.pages.totalramPages;
});

/** Makes a child: 0 or -errno. */
function fork(): number {
  const child = dupMm(space.mm, space.limits);
  return typeof child === 'number' ? child : 0;
}

describe('heuristic', () => {
  test('refuses one request beyond all there is, not their sum', () => {
    expect(space.fixed(0, ram + 1)).toBe(-Errno.ENOMEM);
    expect(space.fixed(0, ram)).toBe(space.at(0));
    expect(space.fixed(ram, ram)).toBe(space.at(ram));
    expect(space.fixed(0, 3 * ram, RW, ANON | MAP_NORESERVE)).toBe(space.at(0));
    expect(space.fixed(0, ram + 1, PROT_NONE, SHARED)).toBe(-Errno.ENOMEM);
    validateVm(space.vm);
  });

  test('looks at each mapping again at fork', () => {
    space.fixed(0, ram);
    space.fixed(ram, ram);
    expect(fork()).toBe(-Errno.ENOMEM);
    validateVm(space.vm);
    vmMunmap(space.mm, space.at(0), ram * PAGE_SIZE);
    expect(fork()).toBe(0);
    validateVm(space.vm);
  });
});

test('always: anything', () => {
  space.vm.sysctl.overcommitMemory = OVERCOMMIT_ALWAYS;
  expect(space.fixed(0, 100 * ram)).toBe(space.at(0));
  expect(space.fixed(0, 100 * ram, RW, SHARED)).toBe(space.at(0));
  validateVm(space.vm);
});

describe('never beyond the limit', () => {
  let room: number;

  beforeEach(() => {
    space.vm.sysctl.overcommitMemory = OVERCOMMIT_NEVER;
    space.vm.sysctl.userReserveKbytes = 0;
    room = vmCommitLimit(space.vm) - space.vm.committedAs - 1;
  });

  test('the limit is a share of RAM, or a fixed amount', () => {
    expect(vmCommitLimit(space.vm)).toBe(Math.floor(ram / 2));
    space.vm.sysctl.overcommitRatio = 80;
    expect(vmCommitLimit(space.vm)).toBe(Math.floor(ram * 0.8));
    space.vm.sysctl.overcommitKbytes = 4096;
    expect(vmCommitLimit(space.vm)).toBe(1024);
  });

  test('what may be stored to is charged, NORESERVE or not', () => {
    expect(space.fixed(0, room + 1)).toBe(-Errno.ENOMEM);
    expect(space.fixed(0, room + 1, RW, ANON | MAP_NORESERVE)).toBe(-Errno.ENOMEM);
    expect(space.fixed(0, 10 * ram, PROT_NONE)).toBe(space.at(0));
    // In the place of memory that cost nothing.
    expect(space.fixed(0, room)).toBe(space.at(0));
    expect(space.fixed(room, 1)).toBe(-Errno.ENOMEM);
    // In the place of memory that cost as much.
    expect(space.fixed(0, room)).toBe(space.at(0));
    validateVm(space.vm);
  });

  test('the administrator’s reserve is kept from others', () => {
    space.limits.privileged = false;
    const reserve = space.vm.sysctl.adminReserveKbytes / 4;
    expect(space.fixed(0, room - reserve + 1)).toBe(-Errno.ENOMEM);
    expect(space.fixed(0, room - reserve)).toBe(space.at(0));
  });

  test('a shared object that is refused leaves a hole where it was to go', () => {
    space.fixed(0, 4);
    space.touch(0, 4);
    expect(space.fixed(0, room + 10, RW, SHARED)).toBe(-Errno.ENOMEM);
    expect(space.list()).toEqual([]);
    validateVm(space.vm);
  });
});
