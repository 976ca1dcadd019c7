/** Events of userfaultfd: the order and contents of the messages are those that Linux 6.18 gave for the same program. */
import { MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_NONBLOCK, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall, UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_MISSING, UFFD_API, UFFD_EVENT_FORK, UFFD_EVENT_PAGEFAULT, UFFD_EVENT_REMAP, UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP, UFFD_FEATURE_EVENT_FORK, UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_REMOVE, UFFD_FEATURE_EVENT_UNMAP, UFFD_MSG_BYTES, isError } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { expect, it } from 'vitest';
import { boot } from './boot.ts';

const PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS;
const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;
const MREMAP_DONTUNMAP = 4;

it('tells of forks, moves, pages given up and unmappings, before who made them goes on', () => {
  const machine = boot({ memory: '64M', cpus: 2, cmdline: 'transparent_hugepage=never' });
  machine.quiesce();
  const before = machine.stats().framesByOwner;
  const seen: string[] = [];
  const result = machine.run((os: Os) => {
    const page = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, PRIVATE);
    const request = (fd: number, code: number, ...words: number[]): number => {
      words.forEach((word, i) => os.mem.storeAddress(page + i * 8, word));
      return os.syscall(Syscall.ioctl, fd, code, page);
    };
    const uffd = os.userfaultfd(O_NONBLOCK);
    const features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
    expect(request(uffd, UFFDIO_API, UFFD_API, features)).toBe(0);
    const area = os.mmap(0, 256 * PAGE_SIZE, 0, PRIVATE);
    const base = area + 64 * PAGE_SIZE;
    os.mmap(base, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, PRIVATE | MAP_FIXED);
    const source = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, PRIVATE);
    os.mem.fill(source, PAGE_SIZE, 7);
    expect(request(uffd, UFFDIO_REGISTER, base, 16 * PAGE_SIZE, UFFDIO_REGISTER_MODE_MISSING)).toBe(0);
    const fds = [uffd];
    let stop = false;
    const serve = (fd: number): boolean => {
      const at = page + 512;
      if (isError(os.syscall(Syscall.read, fd, at, UFFD_MSG_BYTES))) return false;
      const place = (offset: number): number => (os.mem.loadAddress(at + offset) - base) / PAGE_SIZE;
      switch (os.mem.load8(at)) {
        case UFFD_EVENT_PAGEFAULT: {
          seen.push(`fault ${Math.floor(place(16))}`);
          const address = os.mem.loadAddress(at + 16);
          expect(request(fd, UFFDIO_COPY, address, source, PAGE_SIZE, 0, 0)).toBe(0);
          break;
        }
        case UFFD_EVENT_FORK:
          seen.push('fork');
          fds.push(os.mem.load32(at + 8));
          break;
        case UFFD_EVENT_REMAP:
          seen.push(`remap ${place(8)} ${place(16)} ${os.mem.loadAddress(at + 24) / PAGE_SIZE}`);
          break;
        default:
          seen.push(`${{ [UFFD_EVENT_REMOVE]: 'remove', [UFFD_EVENT_UNMAP]: 'unmap' }[os.mem.load8(at)]} ${place(8)} ${place(16)}`);
      }
      return true;
    };
    os.thread(function* () {
      while (!stop) if (!fds.some(serve)) yield;
    });
    const value = (pageNumber: number, from = os): void => void seen.push(`v ${from.mem.load8(base + pageNumber * PAGE_SIZE)}`);
    const step = (name: string): void => void seen.push(`# ${name}`);
    value(0);
    value(1);
    step('dontneed');
    os.madvise(base, 2 * PAGE_SIZE, MADV_DONTNEED);
    value(0);
    step('free');
    os.madvise(base, 2 * PAGE_SIZE, MADV_FREE);
    step('munmap 3');
    os.munmap(base + 3 * PAGE_SIZE, PAGE_SIZE);
    step('munmap 3..6');
    os.munmap(base + 3 * PAGE_SIZE, 3 * PAGE_SIZE);
    step('mremap 8,2 -> 100');
    const moved = os.mremap(base + 8 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, base + 100 * PAGE_SIZE);
    value(100);
    step('mremap shrink 100');
    os.mremap(moved, 2 * PAGE_SIZE, PAGE_SIZE, 0);
    step('mremap dontunmap 10');
    os.mremap(base + 10 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, base + 110 * PAGE_SIZE);
    step('mmap fixed over 12..13');
    os.mmap(base + 12 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, PRIVATE | MAP_FIXED);
    os.mem.store8(base + 12 * PAGE_SIZE, 1);
    step('fork');
    const child = os.fork((each) => {
      value(2, each);
      value(0, each);
      return 0;
    });
    expect(os.waitpid(child)).toMatchObject({ status: 0 });
    step('munmap all');
    os.munmap(base - 2 * PAGE_SIZE, 22 * PAGE_SIZE);
    stop = true;
  });
  expect([seen.at(-1), result.error]).toEqual(['unmap -2 20', undefined]);
  expect(seen.join(', ')).toBe([
    'fault 0', 'v 7', 'fault 1', 'v 7',
    '# dontneed', 'remove 0 2', 'fault 0', 'v 7',
    '# free', 'remove 0 2',
    '# munmap 3', 'unmap 3 4',
    '# munmap 3..6', 'unmap 3 6',
    '# mremap 8,2 -> 100', 'remap 8 100 2', 'unmap 8 10', 'fault 100', 'v 7',
    '# mremap shrink 100', 'unmap 101 102',
    '# mremap dontunmap 10', 'remap 10 110 1',
    '# mmap fixed over 12..13', 'unmap 12 13',
    '# fork', 'fork', 'fault 2', 'v 7', 'v 7',
    '# munmap all', 'unmap -2 20',
  ].join(', '));
  machine.validate();
  machine.quiesce();
  expect(machine.stats().framesByOwner).toEqual(before);
});

it('asks for a capability to hear of forks', () => {
  const { os } = boot({ memory: '64M' }).createProcess();
  const page = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, PRIVATE);
  const fd = os.userfaultfd(O_NONBLOCK);
  os.mem.storeAddress(page, UFFD_API);
  os.mem.storeAddress(page + 8, UFFD_FEATURE_EVENT_FORK);
  expect(os.syscall(Syscall.setuid, 1000)).toBe(0);
  expect(os.syscall(Syscall.ioctl, fd, UFFDIO_API, page)).toBe(-1);
});
