/** The pool of huge pages: what each step gave and left in the pool, as Linux 6.18 showed it. */
import {
  FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, IPC_CREAT, IPC_PRIVATE, IPC_RMID, MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_COLD, MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB,
  MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MFD_HUGETLB, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE, SHM_HUGETLB, SIGBUS, SIGSEGV, Syscall, errnoName, isError, signalName,
} from '@pagelab/abi';
import type { SyscallName } from '@pagelab/abi';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';
import type { Machine, Process } from './machine.ts';

const H = 2 ** 21;
const RW = PROT_READ | PROT_WRITE;

class Abandoned {
  readonly signal: number;
  constructor(signal: number) {
    this.signal = signal;
  }
}

class Tester {
  readonly machine: Machine;
  readonly process: Process;

  constructor(machine: Machine, process: Process) {
    this.machine = machine;
    this.process = process;
    for (const signal of [SIGBUS, SIGSEGV]) {
      process.os.sigaction(signal, () => {
        // eslint-disable-next-line @typescript-eslint/only-throw-error -- a jump, not a failure
        throw new Abandoned(signal);
      });
    }
  }

  /** Total, free, promised and surplus pages. */
  pool(): string {
    const meminfo = this.machine.readFile('/proc/meminfo');
    return ['Total', 'Free', 'Rsvd', 'Surp'].map((name) => new RegExp(`HugePages_${name}: +(\\d+)`).exec(meminfo)![1]).join(' ');
  }

  call(name: SyscallName, ...args: number[]): string | number {
    const result = this.process.os.syscall(Syscall[name], ...args);
    return isError(result) ? errnoName(result) : result;
  }

  map(pages: number, flags = 0): number {
    return this.call('mmap', 0, pages * H, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0) as number;
  }

  load(address: number): number | string {
    return this.access(() => this.process.os.mem.load8(address));
  }

  store(address: number, value = 1): string {
    return String(this.access(() => {
      this.process.os.mem.store8(address, value);
      return 'ok';
    }));
  }

  private access<T>(body: () => T): T | string {
    try {
      return body();
    } catch (thrown) {
      if (!(thrown instanceof Abandoned)) throw thrown;
      return signalName(thrown.signal);
    }
  }
}

function start(memory = '256M', pool = 4): Tester {
  const machine = boot({ memory, cmdline: 'transparent_hugepage=never' });
  machine.writeFile('/proc/sys/vm/nr_hugepages', String(pool));
  return new Tester(machine, machine.createProcess());
}

function finish(tester: Tester): void {
  tester.machine.validate();
  tester.process.exit(0);
  tester.machine.writeFile('/proc/sys/vm/nr_hugepages', '0');
  expect(tester.pool()).toBe('0 0 0 0');
  tester.machine.validate();
}

it('promises pages to mappings, and cuts mappings between huge pages only', () => {
  const t = start();
  const p = t.map(3);
  expect(p % H).toBe(0);
  expect(t.pool()).toBe('4 4 3 0');
  expect([t.load(p), t.store(p + H)]).toEqual([0, 'ok']);
  expect(t.pool()).toBe('4 2 1 0');
  expect(t.machine.readFile(`/proc/${t.process.pid}/status`)).toMatch(/HugetlbPages:\s+4096 kB/);
  expect(t.machine.readFile(`/proc/${t.process.pid}/smaps`)).toMatch(/anon_hugepage[^]*?KernelPageSize: +2048 kB[^]*?Private_Hugetlb: +4096 kB[^]*?VmFlags: .*\bht\b/);
  expect(t.machine.readFile(`/proc/${t.process.pid}/numa_maps`)).toMatch(/anon_hugepage\\?[^\n]* huge anon=2 dirty=1 N0=2 kernelpagesize_kB=2048/);
  expect(t.call('munmap', p + 4096, H)).toBe('EINVAL');
  expect(t.call('munmap', p, 4096)).toBe('EINVAL');
  expect(t.call('mprotect', p + 4096, 4096, PROT_READ)).toBe('EINVAL');
  expect(t.call('mprotect', p, 4096, PROT_READ)).toBe('EINVAL');
  expect(t.call('mprotect', p, H, PROT_READ)).toBe(0);
  expect(t.store(p)).toBe('SIGSEGV');
  expect(t.call('mprotect', p, H, RW)).toBe(0);
  expect(t.store(p)).toBe('ok');
  expect(t.call('madvise', p, 4096, MADV_DONTNEED)).toBe(0);
  expect(t.call('madvise', p + 4096, 4096, MADV_DONTNEED)).toBe('EINVAL');
  expect(t.call('madvise', p, H + 4096, MADV_DONTNEED)).toBe(0);
  expect(t.pool()).toBe('4 3 2 0');
  expect(t.call('madvise', p, H, MADV_FREE)).toBe('EINVAL');
  expect(t.call('madvise', p, H, MADV_COLD)).toBe('EINVAL');
  expect(t.call('madvise', p, H, MADV_HUGEPAGE)).toBe(0);
  expect(t.call('mlock', p, H)).toBe(0);
  expect(t.pool()).toBe('4 2 1 0');
  t.machine.validate();
  expect(t.call('mremap', p, 3 * H, 4 * H, MREMAP_MAYMOVE)).toBe('EINVAL');
  expect(t.call('mremap', p + 4096, H, H, MREMAP_MAYMOVE | MREMAP_FIXED, p + 16 * H)).toBe('EINVAL');
  expect(t.call('mremap', p, 3 * H, 2 * H, 0)).toBe(p);
  expect(t.pool()).toBe('4 2 0 0');
  const goal = Math.ceil((t.call('mmap', 0, 8 * H, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) as number) / H) * H;
  expect(t.call('mremap', p, 2 * H, 2 * H, MREMAP_MAYMOVE | MREMAP_FIXED, goal)).toBe(goal);
  expect([t.pool(), t.store(goal), t.pool()]).toEqual(['4 2 0 0', 'ok', '4 2 0 0']);
  expect(t.call('munmap', goal, 2 * H)).toBe(0);
  expect(t.pool()).toBe('4 4 0 0');
  finish(t);
});

