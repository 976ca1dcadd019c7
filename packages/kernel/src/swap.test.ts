import { Errno, MAP_ANONYMOUS, MAP_PRIVATE, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os, Program } from '@pagelab/abi';
import { writeSwapHeader } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import { createMachine } from './machine.ts';
import { inUse, runChecked } from './testing/run.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS;

function bench(config: object = {}) {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M', cpus: 1, seed: 1, ...config }));
  return { kernel, machine: createMachine(kernel) };
}

function path(os: Os, name: string): number {
  const at = os.mmap(0, PAGE, PROT_READ | PROT_WRITE, PRIVATE);
  os.mem.storeCString(at, name);
  return at;
}

test('programs that want more than there is run on, and read back what they stored', () => {
  const { kernel, machine } = bench({ swap: [{ size: '64M' }] });
  const before = inUse(machine);
  const program: Program = (os) => {
    const nrPages = (40 * MIB) / PAGE;
    const at = os.mmap(0, nrPages * PAGE, PROT_READ | PROT_WRITE, PRIVATE);
    for (let i = 0; i < nrPages; i++) os.mem.store32(at + i * PAGE, i + 1);
    const child = os.fork((each) => {
      let wrong = 0;
      for (let i = 0; i < nrPages; i++) if (each.mem.load32(at + i * PAGE) !== i + 1) wrong++;
      for (let i = 0; i < nrPages; i += 2) each.mem.store32(at + i * PAGE, 0);
      return wrong === 0 ? 0 : 1;
    });
    const { status } = os.waitpid(child) as { status: number };
    for (let i = 0; i < nrPages; i++) if (os.mem.load32(at + i * PAGE) !== i + 1) return 2;
    return status;
  };
  expect(runChecked(machine, program).status).toBe(0);
  expect(machine.readFile('/proc/vmstat')).toMatch(/pswpout [1-9]/);
  expect(kernel.vm.swap.nrFree).toBe(kernel.vm.totalSwapPages);
  expect(inUse(machine)).toEqual(before);
});

test('a file is taken into use, and out of it again', () => {
  const { kernel, machine } = bench();
  const program: Program = (os) => {
    const name = path(os, '/swapfile');
    const fd = os.syscall(Syscall.open, name, O_RDWR | O_CREAT, 0o600);
    const results: unknown[] = [];
    os.syscall(Syscall.ftruncate, fd, 4 * MIB);
    results.push(os.syscall(Syscall.swapon, name, 0));
    const buffer = os.mmap(0, 4 * MIB, PROT_READ | PROT_WRITE, PRIVATE);
    results.push(os.syscall(Syscall.swapon, path(os, '/none'), 0));
    const header = new Uint8Array(PAGE);
    writeSwapHeader(header, 1024);
    os.mem.write(buffer, header);
    os.syscall(Syscall.write, fd, buffer, 4 * MIB);
    results.push(os.syscall(Syscall.swapon, name, 1 << 30));
    os.syscall(Syscall.swapon, name, 0x8000 | 7);
    results.push(os.syscall(Syscall.swapon, name, 0));
    results.push(os.syscall(Syscall.ftruncate, fd, 0));
    for (let i = 1; i < 256; i++) os.mem.store32(buffer + i * PAGE, i);
    os.madvise(buffer, MIB, 21);
    expect(machine.readFile('/proc/swaps').split('\n')[1]).toBe('/swapfile                               file\t\t4092\t\t1024\t\t7');
    expect(machine.readFile('/proc/meminfo')).toMatch(/SwapTotal: +4092 kB/);
    os.syscall(Syscall.swapoff, name);
    results.push(os.syscall(Syscall.swapoff, name));
    expect(os.mem.load32(buffer + 4086)).toBe(0x5041_5753);
    expect(results).toEqual([-Errno.EINVAL, -Errno.ENOENT, -Errno.EINVAL, -Errno.EBUSY, -Errno.ETXTBSY, -Errno.EINVAL]);
    return 0;
  };
  expect(runChecked(machine, program).status).toBe(0);
  expect(kernel.vm.totalSwapPages).toBe(0);
});

test('6.1 writes pages of zeros, later kernels remember that they are', () => {
  for (const [kernel, expected] of [['6.1', 8], ['6.12', 0], ['6.18', 0]] as const) {
    const { machine } = bench({ kernel, swap: [{ size: '64M' }] });
    const { os } = machine.createProcess();
    const at = os.mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, PRIVATE);
    os.mem.fill(at, 8 * PAGE, 0);
    os.madvise(at, 8 * PAGE, 21);
    const vmstat = machine.readFile('/proc/vmstat');
    expect(Number(/^pswpout (\d+)/m.exec(vmstat)![1])).toBe(expected);
    expect(/^swpout_zero 8$/m.test(vmstat)).toBe(expected === 0);
    expect(os.mem.load32(at)).toBe(0);
    machine.validate();
  }
});

// Seen on Linux 6.18: 30 MiB in a group of 10 MiB. There, swapoff fails while the program is on its way out; here it has gone at once.
test('where swap is taken from a group that has more there than it may have in memory, its program goes', () => {
  const { machine } = bench({ memory: '128M', swap: [{ size: '128M' }] });
  const result = machine.run((os) => {
    os.writeFile('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
    os.mkdir('/sys/fs/cgroup/small');
    os.writeFile('/sys/fs/cgroup/small/memory.max', '10M');
    return 0;
  });
  expect(result.status).toBe(0);
  const member = machine.createProcess({ name: 'member' });
  member.os.writeFile('/sys/fs/cgroup/small/cgroup.procs', '0');
  const addr = member.os.mmap(0, 7500 * PAGE, PROT_READ | PROT_WRITE, PRIVATE);
  for (let page = 0; page < 7500; page++) member.os.mem.store32(addr + page * PAGE, page + 1);
  const { os } = machine.createProcess({ name: 'admin' });
  expect(Number(os.readFile('/sys/fs/cgroup/small/memory.swap.current'))).toBeGreaterThan(15 * MIB);
  const name = os.mmap(0, PAGE, PROT_READ | PROT_WRITE, PRIVATE);
  os.mem.storeCString(name, '/dev/vdb');
  const off = os.syscall(Syscall.swapoff, name);
  expect(off).toBe(0);
  expect(os.readFile('/sys/fs/cgroup/small/memory.events')).toMatch(/\noom 1\noom_kill 1\n/);
  expect(machine.dmesg()).toMatch(/Memory cgroup out of memory: Killed process \d+ \(member\)/);
  machine.validate();
});
