/**
 * Files of the host: `pagelab run --attach DIR host-files FILE` lets programs read DIR at `/host`. Pages come from there when
 * they are wanted, with what lies around them; nothing can be written.
 */
import { MAP_SHARED, O_RDONLY, O_RDWR, PAGE_SIZE, PROT_READ, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export default function hostFiles(os: Os, name = 'poem.txt'): void {
  const buffer = os.sbrk(PAGE_SIZE);
  const open = (flags: number): number => {
    os.mem.storeCString(buffer, `/host/${name}`);
    return os.syscall(Syscall.open, buffer, flags, 0);
  };
  const fd = open(O_RDONLY);
  if (fd < 0) {
    os.print(`there is no /host/${name}: attach a directory with --attach`);
    return;
  }
  os.print(`opening it for writing: ${open(O_RDWR)} (EROFS)`);
  const size = os.syscall(Syscall.lseek, fd, 0, 2);
  const pages = Math.ceil(size / PAGE_SIZE);
  const at = os.mmap(0, size, PROT_READ, MAP_SHARED, fd, 0);
  const cached = (): number => os.mincore(at, size).reduce((sum, byte) => sum + (byte & 1), 0);
  os.print(`${size} bytes mapped, ${cached()} of ${pages} pages in memory`);
  const { majflt } = os.getrusage();
  os.print(`the first line: ${os.mem.loadCString(at, size).split('\n')[0]!}`);
  os.print(`${os.getrusage().majflt - majflt} major fault, ${cached()} of ${pages} pages in memory`);

  // The file and its pages stay cached until memory is wanted for something else, or they are asked to go.
  os.munmap(at, size);
  os.syscall(Syscall.close, fd);
  const fileKiB = (): number => Number(/^Cached: +(\d+)/m.exec(os.readFile('/proc/meminfo'))![1]);
  const before = fileKiB();
  // Names that were used lately have a second chance, and inodes go after their names.
  for (let round = 0; round < 3; round++) os.writeFile('/proc/sys/vm/drop_caches', '3');
  os.print(`dropped: ${before} KiB of files cached, then ${fileKiB()}`);
}
