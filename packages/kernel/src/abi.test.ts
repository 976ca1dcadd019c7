/**
 * The ABI face: each call with registers, as a program in C would make it.
 */
import { Errno, Syscall, TASK_SIZE } from '@pagelab/abi';
import type { Os, RegisterArg, SyscallName } from '@pagelab/abi';
import { syscallHandlers } from '@pagelab/syscalls';
import { describe, expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';
import { small } from './testing/run.ts';

const RW = 3;
const PRIVATE_ANON = 0x22;
const KERNEL_ADDRESS = -0x1000;
const { EBADF, ECHILD, EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM, ESRCH, ENOENT, EACCES, ESPIPE, EIO, EISDIR, EMFILE, ENODEV } = Errno;

interface Setup {
  readonly machine: Machine;
  readonly process: Process;
  readonly os: Os;
  /** Two pages to pass things through; nothing is mapped behind them. */
  readonly scratch: number;
  readonly call: (name: SyscallName, ...args: RegisterArg[]) => number;
}

function setup(): Setup {
  const machine = small(1);
  const process = machine.createProcess({ name: 'abi' });
  const { os } = process;
  const scratch = os.mmap(0x2000_0000, 8192, RW, PRIVATE_ANON | 0x10);
  return { machine, process, os, scratch, call: (name, ...args) => os.syscall(Syscall[name], ...args) };
}

/** Every combination of good and bad arguments leaves the machine valid, and answers with a value or an errno. */
test('no call crashes on any argument', () => {
  const { machine, call, scratch } = setup();
  const values: RegisterArg[] = [0, 1, -1, 4095, 4096, scratch, scratch + 8190, TASK_SIZE, TASK_SIZE - 1, KERNEL_ADDRESS, 2n ** 63n, 2n ** 64n - 1n, 2 ** 62];
  let seed = 12_345;
  const pick = (): RegisterArg => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return values[(seed >>> 8) % values.length]!;
  };
  const names = (Object.keys(syscallHandlers) as SyscallName[]).filter(
    (name) => !['exit', 'exit_group', 'kill', 'tkill', 'tgkill', 'munmap', 'mremap', 'brk'].includes(name),
  );
  for (const name of names) {
    for (let round = 0; round < 40; round++) {
      const args = [pick(), pick(), pick(), pick(), pick(), pick()];
      const result = call(name, ...args);
      expect(Number.isSafeInteger(result), `${name}(${args.join()}) = ${result}`).toBe(true);
    }
  }
  machine.validate();
});

describe('registers', () => {
  test('are reduced modulo 2^64', () => {
    const { call } = setup();
    expect(call('mmap', 0, 2n ** 64n + 4096n, RW, PRIVATE_ANON, -1, 0)).toBeGreaterThan(0);
    expect(call('munmap', 2n ** 64n - 4096n, 4096)).toBe(-EINVAL);
    expect(call('munmap', -4096, 4096)).toBe(-EINVAL);
    expect(call('close', 2n ** 32n + 77n)).toBe(-EBADF);
  });

  test('hold whole numbers, and nothing else', () => {
    const { os } = setup();
    expect(() => os.syscall(Syscall.munmap, 0.5, 1)).toThrow(RangeError);
    expect(() => os.syscall(Syscall.munmap, NaN, 1)).toThrow(RangeError);
    expect(() => os.syscall(Syscall.munmap, '0' as unknown as number, 1)).toThrow(TypeError);
  });

  test('a call that does not exist is ENOSYS', () => {
    const { os } = setup();
    for (const nr of [-1, 511, 512, 10_000, 2 ** 33 - 1, Syscall.fork, Syscall.execve]) expect(os.syscall(nr)).toBe(-ENOSYS);
    expect(() => os.syscall('map' as unknown as number)).toThrow(TypeError);
  });
});

