/** Folios of shared memory, as it is allowed to have them. What is expected was seen on Linux 6.18: of a tmpfs mounted with these options, by `stat`, `/proc/kpageflags` and `/proc/vmstat`. */
import {
  FALLOC_FL_KEEP_SIZE,
  IPC_PRIVATE,
  IPC_RMID,
  MADV_COLLAPSE,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  O_CREAT,
  O_RDWR,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  SHM_REMAP,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { MachineConfigInput } from './config.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';

const PAGE = 4096;
const HUGE = 512 * PAGE;
const THP = '/sys/kernel/mm/transparent_hugepage/';
const RW = PROT_READ | PROT_WRITE;

interface Shm {
  readonly machine: Machine;
  readonly open: (name: string) => number;
  readonly unlink: (name: string) => void;
  /** Pages that the file has, of how many bytes `stat` would have it read and written. */
  readonly stat: (fd: number) => [pages: number, blockBytes: number];
  /** Counters of `/proc/vmstat`. */
  readonly vmstat: (...names: string[]) => number[];
  readonly smaps: (addr: number, name: string) => number;
  /** Room of so many bytes that begins at a multiple of 2 MiB. */
  readonly room: (bytes: number) => number;
}

function run(config: Partial<MachineConfigInput>, body: (os: Os, shm: Shm) => void): Machine {
  const machine = createMachine(bootKernel(parseMachineConfig({ memory: '128M', ...config })));
  const { error, description } = machine.run((os) => {
    const scratch = os.mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    body(os, {
      machine,
      open: (name) => {
        os.mem.storeCString(scratch, `/dev/shm/${name}`);
        return os.syscall(Syscall.open, scratch, O_CREAT | O_RDWR, 0o600);
      },
      unlink: (name) => {
        os.mem.storeCString(scratch, `/dev/shm/${name}`);
        os.syscall(Syscall.unlink, scratch);
      },
      stat: (fd) => {
        os.syscall(Syscall.fstat, fd, scratch);
        return [os.mem.load32(scratch + 64) / 8, os.mem.load32(scratch + 56)];
      },
      vmstat: (...names) => {
        const text = machine.readFile('/proc/vmstat');
        return names.map((name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)![1]));
      },
      smaps: (addr, name) => {
        const text = machine.readFile(`/proc/${os.getpid()}/smaps`);
        const from = text.slice(text.search(new RegExp(`^0*${addr.toString(16)}-`, 'm')));
        return Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(from)![1]);
      },
      room: (bytes) => Math.ceil(os.mmap(0, bytes + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS) / HUGE) * HUGE,
    });
    machine.validate();
  });
  expect({ error, description }).toEqual({ error: undefined, description: '' });
  machine.validate();
  return machine;
}

/** Sizes that files have after the same writes, by what the mount says. */
const WRITES: [huge: string, sizes: [pages: number, blockBytes: number][]][] = [
  ['always', [[512, HUGE], [512, HUGE], [1536, HUGE], [512, HUGE], [1024, HUGE]]],
  ['within_size', [[16, HUGE], [1, PAGE], [1536, HUGE], [8, HUGE], [532, HUGE]]],
  ['advise', [[16, PAGE], [1, PAGE], [1536, PAGE], [3, PAGE], [532, PAGE]]],
  ['never', [[16, PAGE], [1, PAGE], [1536, PAGE], [3, PAGE], [532, PAGE]]],
];

