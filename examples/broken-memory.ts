/**
 * Memory that breaks: a program is told by SIGBUS what it has lost, to the page, and may go on without it. Of a file on a disk
 * what was not stored to is read again; what was is an error that the next `fsync` tells; shared memory stays lost. In the end
 * all was a test, and the frames are taken back.
 */
import {
  BUS_MCEERR_AR, MADV_HWPOISON, MADV_SOFT_OFFLINE, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, PAGE_SIZE, PROT_READ, PROT_WRITE, SIGBUS, Syscall, errnoName, isError,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export default function brokenMemory(os: Os): void {
  const { mem } = os;
  const RW = PROT_READ | PROT_WRITE;
  const show = (result: number): string => (isError(result) ? errnoName(result) : String(result));
  const frames: bigint[] = [];
  /** Breaks the frame behind an address, or retires it, and notes its number. */
  const fail = (address: number, advice: number): void => {
    const entry = os.readFileBytes('/proc/self/pagemap', (address / PAGE_SIZE) * 8, 8);
    frames.push(new DataView(entry.buffer, entry.byteOffset).getBigUint64(0, true) & ((1n << 55n) - 1n));
    os.madvise(address, PAGE_SIZE, advice);
  };
  const corrupted = (): string => /HardwareCorrupted: +(.*)/.exec(os.readFile('/proc/meminfo'))![1]!;

  const memory = os.mmap(0, 4 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  mem.fill(memory, 4 * PAGE_SIZE, 7);
  os.sigaction(SIGBUS, ({ addr, addrLsb, code }) => {
    os.print(`SIGBUS: ${code === BUS_MCEERR_AR ? 'needs to be dealt with now' : 'for information'}, ${2 ** (addrLsb ?? 0)} bytes`);
    os.mmap(addr, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
  });
  fail(memory + PAGE_SIZE, MADV_HWPOISON);
  os.print(`mapped anew: ${mem.load8(memory + PAGE_SIZE)}, beside it: ${mem.load8(memory)}`);
  fail(memory + 2 * PAGE_SIZE, MADV_SOFT_OFFLINE);
  os.print(`retired in time: ${mem.load8(memory + 2 * PAGE_SIZE)}; lost frames: ${corrupted()}`);

  const name = os.sbrk(PAGE_SIZE);
  mem.storeCString(name, '/data');
  const fd = os.syscall(Syscall.open, name, O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, fd, 4 * PAGE_SIZE);
  const file = os.mmap(0, 4 * PAGE_SIZE, RW, MAP_SHARED, fd);
  mem.fill(file, 4 * PAGE_SIZE, 3);
  os.syscall(Syscall.fsync, fd);
  fail(file, MADV_HWPOISON);
  os.print(`a clean page of a file: ${mem.load8(file)} again, fsync ${show(os.syscall(Syscall.fsync, fd))}`);
  mem.store8(file + PAGE_SIZE, 9);
  fail(file + PAGE_SIZE, MADV_HWPOISON);
  os.print(`a dirty one: fsync ${show(os.syscall(Syscall.fsync, fd))}, then ${show(os.syscall(Syscall.fsync, fd))}`);

  const shared = os.syscall(Syscall.memfd_create, name, 0);
  os.syscall(Syscall.ftruncate, shared, PAGE_SIZE);
  const seen = os.mmap(0, PAGE_SIZE, RW, MAP_SHARED, shared);
  mem.store8(seen, 5);
  fail(seen, MADV_HWPOISON);
  os.print(`shared memory: read ${show(os.syscall(Syscall.pread64, shared, name, 1, 0))}; lost frames: ${corrupted()}`);

  os.syscall(Syscall.ftruncate, shared, 0);
  mem.storeCString(name, '/data');
  os.syscall(Syscall.unlink, name);
  for (const frame of frames) os.writeFile('/sys/kernel/debug/hwpoison/unpoison-pfn', `0x${frame.toString(16)}`);
  os.print(`taken back: ${corrupted()}`);
}
