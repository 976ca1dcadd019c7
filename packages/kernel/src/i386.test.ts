/**
 * Programs of 32 bits: on machines of as many, and under a kernel of 64. What the latter expects was seen on Linux 6.18 with
 * programs that gcc -m32 made; with ADDR_LIMIT_3GB their layout is that of a kernel of 32 bits.
 */
import {
  ADDR_COMPAT_LAYOUT,
  ADDR_LIMIT_3GB,
  Errno,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
  RLIMIT_AS,
  RLIMIT_STACK,
  SIGSEGV,
  Syscall,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { describe, expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { MachineConfigInput } from './config.ts';
import type { StartOptions } from './machine.ts';
import { inUse, runChecked, small } from './testing/run.ts';

const RW = PROT_READ | PROT_WRITE;
const ANON = MAP_PRIVATE | MAP_ANONYMOUS;
const PAGE = 4096;

const MACHINES: readonly [string, MachineConfigInput][] = [
  ['PAE', { arch: 'x86-pae', memory: '1G', kernel: '6.1', cpus: 2 }],
  ['PAE of 6.18', { arch: 'x86-pae', memory: '1G' }],
  ['two levels', { arch: 'x86-32', memory: '1G', cpus: 2 }],
];

/** `/proc/self/maps` by range, without devices and inodes. */
function layout(os: Os): string[] {
  return os.readFile('/proc/self/maps').trimEnd().split('\n').map((line) => line.replace(/ [0-9a-f]{8} \S+ \d+ +/, ' '));
}

const NATIVE_LAYOUT = [
  '08048000-08050000 r-xp /bin/program',
  '08050000-08052000 r--p /bin/program',
  '08052000-08053000 rw-p /bin/program',
  '08053000-08073000 rw-p ',
  '08073000-08074000 r--p /bin/program',
];
const KERNEL_PAGES = ['b7ff8000-b7ffc000 r--p [vvar]', 'b7ffc000-b7ffe000 r--p [vvar_vclock]', 'b7ffe000-b8000000 r-xp [vdso]'];

describe.each(MACHINES)('%s', (_, config) => {
  test('a program has 3 GiB, laid out as Linux does', () => {
    const machine = boot(config);
    runChecked(machine, (os) => {
      expect(layout(os)).toEqual([...NATIVE_LAYOUT, ...KERNEL_PAGES, 'bffdf000-c0000000 rw-p [stack]']);
      // The name's column is that of shorter addresses.
      expect(os.readFile('/proc/self/maps').split('\n').find((line) => line.endsWith('[vvar]'))).toBe('b7ff8000-b7ffc000 r--p 00000000 00:00 0          [vvar]');
      expect(os.sbrk(0)).toBe(0x807_4000);
      expect(os.mmap(0, PAGE, RW, ANON)).toBe(0xb7ff_7000);
      // Neither low halves nor huge pages' borders mean anything here.
      expect(os.mmap(0, PAGE, RW, ANON | MAP_32BIT)).toBe(0xb7ff_6000);
      expect(os.mmap(0, 4 << 20, RW, ANON)).toBe(0xb7bf_6000);
    });
    runChecked(machine, (os) => {
      expect(os.mmap(0, PAGE, RW, ANON)).toBe(0x4000_8000);
    }, { personality: ADDR_COMPAT_LAYOUT });
  });

  test('chance has less room', () => {
    const machine = boot({ ...config, sysctl: { 'kernel.randomize_va_space': 2 } });
    for (let i = 0; i < 20; i++) {
      runChecked(machine, (os) => {
        const stackEnd = parseInt(/-([0-9a-f]+) .*\[stack\]$/m.exec(os.readFile('/proc/self/maps'))![1]!, 16);
        expect(0xc000_0000 - stackEnd).toBeLessThan(8 << 20);
        expect(os.sbrk(0) - 0x807_4000).toBeLessThanOrEqual(32 << 20);
        expect(os.mmap(0, PAGE, RW, ANON)).toBeGreaterThan(0xb600_0000);
      });
    }
  });

  test('registers have 32 bits, and what wraps there is refused as Linux does', () => {
    runChecked(boot(config), (os) => {
      const page = os.mmap(0, PAGE, RW, ANON);
      expect(os.syscall(Syscall.munmap, page + 2 ** 32, PAGE)).toBe(0);
      const at = os.mmap(0, PAGE, RW, ANON);
      expect(os.syscall(Syscall.mmap, 0, PAGE, RW, ANON, 2 ** 32 - 1, 0)).toBeGreaterThan(0);
      // A range that begins below the top and ends beyond it.
      expect(os.syscall(Syscall.mlock, 0xb000_0000, 0xb000_0000)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.munlock, 0xb000_0000, 0x5000_0000)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.munlock, 0xb000_0000, 0x4000_0000)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mprotect, 0xb000_0000, 0xb000_0000, 1)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.madvise, 0xb000_0000, 0xb000_0000, 0)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.madvise, 0xffff_f000, PAGE, 0)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.msync, 0xb000_0000, 0xb000_0000, 1)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mincore, 0xc000_0000, PAGE, at)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mincore, at, PAGE, 0xc000_0000)).toBe(-Errno.EFAULT);
      for (const length of [0xffff_ffff, 0xffff_f000, 0xc000_1000, 0xbfff_f000]) {
        expect(os.syscall(Syscall.mmap, 0, length, RW, ANON | MAP_NORESERVE, -1, 0)).toBe(-Errno.ENOMEM);
      }
      expect(os.syscall(Syscall.mmap, 0xc000_0000, PAGE, RW, ANON | MAP_FIXED, -1, 0)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mmap, 0xffff_f000, PAGE, RW, ANON | MAP_FIXED, -1, 0)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.munmap, 0xbfff_f000, 0x5000_0000)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.mremap, at, PAGE, 0xffff_f000, MREMAP_MAYMOVE, 0)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.mremap, at, PAGE, 0xb000_0000, MREMAP_MAYMOVE, 0)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mremap, at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0xc000_0000)).toBe(-Errno.EINVAL);
      const heap = os.sbrk(0);
      expect(os.syscall(Syscall.brk, 0xc000_1000)).toBe(heap);
      expect(os.syscall(Syscall.brk, 0xffff_f000)).toBe(heap);
    });
  });

  test('a file is mapped by pages that 32 bits can number', () => {
    runChecked(boot(config), (os) => {
      const name = os.mmap(0, PAGE, RW, ANON);
      os.mem.store8(name, 0x66);
      const fd = os.syscall(Syscall.memfd_create, name, 0);
      expect(os.syscall(Syscall.ftruncate, fd, 2 ** 33 + PAGE)).toBe(0);
      expect(os.syscall(Syscall.pwrite64, fd, name, 1, 2 ** 33)).toBe(1);
      const far = os.mmap(0, PAGE, PROT_READ, 1, fd, 2 ** 33);
      expect(os.mem.load8(far)).toBe(0x66);
      expect(os.syscall(Syscall.mmap, 0, PAGE, PROT_READ, 1, fd, 2 ** 44)).toBe(-Errno.EINVAL);
      expect(os.syscall(Syscall.mmap, 0, 3 * PAGE, PROT_READ, 1, fd, 2 ** 44 - PAGE)).toBe(-Errno.EOVERFLOW);
    });
  });

  test('a long has 4 bytes', () => {
    runChecked(boot(config), (os) => {
      const at = os.mmap(0, PAGE, RW, ANON);
      expect(os.syscall(Syscall.getrlimit, RLIMIT_STACK, at)).toBe(0);
      expect([os.mem.load32(at), os.mem.load32(at + 4), os.mem.load32(at + 8)]).toEqual([8 << 20, 0xffff_ffff, 0]);
      os.mem.store32(at, 0xffff_ffff);
      os.mem.store32(at + 4, 0xffff_ffff);
      expect(os.syscall(Syscall.setrlimit, RLIMIT_AS, at)).toBe(0);
      expect(os.getrlimit(RLIMIT_AS)).toEqual({ cur: -1, max: -1 });
      // One that does not fit is shown as none.
      os.setrlimit(RLIMIT_AS, { cur: 2 ** 33, max: -1 });
      os.syscall(Syscall.getrlimit, RLIMIT_AS, at);
      expect(os.mem.load32(at)).toBe(0xffff_ffff);
      os.mem.store32(at, at + 64);
      os.mem.store32(at + 4, 16);
      os.mem.store32(at + 8, at + 128);
      os.mem.store32(at + 12, 16);
      os.mem.store32(at + 128, 99);
      expect(os.syscall(Syscall.process_vm_readv, os.getpid(), at, 1, at + 8, 1, 0)).toBe(16);
      expect(os.mem.load32(at + 64)).toBe(99);
    });
  });

  test('an address of the kernel is a SIGSEGV that says nothing is mapped there', () => {
    const machine = boot(config);
    runChecked(machine, (os) => {
      for (const address of [0xc000_0000, 0xc100_0000, 0xff00_0000, 0xffff_fffc]) {
        let seen: unknown;
        os.sigaction(SIGSEGV, (info) => {
          seen = [info.code, info.addr];
          throw new Error('fault');
        });
        expect(() => os.mem.load8(address)).toThrow('fault');
        expect(seen).toEqual([1, address]);
      }
    });
  });

  test('pages are copied on write, across a fork, and all is given back', () => {
    const machine = boot(config);
    const before = inUse(machine);
    runChecked(machine, (os) => {
      const at = os.mmap(0, 64 * PAGE, RW, ANON);
      for (let i = 0; i < 64; i++) os.mem.store32(at + i * PAGE, i);
      const pid = os.fork((child) => {
        child.mem.store32(at, 100);
        child.munmap(0x4000_0000, 0x4000_0000);
        return child.mem.load32(at + 63 * PAGE);
      });
      expect(os.waitpid(pid)?.status).toBe(63);
      expect(os.mem.load32(at)).toBe(0);
      // Whole GiB come and go.
      const far = os.mmap(0x4000_0000, PAGE, RW, ANON | MAP_FIXED);
      os.mem.store8(far, 1);
      os.munmap(far, 0x4000_0000);
      os.mmap(far, PAGE, RW, ANON | MAP_FIXED);
      os.mem.store8(far, 2);
      expect(os.mem.load8(far)).toBe(2);
    });
    expect(inUse(machine)).toEqual(before);
  });

  test('what the kernel does to pages of programs goes through windows', () => {
    const machine = boot(config);
    const { os } = machine.createProcess();
    const windows = (body: () => void): number => {
      const before = machine.stats().highmem!.kmapLocals;
      body();
      return machine.stats().highmem!.kmapLocals - before;
    };
    // The page table, too, is high memory where the kernel has it there.
    const tables = config.kernel === '6.1' ? 1 : 0;
    const at = os.mmap(0x1000_0000, 4 * PAGE, RW, ANON | MAP_FIXED);
    expect(windows(() => os.mem.store8(at, 1))).toBe(1 + tables);
    expect(windows(() => os.mem.store8(at, 2))).toBe(0);
    expect(windows(() => os.waitpid(os.fork((child) => child.mem.store8(at, 3))))).toBeGreaterThanOrEqual(2);
    os.mem.storeCString(at + PAGE, 'file');
    const fd = os.syscall(Syscall.memfd_create, at + PAGE, 0);
    // A new page of the file is cleared, and then written to.
    expect(windows(() => os.syscall(Syscall.pwrite64, fd, at, 2 * PAGE, 0))).toBe(4);
    expect(windows(() => os.syscall(Syscall.pread64, fd, at + PAGE, PAGE, 0))).toBe(1);
    machine.validate();
    expect(boot({ memory: '64M' }).stats().highmem).toBeNull();
  });

  test('huge pages are of the size that a table stands for', () => {
    const [size, shift, other] = config.arch === 'x86-32' ? [4 << 20, 22, 21] : [2 << 20, 21, 30];
    const machine = boot({ ...config, cmdline: 'hugepages=4' });
    runChecked(machine, (os) => {
      const map = (length: number, log: number): number => os.syscall(Syscall.mmap, 0, length, RW, ANON | MAP_HUGETLB | (log << 26), -1, 0);
      const at = map(PAGE, 0);
      expect([at % size, os.syscall(Syscall.munmap, at, size)]).toEqual([0, 0]);
      expect(map(size, shift)).toBe(at);
      os.mem.fill(at, size, 1);
      expect(os.readFile('/proc/meminfo')).toMatch(new RegExp(`^HugePages_Free: +3$[^]*^Hugepagesize: +${size / 1024} kB$`, 'm'));
      expect(map(size, other)).toBe(-Errno.EINVAL);
    });
    machine.validate();
  });

  test('pages go to swap and come back, whatever an entry has room for', () => {
    const machine = boot({ ...config, memory: '64M', cmdline: 'mem=40M', swap: [{ size: '128M' }] });
    runChecked(machine, (os) => {
      const pages = 48 * 256;
      const at = os.mmap(0, pages * PAGE, RW, ANON | MAP_NORESERVE);
      for (let i = 0; i < pages; i++) os.mem.store32(at + i * PAGE, i ^ 0x5555);
      const wrong = (each: Os): number => {
        let found = 0;
        for (let i = 0; i < pages; i += 5) if (each.mem.load32(at + i * PAGE) !== (i ^ 0x5555)) found++;
        return found;
      };
      expect(os.waitpid(os.fork((child) => wrong(child)))?.status).toBe(0);
      expect(wrong(os)).toBe(0);
    });
    expect(Number(/^pswpin (\d+)$/m.exec(machine.readFile('/proc/vmstat'))![1])).toBeGreaterThan(1000);
  });

  test('a kernel sees high memory through windows', () => {
    const machine = boot(config);
    machine.module((k) => {
      const [gfpHighuser, gfpKernel] = [0x0010_0cca, 0xcc0];
      const high = k.allocPages(0, gfpHighuser);
      expect(k.pageAddress(high)).toBe(0);
      const address = k.kmap(high);
      k.mem.store32(address, 0x1234);
      expect(k.pageAddress(high)).toBe(address);
      const local = k.kmapLocalPage(high);
      expect(k.mem.load32(local)).toBe(0x1234);
      k.kunmapLocal(local);
      k.kunmap(high);
      k.freePages(high);
      const low = k.allocPages(0, gfpKernel);
      const atomic = k.kmapAtomic(low);
      expect(atomic).toBe(0xc000_0000 + low * PAGE);
      k.kunmapAtomic(atomic);
      k.freePages(low);
      k.kunmap(high);
      // What the allocators give lies in low memory, or in vmalloc's part of the GiB.
      const object = k.kmalloc(64);
      k.mem.store32(object, 5);
      const area = k.vmalloc(3 * PAGE);
      k.mem.fill(area, 3 * PAGE, 6);
      expect([k.mem.load32(object), k.mem.load8(area + 3 * PAGE - 1)]).toEqual([5, 6]);
      expect(area).toBeGreaterThan(0xc000_0000);
      k.kfree(object);
      k.vfree(area);
    });
    expect(machine.dmesg()).toContain('once more than kmap()');
    machine.validate();
  });
});