describe('files', () => {
  const open = ({ os, scratch, call }: Setup, path: string, flags = 0): number => {
    os.mem.storeCString(scratch, path);
    return call('open', scratch, flags, 0);
  };

  test('are read from where they stand', () => {
    const s = setup();
    const fd = open(s, '/proc/self/status');
    expect(fd).toBe(3);
    const first = s.call('read', fd, s.scratch, 10);
    expect([first, s.os.mem.loadCString(s.scratch, 10)]).toEqual([10, 'Name:\tabi\n']);
    expect(s.call('read', fd, s.scratch, 5)).toBe(5);
    expect(s.os.mem.loadCString(s.scratch, 5)).toBe('Umask');
    expect(s.call('pread64', fd, s.scratch, 4, 0)).toBe(4);
    expect(s.call('lseek', fd, -1, 0)).toBe(-EINVAL);
    expect(s.call('lseek', fd, 6, 0)).toBe(6);
    expect(s.call('read', fd, s.scratch, 3)).toBe(3);
    expect(s.os.mem.loadCString(s.scratch, 3)).toBe('abi');
    expect(s.call('close', fd)).toBe(0);
    expect(s.call('close', fd)).toBe(-EBADF);
    expect(s.call('read', fd, s.scratch, 1)).toBe(-EBADF);
  });

  test('refuse what Linux refuses', () => {
    const s = setup();
    expect(open(s, '/nowhere')).toBe(-ENOENT);
    expect(open(s, '')).toBe(-ENOENT);
    expect(open(s, '/proc', 1)).toBe(-EISDIR);
    expect(s.call('open', KERNEL_ADDRESS, 0, 0)).toBe(-EFAULT);
    expect(s.call('open', s.scratch + 8192, 0, 0)).toBe(-EFAULT);
    const fd = open(s, '/proc/meminfo');
    expect(s.call('write', fd, s.scratch, 1)).toBe(-EBADF);
    expect(s.call('read', fd, s.scratch, -1)).toBe(-EFAULT);
    expect(s.call('read', fd, KERNEL_ADDRESS, 1)).toBe(-EFAULT);
    expect(s.call('read', fd, s.scratch + 8192, 1)).toBe(-EFAULT);
    expect(s.call('read', fd, s.scratch + 8190, 100)).toBe(2);
    expect(s.call('lseek', fd, 0, 2)).toBe(-EINVAL);
    expect(s.call('pread64', fd, s.scratch, 1, -1)).toBe(-EINVAL);
    expect(s.call('mmap', 0, 4096, 1, 2, fd, 0)).toBe(-EIO);
    expect(s.call('mmap', 0, 4096, 2, 1, fd, 0)).toBe(-EACCES);
    expect(s.call('mmap', 0, 0, 1, 2, fd, 0)).toBe(-EINVAL);
    expect(s.call('mmap', 0, 4096, 1, 2, open(s, '/proc/self/status'), 0)).toBe(-ENODEV);
    expect(s.call('write', open(s, '/proc/meminfo', 2), s.scratch, 0)).toBe(-EIO);
    expect(s.call('mmap', 0, 4096, 1, 2, 99, 0)).toBe(-EBADF);
    expect(s.call('lseek', 1, 0, 0)).toBe(-ESPIPE);
  });

  test('the console takes what is written to descriptors 1 and 2', () => {
    const s = setup();
    s.os.mem.storeCString(s.scratch, 'héllo\nthere');
    expect(s.call('write', 1, s.scratch, 12)).toBe(12);
    expect(s.machine.consoleText).toBe('héllo\nthere');
    expect(s.call('dup', 1)).toBe(3);
    expect(s.call('write', 3, s.scratch, 0)).toBe(0);
  });

  test('descriptors have a limit, and fork copies them', () => {
    const s = setup();
    s.os.setrlimit(7, { cur: 5 });
    expect([open(s, '/proc/stat'), open(s, '/proc/stat'), open(s, '/proc/stat')]).toEqual([3, 4, -EMFILE]);
    const child = s.process.fork() as Process;
    expect(child.os.syscall(Syscall.close, 3)).toBe(0);
    expect(s.call('read', 3, s.scratch, 1)).toBe(1);
    s.machine.validate();
  });

  test('a sysctl can be written, by the privileged as the rights of the file allow', () => {
    const s = setup();
    s.os.writeFile('/proc/sys/vm/max_map_count', '1000\n');
    expect(s.os.readFile('/proc/sys/vm/max_map_count')).toBe('1000\n');
    expect(() => s.os.writeFile('/proc/sys/vm/overcommit_memory', '3')).toThrow('EINVAL');
    expect(() => s.os.writeFile('/proc/sys/vm/overcommit_memory', 'x')).toThrow('EINVAL');
    s.os.writeFile('/proc/sys/vm/overcommit_kbytes', '5000');
    expect(s.os.readFile('/proc/sys/vm/overcommit_ratio')).toBe('0\n');
    expect(() => s.os.writeFile('/proc/meminfo', 'x')).toThrow('EIO');
    const fd = open(s, '/proc/sys/vm/max_map_count', 1);
    const write = (text: string): number => s.call('write', fd, s.scratch, s.os.mem.storeCString(s.scratch, text) - 1);
    expect([write(''), write('x'), write('\n'), write('2000 5'), write('x')]).toEqual([0, -EINVAL, -EINVAL, 5, 1]);
    expect(s.os.readFile('/proc/sys/vm/max_map_count')).toBe('2000\n');
    dropCapabilities(s);
    expect(open(s, '/proc/meminfo', 1)).toBe(-EACCES);
    expect(() => s.os.writeFile('/proc/sys/vm/mmap_min_addr', '0')).toThrow('EPERM');
  });
});

