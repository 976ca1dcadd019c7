import { MAP_ANONYMOUS, MAP_PRIVATE, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { MachineConfigInput } from './config.ts';

const PAGE = 4096;
const MACHINE: MachineConfigInput = { memory: '128M', cpus: 1, numa: [{ memory: '64M', cpus: [0] }, { memory: '64M', cpus: [] }] };

/** Fills node 0 with a file's pages, then asks for memory: pages of that on each node, and how often node 0 was reclaimed. */
function outcome(mode: string): { nodes: number[]; reclaims: number } {
  const machine = boot(MACHINE);
  const found: { nodes: number[]; reclaims: number } = { nodes: [], reclaims: 0 };
  const { error } = machine.run((os) => {
    const buffer = os.mmap(0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    os.mem.storeCString(buffer, '/file');
    const fd = os.syscall(Syscall.open, buffer, O_RDWR | O_CREAT, 0o600);
    os.syscall(Syscall.ftruncate, fd, 14_000 * PAGE);
    for (let at = 0; at < 14_000; at += 64) os.syscall(Syscall.pread64, fd, buffer, 64 * PAGE, at * PAGE);
    os.writeFile('/proc/sys/vm/zone_reclaim_mode', mode);
    const memory = os.mmap(0, 3000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    for (let page = 0; page < 3000; page++) os.mem.store8(memory + page * PAGE, 1);
    const line = os.readFile('/proc/self/numa_maps').split('\n').find((text) => /anon=30\d\d/.test(text))!;
    found.nodes = [0, 1].map((nid) => Number(new RegExp(`N${nid}=(\\d+)`).exec(line)?.[1] ?? 0));
    found.reclaims = Number(/zone_reclaim_success (\d+)/.exec(os.readFile('/proc/vmstat'))?.[1] ?? 0);
    return 0;
  });
  if (error !== undefined) throw error as Error;
  machine.validate();
  return found;
}

test('memory comes from another node, rather than in place of what a file has here', () => {
  const { nodes, reclaims } = outcome('0');
  expect(nodes[1]).toBeGreaterThan(1000);
  expect(reclaims).toBe(0);
});

test('or from here, where vm.zone_reclaim_mode says so', () => {
  const { nodes, reclaims } = outcome('1');
  expect(nodes[0]).toBeGreaterThan(2900);
  expect(reclaims).toBeGreaterThan(30);
});

test('a node gives up what is asked for, of files; where it has few of those, nothing, as a kernel of 6.18.15 did', () => {
  const machine = boot({ ...MACHINE, swap: [{ size: '32M' }] });
  const { os } = machine.createProcess();
  const RECLAIM = '/sys/devices/system/node/node0/reclaim';
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))![1]);
  const memory = os.mmap(0, 500 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let page = 0; page < 500; page++) os.mem.store8(memory + page * PAGE, 1);
  for (const text of ['0', '1']) os.writeFile(RECLAIM, text);
  // Whatever is wrong has one answer.
  for (const text of ['4096', '1M', 'max', 'x', '4096 swappiness=201', '4096 foo=1', '1M swappiness=200', '4M']) expect(() => { os.writeFile(RECLAIM, text); }, text).toThrow(/EAGAIN/);
  expect([count('pgscan_proactive'), count('pswpout')]).toEqual([0, 0]);
  os.mem.storeCString(memory, '/file');
  const fd = os.syscall(Syscall.open, memory, O_RDWR | O_CREAT, 0o600);
  os.syscall(Syscall.ftruncate, fd, 14_000 * PAGE);
  for (let at = 0; at < 14_000; at += 64) os.syscall(Syscall.pread64, fd, memory, 64 * PAGE, at * PAGE);
  const cached = (): number => Number(/^nr_file_pages (\d+)$/m.exec(machine.readFile('/sys/devices/system/node/node0/vmstat'))![1]);
  const before = cached();
  expect(before).toBeGreaterThan(4096);
  try {
    os.writeFile(RECLAIM, '4M');
  } catch {
    // The last two or three pages are asked for with little vigour: of a short list none is looked at.
  }
  expect(count('pgsteal_proactive')).toBeGreaterThanOrEqual(1020);
  expect(before - cached()).toBeGreaterThanOrEqual(1020);
  expect(() => { os.readFile(RECLAIM); }).toThrow();
  machine.validate();
});
