/**
 * Writeback: what is written to a file stays in memory, dirty, until a flusher brings it to the disk; `fsync` does not wait
 * for that. On their way pages are under writeback: clean, but not to be dropped. Who writes more than the disk takes is
 * made to sleep. `/proc/meminfo` and `/proc/vmstat` tell how much is dirty, on its way, and written.
 */
import { O_CREAT, O_RDWR, PAGE_SIZE, SYNC_FILE_RANGE_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M', disk: { size: '64M', model: 'hdd' } };

const PAGES = 256;

export default function writeback(os: Os): void {
  const buffer = os.sbrk(2 * PAGE_SIZE);
  const told = (path: string, name: string): string => new RegExp(`^${name}:? +(\\d+)`, 'm').exec(os.readFile(path))![1]!;
  const tell = (when: string): void => {
    const [dirty, underWay] = [told('/proc/meminfo', 'Dirty'), told('/proc/meminfo', 'Writeback')];
    os.print(`${when}: ${dirty} KiB dirty, ${underWay} KiB on the way, ${told('/proc/vmstat', 'nr_written')} pages written`);
  };
  const seconds = (): number => {
    os.syscall(Syscall.clock_gettime, 1, buffer, 0, 0, 0, 0);
    return Number(os.mem.load64(buffer)) + Number(os.mem.load64(buffer + 8)) / 1e9;
  };

  os.mem.storeCString(buffer, '/home/report');
  const fd = os.syscall(Syscall.open, buffer, O_CREAT | O_RDWR, 0o600);
  const write = (from: number, count: number): void => {
    for (let page = from; page < from + count; page++) os.syscall(Syscall.pwrite64, fd, buffer, PAGE_SIZE, page * PAGE_SIZE);
  };
  write(0, PAGES);
  tell(`${PAGES} pages written to a file`);
  os.syscall(Syscall.sync_file_range, fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  tell('sync_file_range has sent them');
  write(0, 1);
  tell('one of them stored to meanwhile');
  os.syscall(Syscall.fsync, fd);
  tell('fsync');

  // The flusher writes from here on, and who writes more than half way to the limit sleeps.
  os.writeFile('/proc/sys/vm/dirty_bytes', String(128 * PAGE_SIZE));
  const before = seconds();
  write(0, PAGES);
  os.print(`the same with vm.dirty_bytes at ${128 * PAGE_SIZE}: ${(seconds() - before).toFixed(2)} s`);
  tell('after that');

  os.syscall(Syscall.close, fd);
  os.mem.storeCString(buffer, '/home/report');
  os.syscall(Syscall.unlink, buffer);
  os.print(`the file removed: ${told('/proc/meminfo', 'Dirty')} KiB dirty, ${told('/proc/meminfo', 'Writeback')} KiB on the way`);
}