function dropCapabilities({ os, scratch, call }: Setup): void {
  os.mem.fill(scratch, 64, 0);
  os.mem.store32(scratch, 0x2008_0522);
  expect(call('capset', scratch, scratch + 8)).toBe(0);
}

describe('capabilities', () => {
  test('can be given up and not be had back', () => {
    const s = setup();
    expect(s.os.readFile('/proc/self/status')).toContain('CapEff:\t000001ffffffffff\n');
    dropCapabilities(s);
    expect(s.os.readFile('/proc/self/status')).toContain('CapEff:\t0000000000000000\n');
    s.os.mem.store32(s.scratch + 12, 1 << 14);
    expect(s.call('capset', s.scratch, s.scratch + 8)).toBe(-EPERM);
    expect(s.call('capget', s.scratch, s.scratch + 8)).toBe(0);
    expect(s.os.mem.load32(s.scratch + 12)).toBe(0);
  });

  test('know their version and their memory', () => {
    const s = setup();
    s.os.mem.store32(s.scratch, 7);
    expect(s.call('capset', s.scratch, s.scratch + 8)).toBe(-EINVAL);
    expect(s.os.mem.load32(s.scratch)).toBe(0x2008_0522);
    expect(s.call('capset', KERNEL_ADDRESS, s.scratch)).toBe(-EFAULT);
    s.os.mem.store32(s.scratch + 4, 1);
    expect(s.call('capset', s.scratch, s.scratch + 8)).toBe(-EPERM);
  });
});

test('clear_refs forgets what was used', () => {
  const { os, process, machine } = setup();
  const area = os.mmap(0x3000_0000, 8 * 4096, RW, PRIVATE_ANON | 0x10);
  const referenced = (): string => {
    const text = machine.readFile(`/proc/${process.pid}/smaps`);
    return /Referenced: +(\d+)/.exec(text.slice(text.indexOf('30000000-')))![1]!;
  };
  os.mem.fill(area, 8 * 4096, 1);
  expect(referenced()).toBe('32');
  os.writeFile('/proc/self/clear_refs', ' 1\n');
  expect(referenced()).toBe('0');
  for (const text of ['0', '6', '-1', 'x', '']) expect(() => os.writeFile('/proc/self/clear_refs', text)).toThrow('EINVAL');
});

