/**
 * Segmentation faults: caught, repaired, abandoned, or the end of the program.
 */
import { SEGV_ACCERR, SEGV_MAPERR, SIGSEGV, SI_KERNEL } from '@pagelab/abi';
import type { SigInfo } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import { runChecked, small } from './testing/run.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;

test('a handler repairs, and the access is tried again', () => {
  runChecked(small(), (os) => {
    const area = os.mmap(0, 3 * 4096, 0, PRIVATE_ANON);
    const seen: SigInfo[] = [];
    const old = os.sigaction(SIGSEGV, (info) => {
      seen.push(info);
      os.mprotect(info.addr - (info.addr % 4096), 4096, RW);
    });
    expect(old).toBe('default');
    os.mem.store32(area + 8, 42);
    expect(os.mem.load32(area + 8)).toBe(42);
    // Across two pages, the second of which is not there yet: nothing is stored before both are.
    os.mem.store32(area + 4094, 0x01020304);
    expect(os.mem.load32(area + 4094)).toBe(0x01020304);
    expect(seen.map(({ code, addr }) => [code, addr - area])).toEqual([[SEGV_ACCERR, 8], [SEGV_ACCERR, 4096]]);
    expect(Object.isFrozen(seen[0])).toBe(true);
  });
});

test('a handler that throws abandons the access', () => {
  runChecked(small(), (os) => {
    os.sigaction(SIGSEGV, ({ code, addr }) => {
      throw new RangeError(`${code} at ${addr}`);
    });
    for (let i = 0; i < 3; i++) expect(() => os.mem.store8(16, 1)).toThrow(`${SEGV_MAPERR} at 16`);
    expect(() => os.mem.load8(-4096)).toThrow(`${SEGV_MAPERR} at -4096`);
    expect(() => os.mem.load8(2 ** 50)).toThrow(`${SI_KERNEL} at 0`);
  });
});

test('without a handler the program ends, the console and the log say why', () => {
  const machine = small();
  const result = machine.run((os) => os.mem.store8(0x1234, 1), { name: 'wild' });
  expect(result).toMatchObject({ status: null, signal: SIGSEGV, description: 'Segmentation fault', error: undefined });
  expect(machine.consoleText).toMatch(/^wild\[\d+\]: Segmentation fault: write to 0x1234 \(SEGV_MAPERR\)\n$/);
  expect(machine.dmesg()).toMatch(
    /\] wild\[\d+\]: segfault at 1234 ip 0000000000400000 sp 00007f\w{10} error 6 in wild\[400000\+8000\] likely on CPU \d+ \(core \d+, socket 0\)\n/,
  );
  machine.validate();
});

test('an ignored SIGSEGV that a fault raises ends the program all the same', () => {
  const result = small().run((os) => {
    os.sigaction(SIGSEGV, 'ignore');
    os.mem.load8(0);
  });
  expect(result.signal).toBe(SIGSEGV);
});

test('a fault inside the handler of the same signal ends the program', () => {
  let calls = 0;
  const result = small().run((os) => {
    os.sigaction(SIGSEGV, () => {
      calls += 1;
      os.mem.load8(4096);
    });
    os.mem.load8(0);
  });
  expect([result.signal, calls]).toEqual([SIGSEGV, 1]);
});

test('a handler that never repairs does not hang the machine', () => {
  const machine = boot({ memory: '64M', faultLimit: 1000 });
  let calls = 0;
  const result = machine.run((os) => {
    os.sigaction(SIGSEGV, () => {
      calls += 1;
    });
    os.mem.load8(0);
  });
  expect([result.signal, calls]).toEqual([SIGSEGV, 1000]);
  expect(machine.consoleText).toContain('its handler returned 1000 times without repairing 0x0');
});

test('the same address may fault as often as it is repaired', () => {
  const machine = boot({ memory: '64M', faultLimit: 10 });
  runChecked(machine, (os) => {
    const page = os.mmap(0, 4096, RW, PRIVATE_ANON);
    let faults = 0;
    os.sigaction(SIGSEGV, () => {
      faults += 1;
      os.mprotect(page, 4096, RW);
    });
    for (let i = 0; i < 50; i++) {
      os.mprotect(page, 4096, 1);
      os.mem.store8(page, i);
    }
    expect(faults).toBe(50);
  });
});

test('a child inherits the handlers, and its own faults are its own', () => {
  runChecked(small(), (os) => {
    os.sigaction(SIGSEGV, () => {
      throw new Error('caught');
    });
    const pid = os.fork((child) => {
      expect(() => child.mem.load8(0)).toThrow('caught');
      child.sigaction(SIGSEGV, 'default');
      child.mem.load8(0);
    });
    expect(os.waitpid(pid)!.signal).toBe(SIGSEGV);
    expect(() => os.mem.load8(0)).toThrow('caught');
  });
});

test('faults are counted', () => {
  runChecked(small(), (os) => {
    const area = os.mmap(0, 16 * 4096, RW, PRIVATE_ANON);
    const before = os.getrusage().minflt;
    for (let page = 0; page < 16; page++) os.mem.load8(area + page * 4096);
    expect(os.getrusage().minflt - before).toBe(16);
    for (let page = 0; page < 16; page++) os.mem.store8(area + page * 4096, 1);
    expect(os.getrusage().minflt - before).toBe(32);
    expect(os.getrusage().maxrss).toBeGreaterThanOrEqual(64);
  });
});
