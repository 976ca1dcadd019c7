/**
 * Writeback: what is written to a file stays in memory, dirty, until a flusher brings it to the disk; `fsync` does not wait
 * for that. `/proc/meminfo` and `/proc/vmstat` tell how much is dirty and how much was written.
 */
import { O_CREAT, O_RDWR, PAGE_SIZE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const PAGES = 256;

export default function writeback(os: Os): void {
  const buffer = os.sbrk(2 * PAGE_SIZE);
  const told = (path: string, name: string): string => new RegExp(`^${name}:? +(\\d+)`, 'm').exec(os.readFile(path))![1]!;
  const tell = (when: string): void => {
    os.print(`${when}: ${told('/proc/meminfo', 'Dirty')} KiB dirty, ${told('/proc/vmstat', 'nr_written')} pages written`);
  };

  os.mem.storeCString(buffer, '/home/report');
  const fd = os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600);
  const write = (from: number, count: number): void => {
    for (let page = from; page < from + count; page++) os.syscall(Syscall.pwrite64, fd, buffer, PAGE_SIZE, page * PAGE_SIZE);
  };
  write(0, PAGES);
  tell(`${PAGES} pages written to a file`);
  os.syscall(Syscall.fsync, fd);
  tell('fsync');

  // The flusher writes from here on, and who writes more than half way to the limit waits for it.
  os.writeFile('/proc/sys/vm/dirty_bytes', String(128 * PAGE_SIZE));
  write(0, PAGES);
  tell(`the same with vm.dirty_bytes at ${128 * PAGE_SIZE}`);

  os.syscall(Syscall.close, fd);
  os.mem.storeCString(buffer, '/home/report');
  os.syscall(Syscall.unlink, buffer);
  tell('the file removed');
}
