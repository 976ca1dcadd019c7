import { MAP_ANONYMOUS, MAP_PRIVATE, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';

const PAGE = 4096;
/** @linux include/uapi/linux/fadvise.h */
const POSIX_FADV_RANDOM = 1;
const stat = (text: string, name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)![1]);

test('what is remembered of pages that went does not fill memory', () => {
  const machine = boot({ memory: '64M' });
  const reads = 30_000;
  const { status, error } = machine.run((os) => {
    const buffer = os.mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.storeCString(buffer, '/large');
    const fd = os.syscall(Syscall.open, buffer, O_RDWR | O_CREAT, 0o600);
    os.syscall(Syscall.ftruncate, fd, reads * 64 * PAGE);
    os.syscall(Syscall.fadvise64, fd, 0, 0, POSIX_FADV_RANDOM);
    // Each page is the only one of its node: once it has gone, the node holds its shadow alone.
    for (let read = 0; read < reads; read++) expect(os.syscall(Syscall.pread64, fd, buffer, PAGE, read * 64 * PAGE)).toBe(PAGE);
    const vmstat = os.readFile('/proc/vmstat');
    const nodes = stat(vmstat, 'workingset_nodes');
    expect(nodes).toBeGreaterThan(500);
    expect(nodes).toBeLessThan(5000);
    expect(stat(vmstat, 'workingset_nodereclaim')).toBeGreaterThan(10_000);
    expect(stat(vmstat, 'pgsteal_kswapd')).toBeGreaterThan(10_000);
    machine.validate();
    // The file goes, and all that is remembered of it.
    os.syscall(Syscall.ftruncate, fd, 0);
    expect(stat(os.readFile('/proc/vmstat'), 'workingset_nodes')).toBe(0);
    expect(Number(/^radix_tree_node +(\d+)/m.exec(os.readFile('/proc/slabinfo'))![1])).toBeLessThan(200);
    return 0;
  });
  if (error !== undefined) throw error as Error;
  expect(status).toBe(0);
  machine.validate();
});