test.each(WRITES)('huge=%s: what is written, and allocated, comes in folios', (huge, sizes) => {
  run({ cmdline: `transparent_hugepage_tmpfs=${huge}` }, (os, { open, unlink, stat }) => {
    const buffer = os.mmap(0, 3 * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.fill(buffer, 3 * HUGE, 1);
    const after = (change: (fd: number) => void): [number, number] => {
      const fd = open('a');
      change(fd);
      const found = stat(fd);
      os.syscall(Syscall.close, fd);
      unlink('a');
      return found;
    };
    expect([
      after((fd) => os.syscall(Syscall.write, fd, buffer, 64 * 1024)),
      after((fd) => os.syscall(Syscall.write, fd, buffer, 100)),
      after((fd) => os.syscall(Syscall.write, fd, buffer, 3 * HUGE)),
      after((fd) => os.syscall(Syscall.pwrite64, fd, buffer, 3 * PAGE, 5 * PAGE)),
      after((fd) => os.syscall(Syscall.fallocate, fd, 0, 0, HUGE + 20 * PAGE)),
    ]).toEqual(sizes);
  });
});

/** A file of 2 MiB and 5 pages, stored to at 0 and at 2 MiB: its pages, and blocks that one entry shows; without and with MADV_HUGEPAGE. */
const FAULTS: [huge: string, plain: [number, number], advised: [number, number]][] = [
  ['always', [1024, 2], [1024, 2]],
  ['within_size', [513, 1], [1024, 2]],
  ['advise', [2, 0], [1024, 2]],
  ['never', [2, 0], [2, 0]],
];

test.each(FAULTS)('huge=%s: what is touched comes in folios', (huge, plain, advised) => {
  run({ cmdline: `transparent_hugepage_tmpfs=${huge}` }, (os, { open, unlink, stat, smaps, room, vmstat }) => {
    const touched = (advice: number): [number, number] => {
      const fd = open('a');
      os.syscall(Syscall.ftruncate, fd, HUGE + 5 * PAGE);
      const addr = os.mmap(room(2 * HUGE), 2 * HUGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
      if (advice !== 0) os.madvise(addr, 2 * HUGE, advice);
      os.mem.store8(addr, 1);
      os.mem.store8(addr + HUGE, 1);
      expect(os.mem.load8(addr + HUGE + PAGE)).toBe(0);
      const found: [number, number] = [stat(fd)[0], smaps(addr, 'ShmemPmdMapped') / 2048];
      os.munmap(addr, 2 * HUGE);
      os.syscall(Syscall.close, fd);
      unlink('a');
      return found;
    };
    // The load makes one page more where there are no folios.
    const single = (found: [number, number]): [number, number] => (found[0] === 1024 ? found : [found[0] + 1, found[1]]);
    const before = vmstat('thp_file_alloc', 'thp_file_mapped', 'nr_shmem_hugepages');
    expect(touched(0)).toEqual(single(plain));
    expect(touched(MADV_HUGEPAGE)).toEqual(single(advised));
    expect(touched(MADV_NOHUGEPAGE)[1]).toBe(0);
    const after = vmstat('thp_file_alloc', 'thp_file_mapped', 'nr_shmem_hugepages');
    expect([after[1]! - before[1]!, after[2]]).toEqual([plain[1] + advised[1], 0]);
  });
});

test('memory that is shared without a name goes by its own settings', () => {
  run({}, (os, { machine, smaps, vmstat, room }) => {
    const anonymous = (advice = 0): [rss: number, blocks: number, eligible: number] => {
      const addr = os.mmap(room(HUGE), HUGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
      if (advice !== 0) os.madvise(addr, HUGE, advice);
      os.mem.store8(addr + 5 * PAGE, 1);
      const found: [number, number, number] = [smaps(addr, 'Rss') / 4, smaps(addr, 'ShmemPmdMapped') / 2048, smaps(addr, 'THPeligible')];
      os.munmap(addr, HUGE);
      return found;
    };
    const enabled = `${THP}shmem_enabled`;
    expect(machine.readFile(enabled)).toBe('always within_size advise [never] deny force\n');
    expect(machine.readFile(`${THP}hugepages-2048kB/shmem_enabled`)).toBe('always [inherit] within_size advise never\n');
    expect(machine.readFile(`${THP}hugepages-64kB/shmem_enabled`)).toBe('always inherit within_size advise [never]\n');
    expect(anonymous()).toEqual([1, 0, 0]);
    machine.writeFile(enabled, 'advise');
    expect([anonymous(), anonymous(MADV_HUGEPAGE)]).toEqual([[1, 0, 0], [512, 1, 1]]);
    machine.writeFile(enabled, 'always');
    expect([anonymous(), anonymous(MADV_NOHUGEPAGE)]).toEqual([[512, 1, 1], [1, 0, 0]]);
    machine.writeFile(enabled, 'deny');
    expect(anonymous(MADV_HUGEPAGE)).toEqual([1, 0, 0]);
    machine.writeFile(enabled, 'never');
    // Sixteen pages at a time, on addresses that suit.
    machine.writeFile(`${THP}hugepages-64kB/shmem_enabled`, 'always');
    expect(anonymous()).toEqual([16, 0, 0]);
    machine.writeFile(enabled, 'always');
    expect(() => machine.writeFile(`${THP}hugepages-64kB/shmem_enabled`, 'inherit')).not.toThrow();
    expect(() => machine.writeFile(enabled, 'force')).toThrow('EINVAL');
    machine.writeFile(`${THP}hugepages-64kB/shmem_enabled`, 'never');
    machine.writeFile(enabled, 'force');
    expect(() => machine.writeFile(`${THP}hugepages-64kB/shmem_enabled`, 'inherit')).toThrow('EINVAL');
    expect(anonymous()).toEqual([512, 1, 1]);
    // Mappings are placed so that it can be shown by one entry.
    os.mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    expect(os.mmap(0, HUGE, RW, MAP_SHARED | MAP_ANONYMOUS) % HUGE).toBe(0);
    expect(vmstat('thp_file_fallback')).toEqual([0]);
  });
});

test('khugepaged makes folios of shared memory that may have them', () => {
  run({}, (os, { machine, smaps, room, vmstat }) => {
    const addr = os.mmap(room(HUGE), HUGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
    for (let page = 0; page < 512; page++) os.mem.store8(addr + page * PAGE, page);
    machine.writeFile(`${THP}shmem_enabled`, 'always');
    machine.writeFile(`${THP}khugepaged/scan_sleep_millisecs`, '1');
    os.mem.storeAddress(addr, 0);
    os.mem.storeAddress(addr + 8, 100e6);
    expect(os.syscall(Syscall.nanosleep, addr, 0)).toBe(0);
    expect(machine.readFile(`${THP}khugepaged/pages_collapsed`)).not.toBe('0\n');
    expect([...vmstat('nr_shmem_hugepages', 'thp_collapse_alloc'), smaps(addr, 'Rss')]).toEqual([1, 1, 0]);
    expect(os.mem.load8(addr + 77 * PAGE)).toBe(77);
    expect([smaps(addr, 'ShmemPmdMapped'), machine.readFile('/proc/meminfo').includes('ShmemPmdMapped:     2048 kB')]).toEqual([2048, true]);
  });
});

test('a file that is full of folios makes do with single pages', () => {
  run({ cmdline: 'transparent_hugepage_tmpfs=always', devShm: '3M' }, (os, { open, stat, vmstat, unlink }) => {
    const fd = open('a');
    const buffer = os.mmap(0, 2 * HUGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.fill(buffer, 2 * HUGE, 3);
    expect(os.syscall(Syscall.write, fd, buffer, 2 * HUGE)).toBe(1.5 * HUGE);
    expect([stat(fd)[0], ...vmstat('thp_file_alloc', 'nr_shmem_hugepages')]).toEqual([768, 1, 1]);
    os.syscall(Syscall.ftruncate, fd, PAGE);
    expect([stat(fd)[0], ...vmstat('nr_shmem_hugepages', 'thp_split_page')]).toEqual([1, 0, 1]);
    unlink('a');
  });
});

test('shared memory in folios goes to swap, page by page, and comes back', () => {
  run({ memory: '64M', swap: [{ size: '128M' }], cmdline: 'transparent_hugepage_shmem=always' }, (os, { room, vmstat }) => {
    const bytes = 40 * HUGE;
    const addr = os.mmap(room(bytes), bytes, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
    for (let at = 0; at < bytes; at += PAGE) os.mem.store32(addr + at, at + 1);
    for (let at = 0; at < bytes; at += PAGE) expect(os.mem.load32(addr + at)).toBe(at + 1);
    const [split, out] = vmstat('thp_split_page', 'pswpout');
    expect(split).toBeGreaterThan(10);
    expect(out).toBeGreaterThan(5000);
    os.munmap(addr, bytes);
  });
});

test('System V segments go by the internal mount, and collapse', () => {
  run({ cmdline: 'transparent_hugepage_shmem=advise' }, (os, { smaps, room }) => {
    const id = os.syscall(Syscall.shmget, IPC_PRIVATE, 2 * HUGE, 0o600);
    const addr = os.syscall(Syscall.shmat, id, room(2 * HUGE), SHM_REMAP);
    os.mem.store8(addr, 1);
    expect([smaps(addr, 'Rss'), smaps(addr, 'THPeligible')]).toEqual([4, 0]);
    os.madvise(addr, HUGE, MADV_COLLAPSE);
    expect(smaps(addr, 'ShmemPmdMapped')).toBe(2048);
    os.madvise(addr, 2 * HUGE, MADV_HUGEPAGE);
    os.mem.store8(addr + HUGE, 1);
    expect(smaps(addr, 'ShmemPmdMapped')).toBe(4096);
    os.syscall(Syscall.shmdt, addr);
    os.syscall(Syscall.shmctl, id, IPC_RMID, 0);
  });
});

test('what fallocate has set aside beyond the end stays when its folio is split', () => {
  run({ cmdline: 'transparent_hugepage_tmpfs=always' }, (os, { open, stat }) => {
    const fd = open('a');
    expect(os.syscall(Syscall.fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, 100 * PAGE)).toBe(0);
    expect(stat(fd)[0]).toBe(512);
    os.syscall(Syscall.ftruncate, fd, 10 * PAGE);
    os.syscall(Syscall.ftruncate, fd, 8 * PAGE);
    expect(stat(fd)[0]).toBe(8);
  });
});
