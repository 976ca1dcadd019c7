import { describe, expect, it } from 'vitest';
import { parseStraceLine, splitArguments } from './strace-line.ts';
import { descriptor, fieldOf, numberValue, stringValue } from './strace-values.ts';

describe('a line of strace', () => {
  it.each([
    ['17857 brk(NULL)                         = 0x55dadaaf6000', { kind: 'call', task: 17857, name: 'brk', args: 'NULL', result: { value: 0x55dadaaf6000n, errno: null } }],
    ['brk(NULL) = 0x1000', { kind: 'call', task: 0, name: 'brk', args: 'NULL', result: { value: 0x1000n, errno: null } }],
    ['[pid   12] 10:33:01.123456 munmap(0x1000, 4096) = 0 <0.000012>', { kind: 'call', task: 12, name: 'munmap', args: '0x1000, 4096', result: { value: 0n, errno: null } }],
    ['12 1700000000.5 exit_group(0)         = ?', { kind: 'call', task: 12, name: 'exit_group', args: '0', result: { value: null, errno: null } }],
    ['7 wait4(-1, 0x7ffc, WNOHANG, NULL) = -1 ECHILD (No child processes)', { kind: 'call', task: 7, name: 'wait4', args: '-1, 0x7ffc, WNOHANG, NULL', result: { value: null, errno: 'ECHILD' } }],
    ['7 pause() = ? ERESTARTNOHAND (To be restarted if no handler)', { kind: 'call', task: 7, name: 'pause', args: '', result: { value: null, errno: null } }],
    ['8 clone(child_stack=NULL, flags=CLONE_VM|SIGCHLD <unfinished ...>', { kind: 'unfinished', task: 8, name: 'clone', args: 'child_stack=NULL, flags=CLONE_VM|SIGCHLD' }],
    ['8 wait4(-1,  <unfinished ...>', { kind: 'unfinished', task: 8, name: 'wait4', args: '-1' }],
    ['8 exit(0 <unfinished ...>) = ?', { kind: 'unfinished', task: 8, name: 'exit', args: '0' }],
    ['8 <... clone resumed>, child_tidptr=0x7f0e7b8e8a10) = 17860', { kind: 'resumed', task: 8, name: 'clone', args: 'child_tidptr=0x7f0e7b8e8a10', result: { value: 17860n, errno: null } }],
    ['8 <... exit resumed>)               = ?', { kind: 'resumed', task: 8, name: 'exit', args: '', result: { value: null, errno: null } }],
    ['8 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---', { kind: 'signal', task: 8, signal: 'SIGCHLD' }],
    ['8 +++ exited with 3 +++', { kind: 'exited', task: 8, status: 3 }],
    ['8 +++ killed by SIGSEGV (core dumped) +++', { kind: 'killed', task: 8, signal: 'SIGSEGV' }],
  ])('%s', (line, expected) => {
    expect(parseStraceLine(line)).toEqual(expected);
  });

  it('is told from what is none', () => {
    for (const line of ['strace: Process 12 attached', 'hello', '12 brk(NULL', '12 brk() = x']) expect(parseStraceLine(line)).toBeNull();
  });

  it('has its arguments apart', () => {
    expect(splitArguments('"/bin/sh", ["sh", "-c", "a, \\"b\\")"...], 0x7ff /* 2 vars, of which */, {a=[1,2], b=3}')).toEqual([
      '"/bin/sh"', '["sh", "-c", "a, \\"b\\")"...]', '0x7ff /* 2 vars, of which */', '{a=[1,2], b=3}',
    ]);
    expect(splitArguments('')).toEqual([]);
  });

  it('has numbers, flags, descriptors, fields and strings', () => {
    expect(['NULL', '0x10', '-1', '0644', 'PROT_READ|PROT_WRITE', 'MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT', 'MAP_SHARED|0x800 /* MAP_??? */', 'PROT_NEVER'].map(numberValue))
      .toEqual([0n, 16n, -1n, 0o644n, 3n, 0x54040022n, 0x801n, null]);
    expect([descriptor('3'), descriptor('3</lib/libc.so.6>'), descriptor('x')]).toEqual([{ fd: 3, path: null }, { fd: 3, path: '/lib/libc.so.6' }, null]);
    expect([fieldOf('{flags=CLONE_VM|CLONE_FS, stack=0x1}', 'flags'), fieldOf('child_stack=NULL, flags=SIGCHLD', 'flags'), fieldOf('x', 'flags')]).toEqual(['CLONE_VM|CLONE_FS', 'SIGCHLD', null]);
    expect(stringValue('"/usr/bin/sh"')).toBe('/usr/bin/sh');
  });
});