describe('limits', () => {
  test('are read and set', () => {
    const { os, scratch, call } = setup();
    expect(call('getrlimit', 3, scratch)).toBe(0);
    expect([os.mem.load64(scratch), os.mem.load64(scratch + 8)]).toEqual([8n << 20n, 2n ** 64n - 1n]);
    expect(call('getrlimit', 16, scratch)).toBe(-EINVAL);
    expect(call('getrlimit', 3, KERNEL_ADDRESS)).toBe(-EFAULT);
    os.mem.store64(scratch, 100n);
    os.mem.store64(scratch + 8, 50n);
    expect(call('setrlimit', 9, scratch)).toBe(-EINVAL);
    os.mem.store64(scratch + 8, 2n ** 64n - 1n);
    expect(call('prlimit64', 0, 9, scratch, scratch + 32)).toBe(0);
    expect(os.mem.load64(scratch + 32)).toBe(2n ** 64n - 1n);
    expect(os.getrlimit(9)).toEqual({ cur: 100, max: -1 });
    expect(call('prlimit64', 5000, 9, 0, scratch)).toBe(-ESRCH);
  });

  test('the hard one is for the privileged to raise', () => {
    const s = setup();
    s.os.setrlimit(8, { cur: 4096, max: 8192 });
    s.os.setrlimit(8, { max: 16_384 });
    dropCapabilities(s);
    expect(() => s.os.setrlimit(8, { max: 32_768 })).toThrow('EPERM');
    s.os.setrlimit(8, { cur: 16_384 });
    expect(s.os.getrlimit(8)).toEqual({ cur: 16_384, max: 16_384 });
  });
});

describe('wait4 and getrusage', () => {
  test('store what they found', () => {
    const s = setup();
    const child = s.process.fork() as Process;
    expect(s.call('wait4', -1, 0, 1, 0)).toBe(0);
    expect(s.call('wait4', -1, 0, 0x100, 0)).toBe(-EINVAL);
    expect(s.call('wait4', child.pid + 1, 0, 1, 0)).toBe(-ECHILD);
    child.os.mem.fill(child.os.mmap(0, 40_960, RW, PRIVATE_ANON), 40_960, 1);
    child.exit(300);
    expect(s.call('wait4', child.pid, s.scratch, 0, s.scratch + 64)).toBe(child.pid);
    expect(s.os.mem.load32(s.scratch)).toBe(44 << 8);
    // ru_maxrss and ru_minflt
    expect(s.os.mem.loadAddress(s.scratch + 64 + 32)).toBeGreaterThanOrEqual(40);
    expect(s.os.mem.loadAddress(s.scratch + 64 + 64)).toBeGreaterThanOrEqual(10);
    expect(s.os.getrusage(-1).minflt).toBeGreaterThanOrEqual(10);
    expect(s.call('wait4', -1, 0, 1, 0)).toBe(-ECHILD);
    expect(s.call('getrusage', 5, s.scratch)).toBe(-EINVAL);
    expect(s.call('getrusage', 0, KERNEL_ADDRESS)).toBe(-EFAULT);
    expect(s.call('getrusage', 0, s.scratch)).toBe(0);
  });

  test('a bad address for the status loses it, and reaps the child all the same', () => {
    const s = setup();
    const child = s.process.fork() as Process;
    child.exit(0);
    expect(s.call('wait4', child.pid, 8, 0, 0)).toBe(-EFAULT);
    expect(s.call('wait4', child.pid, 0, 0, 0)).toBe(-ECHILD);
  });
});

test('mincore tells as far as it can, then says why not further', () => {
  const { os, scratch, call } = setup();
  const area = os.mmap(0x3000_0000, 3 * 4096, RW, PRIVATE_ANON | 0x10);
  os.mem.store8(area + 4096, 1);
  os.mem.fill(scratch, 8, 0xaa);
  expect(call('mincore', area, 4 * 4096, scratch)).toBe(-ENOMEM);
  expect([...os.mem.read(scratch, 4)]).toEqual([0, 1, 0, 0xaa]);
  expect(call('mincore', area + 1, 4096, scratch)).toBe(-EINVAL);
  expect(call('mincore', area, 4096, KERNEL_ADDRESS)).toBe(-EFAULT);
  expect(call('mincore', KERNEL_ADDRESS, 4096, scratch)).toBe(-ENOMEM);
  expect([...os.mincore(area, 8193)]).toEqual([0, 1, 0]);
});

