/**
 * Waiting, yielding and running out: what the scheduler does when programs hold each other up.
 */
import { Syscall, SyscallError, WNOHANG } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import { boot, bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { startProcess } from './exec.ts';
import { schedule } from './scheduler.ts';
import type { Task } from './task.ts';
import { runChecked, small } from './testing/run.ts';

const SHARED_ANON = 0x21;

describe('waiting', () => {
  test('a plain function waits while generators take turns', () => {
    const machine = small(2);
    let turns = 0;
    runChecked(machine, (os) => {
      const children = Array.from({ length: 4 }, (_, i) =>
        os.fork(function* () {
          for (let turn = 0; turn < 10; turn++) {
            turns += 1;
            yield;
          }
          return i;
        }),
      );
      expect(children.map((pid) => os.waitpid(pid)!.status)).toEqual([0, 1, 2, 3]);
    });
    expect(turns).toBe(40);
  });

  test('others run when the children alone do not get on', () => {
    const machine = small(2);
    runChecked(machine, (os) => {
      const cell = os.mmap(0, 4096, 3, SHARED_ANON);
      // The grandchild, orphaned, is no descendant of whoever waits, and yet the one that is waited for depends on it.
      os.waitpid(
        os.fork((middle) => {
          middle.fork(function* (orphan) {
            for (let i = 0; i < 50; i++) yield;
            orphan.mem.store8(cell, 1);
          });
        }),
      );
      const waiting = os.fork(function* (child) {
        while (child.mem.load8(cell) === 0) yield;
        return 7;
      });
      expect(os.waitpid(waiting)!.status).toBe(7);
    });
  });

  test('for what is suspended below is an error, not a hang', () => {
    const machine = small(1);
    const result = machine.run((os) => {
      const other = os.fork(function* (middle) {
        yield;
        middle.waitpid(-1);
      });
      os.waitpid(other);
      return 0;
    });
    expect(result.status).toBe(0);
    expect(machine.consoleText).toContain('ECHILD');
  });

  test('for a process driven from outside is an error, not a hang', () => {
    const machine = small(1);
    const parent = machine.createProcess();
    parent.fork();
    expect(() => parent.os.waitpid(-1)).toThrow('driven from outside');
    expect(parent.os.waitpid(-1, WNOHANG)).toBeNull();
    machine.validate();
  });

  test('sched_yield in vain is told so', () => {
    const machine = small(1);
    const result = machine.run((os) => {
      for (;;) os.syscall(Syscall.sched_yield);
    });
    expect(result.status).toBe(1);
    expect(machine.consoleText).toContain('sched_yield for ever');
  });
});

test('the trace tells of calls, switches, forks, exits and signals', () => {
  const machine = small(1);
  const events = ['sys_enter', 'sys_exit', 'sched_switch', 'sched_process_fork', 'sched_process_exit', 'signal_generate', 'signal_deliver'];
  for (const name of events) expect(machine.trace.enable(name), name).toBe(true);
  runChecked(machine, (os) => {
    os.sigaction(10, () => {});
    os.kill(os.getpid(), 10);
    os.waitpid(os.fork(() => 3));
  });
  const records = [...machine.trace];
  expect([...new Set(records.map((record) => record.name))].sort()).toEqual([...events].sort());
  const call = records.findIndex((record) => record.name === 'sys_enter' && record.fields['id'] === Syscall.kill);
  expect(records[call]!.fields).toMatchObject({ arg1: 10 });
  expect(records[call + 1]).toMatchObject({ name: 'signal_generate', fields: { sig: 10 } });
  expect(records[call + 2]).toMatchObject({ name: 'sys_exit', fields: { id: Syscall.kill, ret: 0 } });
});

describe('the host', () => {
  test('a program that calls itself without end ends with an error; the machine goes on', () => {
    const machine = small(1);
    const endless = (n: number): number => endless(n + 1) + 1;
    const result = machine.run(() => endless(0));
    expect(result).toMatchObject({ status: 1, error: expect.any(RangeError) as RangeError });
    expect(machine.consoleText).toContain('uncaught RangeError: Maximum call stack');
    expect(machine.run(() => 3).status).toBe(3);
  });

  test('a bug of the emulator stops the machine, whatever the program does about it', () => {
    const kernel = bootKernel(parseMachineConfig({ memory: '64M' }));
    const task = startProcess(
      kernel,
      (os) => {
        const page = os.mmap(0, 4096, 3, 0x22);
        kernel.pages.allocPage = () => {
          throw new KernelBug('out of order');
        };
        try {
          os.mem.store8(page, 1);
        } catch {
          return 0;
        }
        return 1;
      },
      {},
    ) as Task;
    kernel.scheduler.enqueue(task);
    expect(() => schedule(kernel)).toThrow('out of order');
    expect(() => task.os.getpid()).toThrow(KernelBug);
    expect(task.isDead).toBe(false);
  });

  test('each task is placed on a CPU, and its handle tells which', () => {
    const machine = boot({ memory: '64M', cpus: 8, seed: 3 });
    const seen = new Set<number>();
    for (let i = 0; i < 40; i++) {
      machine.spawn((os) => {
        const at = os.sbrk(4096);
        expect(os.syscall(Syscall.getcpu, at, 0, 0)).toBe(0);
        seen.add(os.mem.load32(at));
      });
    }
    machine.schedule();
    expect(seen.size).toBeGreaterThan(4);
    expect(Math.max(...seen)).toBeLessThan(8);
    machine.validate();
  });
});

test('/proc/interrupts tells which CPUs were interrupted for their TLBs: none that a task has left', () => {
  const machine = boot({ memory: '64M', cpus: 4 });
  const received = (): number[] => /^TLB: (.*) {3}TLB shootdowns$/m.exec(machine.readFile('/proc/interrupts'))![1]!.trim().split(/ +/).map(Number);
  const process = machine.createProcess();
  const thread = process.thread();
  if (typeof thread === 'number') throw new SyscallError('clone', thread);
  const pin = (os: Os, cpu: number): void => {
    os.mem.store64(os.stackPointer() - 64, 1n << BigInt(cpu));
    expect(os.syscall(Syscall.sched_setaffinity, 0, 8, os.stackPointer() - 64)).toBe(0);
  };
  const touchedPage = (os: Os): number => {
    const page = os.mmap(0, 4096, 3, 0x22);
    os.mem.store8(page, 1);
    return page;
  };
  pin(process.os, 1);
  pin(thread.os, 2);
  thread.os.mem.load8(touchedPage(process.os));
  const before = received();
  // The thread has its CPU no more: it is idle, and looks for what it missed when it returns.
  process.os.munmap(touchedPage(process.os), 4096);
  expect(received()).toEqual(before);
  pin(process.os, 3);
  process.os.munmap(touchedPage(process.os), 4096);
  expect(received()).toEqual(before);
  expect(machine.readFile('/proc/interrupts')).toMatch(/^ {11}CPU0 {7}CPU1 {7}CPU2 {7}CPU3 {7}\nTLB: {10}0/);
});