describe('a program of 32 bits under a kernel of 64', () => {
  const run = (body: (os: Os) => void, options: StartOptions = {}): void => {
    const machine = small();
    const before = inUse(machine);
    runChecked(machine, body, { compat: true, ...options });
    expect(inUse(machine)).toEqual(before);
  };

  test('has almost 4 GiB', () => {
    run((os) => {
      expect(layout(os)).toEqual([
        ...NATIVE_LAYOUT,
        'f7ff6000-f7ffa000 r--p [vvar]',
        'f7ffa000-f7ffc000 r--p [vvar_vclock]',
        'f7ffc000-f7ffe000 r-xp [vdso]',
        'fffdd000-ffffe000 rw-p [stack]',
      ]);
      expect(os.mmap(0, PAGE, RW, ANON)).toBe(0xf7ff_5000);
      expect(os.mmap(0, 4 << 20, RW, ANON)).toBe(0xf7bf_5000);
      expect(os.mmap(0, PAGE, RW, ANON | MAP_32BIT)).toBe(0xf7bf_4000);
      // The kernel's arithmetic has 64 bits: nothing wraps.
      for (const at of [0xbfff_f000, 0xc000_0000, 0xffff_e000, 0xffff_f000]) {
        expect(os.syscall(Syscall.mlock, at, 0x5000_0000)).toBe(-Errno.ENOMEM);
        expect(os.syscall(Syscall.madvise, at, 0x5000_0000, 0)).toBe(-Errno.ENOMEM);
        expect(os.syscall(Syscall.mprotect, at, 0x5000_0000, 1)).toBe(-Errno.ENOMEM);
        expect(os.syscall(Syscall.munmap, at, 0x5000_0000)).toBe(-Errno.EINVAL);
      }
      expect(os.syscall(Syscall.mmap, 0xffff_e000, PAGE, RW, ANON | MAP_FIXED, -1, 0)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.mmap, 0, 0xc000_0000, RW, ANON | MAP_NORESERVE, -1, 0)).toBe(0x37bf_4000);
      expect(os.syscall(Syscall.mmap, 0, 0xffff_ffff, RW, ANON | MAP_NORESERVE, -1, 0)).toBe(-Errno.ENOMEM);
      expect(os.syscall(Syscall.munmap, 0x1000_0000, 0xffff_d000)).toBe(-Errno.EINVAL);
      // What may be read to is any address that the kernel's programs can have.
      const path = os.mmap(0, PAGE, RW, ANON);
      os.mem.storeCString(path, '/dev/null');
      const fd = os.syscall(Syscall.open, path, O_RDWR);
      expect(os.syscall(Syscall.read, fd, path, 0xffff_f000)).toBe(0);
    });
  });

  test('has 3 GiB, or the legacy layout, where its personality says so', () => {
    run((os) => {
      expect(layout(os)).toEqual([...NATIVE_LAYOUT, ...KERNEL_PAGES, 'bffdf000-c0000000 rw-p [stack]']);
      expect(os.mmap(0, PAGE, RW, ANON)).toBe(0xb7ff_7000);
    }, { personality: ADDR_LIMIT_3GB });
    run((os) => {
      expect(layout(os)).toContain('55555000-55559000 r--p [vvar]');
      expect(os.mmap(0, PAGE, RW, ANON)).toBe(0x5555_d000);
    }, { personality: ADDR_COMPAT_LAYOUT });
  });

  test('forks, and its pages lie in four levels', () => {
    run((os) => {
      const at = os.mmap(0xf000_0000, PAGE, RW, ANON | MAP_FIXED);
      os.mem.store8(at, 1);
      expect(os.waitpid(os.fork((child) => child.syscall(Syscall.munmap, at + 2 ** 32, PAGE)))?.status).toBe(0);
      expect(os.mem.load8(at)).toBe(1);
      expect(os.readFile('/proc/self/maps')).toMatch(/^f0000000-f0001000 rw-p 00000000 00:00 0 $/m);
    });
  });
});