it('raises SIGBUS where nothing was promised and nothing is left', () => {
  const t = start();
  expect(t.map(5)).toBe('ENOMEM');
  const p = t.map(5, MAP_NORESERVE);
  expect(t.pool()).toBe('4 4 0 0');
  expect([0, 1, 2, 3, 4].map((page) => t.store(p + page * H))).toEqual(['ok', 'ok', 'ok', 'ok', 'SIGBUS']);
  expect(t.pool()).toBe('4 0 0 0');
  finish(t);
});

it('gives a page that parent and child share to the parent, where there is no other', () => {
  const t = start();
  const p = t.map(2);
  t.store(p, 1);
  t.store(p + H, 2);
  expect(t.pool()).toBe('4 2 0 0');
  const child = new Tester(t.machine, t.process.fork() as Process);
  expect(t.pool()).toBe('4 2 0 0');
  expect([child.store(p), child.load(p + H)]).toEqual(['ok', 2]);
  expect(t.pool()).toBe('4 1 0 0');
  const q = t.map(1);
  expect(t.pool()).toBe('4 1 1 0');
  expect(t.store(q)).toBe('ok');
  expect(t.pool()).toBe('4 0 0 0');
  t.machine.validate();
  expect(t.store(p + H)).toBe('ok');
  expect(t.pool()).toBe('4 0 0 0');
  expect([child.load(p + H), child.store(p + H), child.load(p)]).toEqual(['SIGBUS', 'SIGBUS', 1]);
  t.machine.validate();
  child.process.exit(0);
  expect(t.pool()).toBe('4 1 0 0');
  expect([t.load(p), t.load(p + H)]).toEqual([1, 1]);
  t.call('munmap', q, H);
  t.call('munmap', p, 2 * H);
  expect(t.pool()).toBe('4 4 0 0');
  finish(t);
});

it('has files of huge pages, shared and private', () => {
  const t = start();
  const { os } = t.process;
  const name = os.sbrk(4096);
  os.mem.storeCString(name, 'h');
  const fd = t.call('memfd_create', name, MFD_HUGETLB) as number;
  expect(t.call('ftruncate', fd, 4096)).toBe('EINVAL');
  expect(t.call('ftruncate', fd, 2 * H)).toBe(0);
  expect(t.pool()).toBe('4 4 0 0');
  const p = t.call('mmap', 0, 2 * H, RW, MAP_SHARED, fd, 0) as number;
  expect(t.pool()).toBe('4 4 2 0');
  t.store(p, 5);
  expect(t.pool()).toBe('4 3 1 0');
  const q = t.call('mmap', 0, H, RW, MAP_PRIVATE, fd, 0) as number;
  expect(t.pool()).toBe('4 3 2 0');
  expect(t.load(q)).toBe(5);
  t.store(q, 6);
  expect([t.load(p), t.load(q), t.pool()]).toEqual([5, 6, '4 2 1 0']);
  expect(t.call('mmap', 0, H, RW, MAP_SHARED, fd, 4096)).toBe('EINVAL');
  const third = t.call('mmap', 0, 4096, RW, MAP_SHARED, fd, 0) as number;
  t.machine.validate();
  expect(t.call('fallocate', fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, H)).toBe(0);
  expect(t.pool()).toBe('4 4 2 0');
  expect([t.load(p), t.pool()]).toEqual([0, '4 3 2 0']);
  expect(t.call('ftruncate', fd, H)).toBe(0);
  expect(t.load(p + H)).toBe('SIGBUS');
  expect(t.call('write', fd, name, 1)).toBe('EINVAL');
  t.call('munmap', p, 2 * H);
  t.call('munmap', q, H);
  expect(t.pool()).toBe('4 3 0 0');
  t.call('munmap', third, H);
  t.machine.validate();
  t.call('close', fd);
  expect(t.pool()).toBe('4 4 0 0');
  const id = t.call('shmget', IPC_PRIVATE, 3 * H - 5, IPC_CREAT | SHM_HUGETLB | 0o600) as number;
  expect(t.pool()).toBe('4 4 3 0');
  const s = t.call('shmat', id, 0, 0) as number;
  expect([t.store(s), t.pool()]).toEqual(['ok', '4 3 2 0']);
  t.call('shmctl', id, IPC_RMID, 0);
  t.call('shmdt', s);
  expect(t.pool()).toBe('4 4 0 0');
  finish(t);
});