describe('process_vm_readv and process_vm_writev', () => {
  const iovec = (os: Os, at: number, ...ranges: [number, number][]): number => {
    ranges.forEach(([base, length], i) => {
      os.mem.storeAddress(at + i * 16, base);
      os.mem.storeAddress(at + i * 16 + 8, length);
    });
    return at;
  };

  test('copy between processes, over page and range boundaries', () => {
    const { process, os, scratch, call } = setup();
    const child = process.fork() as Process;
    const there = child.os.mmap(0x4000_0000, 2 * 4096, RW, PRIVATE_ANON | 0x10);
    for (let i = 0; i < 200; i++) child.os.mem.store8(there + 4000 + i, i);
    const local = iovec(os, scratch, [scratch + 1000, 50], [scratch + 2000, 100]);
    const remote = iovec(os, scratch + 256, [there + 4000, 120], [there + 4150, 30]);
    expect(call('process_vm_readv', child.pid, local, 2, remote, 2, 0)).toBe(150);
    expect(os.mem.load8(scratch + 1049)).toBe(49);
    expect(os.mem.load8(scratch + 2000)).toBe(50);
    expect(os.mem.load8(scratch + 2070)).toBe(150);
    os.mem.fill(scratch + 1000, 50, 0xee);
    expect(call('process_vm_writev', child.pid, local, 1, remote, 1, 0)).toBe(50);
    expect(child.os.mem.load8(there + 4049)).toBe(0xee);
  });

  test('stop at what is out of reach, and check in order', () => {
    const { process, os, scratch, call } = setup();
    const child = process.fork() as Process;
    const there = child.os.mmap(0x4000_0000, 4096, RW, PRIVATE_ANON | 0x10);
    const local = iovec(os, scratch, [scratch + 4096, 4096]);
    const remote = iovec(os, scratch + 256, [there + 4000, 4096]);
    expect(call('process_vm_readv', child.pid, local, 1, remote, 1, 0)).toBe(96);
    expect(call('process_vm_readv', child.pid, local, 1, iovec(os, scratch + 256, [there - 4096, 8]), 1, 0)).toBe(-EFAULT);
    expect(call('process_vm_readv', child.pid, local, 1, remote, 1, 1)).toBe(-EINVAL);
    expect(call('process_vm_readv', child.pid, local, 1025, remote, 1, 0)).toBe(-EINVAL);
    expect(call('process_vm_readv', child.pid, 8, 1, remote, 1, 0)).toBe(-EFAULT);
    expect(call('process_vm_readv', 4999, local, 0, remote, 1, 0)).toBe(0);
    expect(call('process_vm_readv', 4999, local, 1, remote, 1, 0)).toBe(-ESRCH);
    child.exit(0);
    expect(call('process_vm_readv', child.pid, local, 1, remote, 1, 0)).toBe(-ESRCH);
  });
});

test('rt_sigaction sets default and ignore, and knows of handlers', () => {
  const { os, scratch, call } = setup();
  os.mem.fill(scratch, 64, 0);
  os.mem.store8(scratch, 1);
  expect(call('rt_sigaction', 15, scratch, scratch + 32, 8)).toBe(0);
  expect(os.mem.load64(scratch + 32)).toBe(0n);
  expect(call('rt_sigaction', 15, 0, scratch + 32, 8)).toBe(0);
  expect(os.mem.load64(scratch + 32)).toBe(1n);
  expect(call('rt_sigaction', 9, scratch, 0, 8)).toBe(-EINVAL);
  expect(call('rt_sigaction', 65, 0, 0, 8)).toBe(-EINVAL);
  expect(call('rt_sigaction', 15, 0, 0, 4)).toBe(-EINVAL);
  os.mem.storeAddress(scratch, 0x401000);
  expect(call('rt_sigaction', 15, scratch, 0, 8)).toBe(-ENOSYS);
  os.sigaction(10, () => {});
  expect(call('rt_sigaction', 10, 0, scratch, 8)).toBe(0);
  expect(os.mem.load64(scratch)).toBe(2n);
});