it('refuses other sizes and places', () => {
  const t = start();
  const huge = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
  expect(t.call('mmap', 2 ** 32 + 4096, H, RW, huge | MAP_FIXED, -1, 0)).toBe('EINVAL');
  expect(t.call('mmap', 0, H, RW, huge | (30 << 26), -1, 0)).toBe('ENOMEM');
  expect(t.call('mmap', 0, H, RW, huge | (22 << 26), -1, 0)).toBe('EINVAL');
  finish(t);
});

it('lends surplus pages, and sets pages aside at boot, by node', () => {
  const machine = boot({
    memory: '256M', cpus: 2, numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }], cmdline: 'hugepages=0:1,1:2 transparent_hugepage=never',
  });
  const node = (nid: number, file: string): string => machine.readFile(`/sys/devices/system/node/node${nid}/hugepages/hugepages-2048kB/${file}`).trim();
  expect([node(0, 'nr_hugepages'), node(1, 'nr_hugepages'), node(1, 'free_hugepages')]).toEqual(['1', '2', '2']);
  machine.writeFile('/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages', '2');
  machine.writeFile('/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages', '2');
  const t = new Tester(machine, machine.createProcess());
  const p = t.map(6);
  expect(t.pool()).toBe('6 6 6 2');
  expect(t.map(1)).toBe('ENOMEM');
  for (let page = 0; page < 6; page++) expect(t.store(p + page * H)).toBe('ok');
  expect(t.pool()).toBe('6 0 0 2');
  machine.validate();
  t.call('munmap', p, 6 * H);
  expect(t.pool()).toBe('4 4 0 0');
  finish(t);
});

it('reads from files of huge pages, holes as zeros; and writes to none', () => {
  const machine = boot({ memory: '128M', cmdline: 'hugepages=8' });
  const process = machine.createProcess();
  const { os } = process;
  const name = os.mmap(0, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.storeCString(name, 'h');
  const fd = os.syscall(Syscall.memfd_create, name, MFD_HUGETLB);
  expect(os.syscall(Syscall.ftruncate, fd, 4 * H)).toBe(0);
  const b = os.mmap(0, 3 * H, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  const pread = (to: number, length: number, at: number): number => os.syscall(Syscall.pread64, fd, to, length, at);
  expect([pread(b, 100, 0), os.mem.load8(b)]).toEqual([100, 0]);
  const m = os.mmap(0, 4 * H, RW, MAP_SHARED, fd);
  os.mem.fill(m + H, H, 5);
  os.mem.store8(m + H + 100, 6);
  os.mem.fill(b, 3 * H, 9);
  expect(pread(b, 2 * H + 10, H - 5)).toBe(2 * H + 10);
  expect([4, 5, 105, 5 + H].map((at) => os.mem.load8(b + at))).toEqual([0, 5, 6, 0]);
  expect([pread(b, 3 * H, 3 * H + 7), pread(b, 10, 4 * H), pread(b, 10, 5 * H)]).toEqual([H - 7, 0, 0]);
  expect(errnoName(-os.syscall(Syscall.write, fd, b, 10))).toBe('EINVAL');
  expect([os.syscall(Syscall.read, fd, b, 4096), os.syscall(Syscall.lseek, fd, 0, 1)]).toEqual([4096, 4096]);
  expect([os.syscall(Syscall.read, fd, 8, 4096), pread(8, 4096, H)].map((error) => errnoName(-error))).toEqual(['EFAULT', 'EFAULT']);
  const edge = os.mmap(0, 8192, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  os.munmap(edge + 4096, 4096);
  expect([pread(edge, 8192, H), pread(edge, 8192, 0)]).toEqual([4096, 4096]);
  process.exit(0);
  machine.validate();
});