test('huge pages of a size there is are out of stock', () => {
  const { call } = setup();
  const hugetlb = (log: number, length: number): number => call('mmap', 0, length, RW, PRIVATE_ANON | 0x4_0000 | (log << 26), -1, 0);
  expect([hugetlb(0, 4096), hugetlb(21, 4096), hugetlb(7, 4096), hugetlb(0, 0)]).toEqual([-ENOMEM, -ENOMEM, -EINVAL, -EINVAL]);
  expect(call('mmap', 0, 4096, RW, 0x4_0002, 1, 0)).toBe(-EINVAL);
});

test('bits that no flag has are refused where Linux looks at them', () => {
  const { call, scratch } = setup();
  const high = 2 ** 40;
  expect(call('mprotect', scratch, 4096, high)).toBe(-EINVAL);
  expect(call('mremap', scratch, 4096, 4096, high, 0)).toBe(-EINVAL);
  expect(call('madvise', scratch, 4096, high + 4)).toBe(0);
  expect(call('mmap', 0, 4096, high + RW, PRIVATE_ANON, -1, 0)).toBeGreaterThan(0);
  expect(call('mmap', 0, 4096, RW, high + PRIVATE_ANON, -1, 0)).toBeGreaterThan(0);
  expect([call('mlockall', 0), call('mlockall', 4), call('mlockall', 8), call('mlock2', scratch + 1, 4096, 2)]).toEqual(Array(4).fill(-EINVAL));
  expect([call('mmap', 0, 4096, RW, PRIVATE_ANON, -1, 1), call('mmap', 0, 4096, RW, PRIVATE_ANON, -1, -1)]).toEqual([-EINVAL, -EINVAL]);
  expect(call('mmap', 0, 4096, RW, PRIVATE_ANON, -1, -4096)).toBeGreaterThan(0);
});

test('time is virtual, and passes', () => {
  const { os, scratch, call } = setup();
  const now = (): number => {
    expect(call('clock_gettime', 1, scratch)).toBe(0);
    return os.mem.loadAddress(scratch) * 1e9 + os.mem.loadAddress(scratch + 8);
  };
  const before = now();
  expect(now()).toBeGreaterThan(before);
  expect(call('clock_gettime', 77, scratch)).toBe(-EINVAL);
  expect(call('clock_gettime', 0, KERNEL_ADDRESS)).toBe(-EFAULT);
  expect(call('sysinfo', scratch)).toBe(0);
  expect(os.mem.loadAddress(scratch + 32)).toBeGreaterThan(2 ** 20);
});

test('the calls of the client throw what the ABI returns', () => {
  const machine = boot({ memory: '64M' });
  const { os } = machine.createProcess();
  try {
    os.mmap(0, 0, RW, PRIVATE_ANON);
    expect.unreachable();
  } catch (error) {
    expect(error).toMatchObject({ name: 'SyscallError', code: 'EINVAL', errno: EINVAL, syscall: 'mmap', message: 'EINVAL: mmap' });
  }
  expect(() => os.readFile('/nowhere')).toThrow("ENOENT: read '/nowhere'");
  expect(() => os.readFileBytes('/proc/self/mem', 0, 8)).toThrow('EIO');
});

test.each([['6.18', 'x86-64', 0], ['6.12', 'x86-64', 0], ['6.1', 'x86-64', -ENOSYS], ['6.18', 'x86-pae', -ENOSYS]] as const)(
  'mseal came with 6.10 and 64 bits: %s on %s', (release, arch, expected) => {
    const { os } = boot({ memory: '64M', kernel: release, arch }).createProcess();
    const page = os.mmap(0, 4096, 3, 0x22);
    expect(os.syscall(Syscall.mseal, page, 4096, 0)).toBe(expected);
  },
);
