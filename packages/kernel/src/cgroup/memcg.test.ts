/**
 * Memory cgroups as a kernel of 6.17 was seen to have them: the same steps, and the figures that came out where they are exact.
 */
import { expect, test } from 'vitest';
import { Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { boot } from '../boot.ts';
import type { MachineConfigInput } from '../config.ts';
import type { Machine, Process } from '../machine.ts';

const MOUNT = '/sys/fs/cgroup';
const PAGE = 4096;
const RW = 3;
const PRIVATE = 0x22;

interface Groups {
  readonly machine: Machine;
  /** Stays outside of all groups. */
  readonly keeper: Process;
  readonly mkdir: (path: string, files?: Readonly<Record<string, string>>) => void;
  readonly write: (path: string, text: string) => void;
  readonly read: (path: string) => string;
  readonly pages: (path: string) => number;
  readonly stat: (group: string, name: string) => number;
  /** A process in a group. */
  readonly inside: (group: string) => Process;
}

function groups(config: Partial<MachineConfigInput> = {}): Groups {
  const machine = boot({ memory: '256M', cpus: 1, ...config });
  const keeper = machine.createProcess({ name: 'keeper' });
  const self: Groups = {
    machine,
    keeper,
    mkdir(path, files = {}) {
      keeper.os.mkdir(`${MOUNT}/${path}`);
      for (const [file, text] of Object.entries(files)) self.write(`${path}/${file}`, text);
    },
    write: (path, text) => keeper.os.writeFile(`${MOUNT}/${path}`, text),
    read: (path) => machine.readFile(`${MOUNT}/${path}`),
    pages: (path) => Number(machine.readFile(`${MOUNT}/${path}`)) / PAGE,
    stat: (group, name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile(`${MOUNT}/${group}/memory.stat`))![1]),
    inside(group) {
      const process = machine.createProcess({ name: 'member' });
      self.write(`${group}/cgroup.procs`, String(process.pid));
      return process;
    },
  };
  self.write('cgroup.subtree_control', '+memory');
  return self;
}

function touch(os: Os, nrPages: number, first = 0): number {
  const at = os.mmap(0, nrPages * PAGE, RW, PRIVATE);
  for (let i = first; i < nrPages; i++) os.mem.store32(at + i * PAGE, i + 1);
  return at;
}

/** Opens a file. @returns its descriptor */
function open(os: Os, path: string, flags: number, mode = 0): number {
  const name = touch(os, 1);
  os.mem.storeCString(name, path);
  return os.syscall(Syscall.open, name, flags, mode);
}

/** Touches pages until the process is killed. */
function touchToDeath(process: Process, nrPages: number): void {
  try {
    touch(process.os, nrPages);
  } catch {
    // Its handle says that it has ended.
  }
}

test('pages are charged by 64; a limit that is reached kills inside the group, with the events of a real kernel', () => {
  const { machine, mkdir, write, pages, read, stat, inside } = groups();
  mkdir('h', { 'cgroup.subtree_control': '+memory' });
  mkdir('h/1', { 'memory.max': '1M' });
  const first = inside('h/1');
  touch(first.os, 10);
  expect(pages('h/1/memory.current') % 64 === 0 || pages('h/1/memory.current') >= 64).toBe(true);
  expect(stat('h/1', 'anon')).toBe(10 * PAGE);
  machine.validate();
  first.exit(0);
  const process = inside('h/1');
  touchToDeath(process, 2048);
  expect([process.alive, process.lastSignal]).toEqual([false, 9]);
  expect(read('h/1/memory.events')).toBe('low 0\nhigh 0\nmax 35\noom 1\noom_kill 1\noom_group_kill 0\n');
  expect(read('h/memory.events')).toBe(read('h/1/memory.events'));
  expect(read('h/memory.events.local')).toBe('low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n');
  expect(pages('h/1/memory.peak')).toBe(256);
  const log = machine.dmesg();
  expect(log).toContain('memory: usage 1024kB, limit 1024kB, failcnt 18\n');
  expect(log).toContain('swap: usage 0kB, limit 9007199254740988kB, failcnt 0\n');
  expect(log).toContain('Memory cgroup stats for /h/1:\n');
  expect(log).toMatch(/oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=\(null\),cpuset=\/,mems_allowed=0,oom_memcg=\/h\/1,task_memcg=\/h\/1,task=member,pid=\d+,uid=0\n/);
  expect(log).toMatch(/Memory cgroup out of memory: Killed process \d+ \(member\) total-vm:\d+kB, anon-rss:\d+kB/);
  write('h/1/memory.max', 'max');
  machine.validate();
});

test('the largest of the group goes, and nobody outside', () => {
  const { machine, keeper, mkdir, read, inside } = groups();
  touch(keeper.os, 5000);
  mkdir('k', { 'memory.max': '3M' });
  const [middle, large, small] = [inside('k'), inside('k'), inside('k')];
  touch(middle.os, 100);
  touch(large.os, 500);
  touch(small.os, 400);
  expect([keeper.alive, middle.alive, large.alive, small.alive]).toEqual([true, true, false, true]);
  expect(read('k/memory.events')).toBe('low 0\nhigh 0\nmax 18\noom 1\noom_kill 1\noom_group_kill 0\n');
  machine.validate();
});

test('with memory.oom.group all go, the victim counted twice', () => {
  const { machine, mkdir, read, inside } = groups();
  mkdir('g', { 'memory.max': '2M', 'memory.oom.group': '1' });
  const members = [inside('g'), inside('g'), inside('g')];
  for (const { os } of members) touch(os, 100);
  touchToDeath(members[2]!, 2000);
  expect(members.map(({ alive, lastSignal }) => [alive, lastSignal])).toEqual([[false, 9], [false, 9], [false, 9]]);
  expect(read('g/memory.events')).toMatch(/oom 1\noom_kill 4\noom_group_kill 1\n/);
  expect(machine.dmesg()).toContain('Tasks in /g are going to be killed due to memory.oom.group set\n');
  machine.validate();
});

test('a process that is exempt is not killed: its fault fails over and over', () => {
  const { machine, mkdir, read, inside } = groups();
  mkdir('n', { 'memory.max': '1M' });
  const process = inside('n');
  machine.writeFile(`/proc/${process.pid}/oom_score_adj`, '-1000');
  touchToDeath(process, 2000);
  expect(read('n/memory.events')).toMatch(/oom_kill 0\n/);
  expect(machine.dmesg()).toContain('Out of memory and no killable processes...\n');
});

test('a limit below what is used takes it back, or kills', () => {
  const { machine, mkdir, write, pages, read, inside } = groups();
  mkdir('l');
  const process = inside('l');
  touch(process.os, 2048);
  write('l/memory.max', '1M');
  expect(process.alive).toBe(false);
  expect(read('l/memory.events')).toBe('low 0\nhigh 0\nmax 0\noom 1\noom_kill 1\noom_group_kill 0\n');
  expect(pages('l/memory.current')).toBeLessThan(64);
  machine.validate();
});

test('beyond memory.high a task is held up for as long as on Linux', () => {
  const { machine, mkdir, read, inside } = groups();
  mkdir('a', { 'memory.high': '2M' });
  const { os } = inside('a');
  const at = os.mmap(0, 1024 * PAGE, RW, PRIVATE);
  const delays: number[] = [];
  for (let i = 0; i < 902; i++) {
    const before = machine.now;
    os.mem.store32(at + i * PAGE, 1);
    if (machine.now - before > 1e8) delays.push((machine.now - before) / 1e9);
  }
  // A real kernel: 1.030, 2.017, 2.045, 2.049, 2.050, 2.047, 2.019 s, and 119 events in the same seven rounds.
  expect(delays.map((seconds) => Math.round(seconds))).toEqual([1, 2, 2, 2, 2, 2, 2]);
  expect(read('a/memory.events')).toMatch(/high 119\n/);
  machine.validate();
});

test('what a process has stays charged where it was when it moves, and a removed group lives on while it has pages', () => {
  const { machine, mkdir, read, stat, inside, write, keeper } = groups();
  mkdir('a');
  mkdir('b');
  const process = inside('a');
  touch(process.os, 256);
  write('b/cgroup.procs', String(process.pid));
  touch(process.os, 256);
  expect([stat('a', 'anon'), stat('b', 'anon')]).toEqual([256 * PAGE, 256 * PAGE]);
  machine.validate();
  keeper.os.rmdir(`${MOUNT}/a`);
  expect(read('cgroup.stat')).toContain('nr_dying_descendants 1\n');
  machine.validate();
  process.exit(0);
  expect(read('cgroup.stat')).toContain('nr_dying_descendants 0\n');
  keeper.os.rmdir(`${MOUNT}/b`);
  machine.validate();
});

test('pages of files are the group’s that brought them in, whoever reads them', () => {
  const { machine, mkdir, stat, inside, keeper } = groups();
  mkdir('f');
  mkdir('g');
  const writer = inside('f');
  const fd = open(writer.os, '/dev/shm/x', 0o102, 0o644);
  const bytes = touch(writer.os, 1);
  for (let i = 0; i < 200; i++) writer.os.syscall(Syscall.write, fd, bytes, PAGE);
  const reader = inside('g');
  const other = open(reader.os, '/dev/shm/x', 0);
  for (let i = 0; i < 200; i++) reader.os.syscall(Syscall.read, other, touch(reader.os, 1), PAGE);
  expect([stat('f', 'shmem'), stat('f', 'file'), stat('g', 'shmem')]).toEqual([200 * PAGE, 200 * PAGE, 0]);
  machine.validate();
  writer.exit(0);
  keeper.os.rmdir(`${MOUNT}/f`);
  machine.validate();
});

test('a group that is too large is swapped out, and nobody else is', () => {
  const { machine, keeper, mkdir, pages, read, stat, inside } = groups({ swap: [{ size: '64M' }] });
  touch(keeper.os, 3000);
  mkdir('s', { 'memory.max': '2M' });
  const process = inside('s');
  const at = touch(process.os, 2048);
  expect(pages('s/memory.current')).toBeLessThanOrEqual(512);
  expect(pages('s/memory.swap.current')).toBeGreaterThan(1500);
  let wrong = 0;
  for (let i = 0; i < 2048; i++) if (process.os.mem.load32(at + i * PAGE) !== i + 1) wrong++;
  expect(wrong).toBe(0);
  expect(read('s/memory.events')).toMatch(/oom 0\n/);
  expect(stat('s', 'pswpin')).toBeGreaterThan(1500);
  expect(stat('s', 'workingset_refault_anon')).toBeGreaterThan(1500);
  // The machine as a whole was short of nothing: the keeper has all of its pages.
  expect(machine.readFile(`/proc/${keeper.pid}/status`)).toMatch(/VmSwap:\s+0 kB/);
  machine.validate();
  process.os.madvise(at, 2048 * PAGE, 4);
  expect(pages('s/memory.swap.current')).toBeLessThan(8);
  machine.validate();
});

test('memory.swap.max bounds what goes to swap: beyond it the group is out of memory', () => {
  const { machine, mkdir, pages, read, inside } = groups({ swap: [{ size: '64M' }] });
  mkdir('s', { 'memory.max': '2M', 'memory.swap.max': '1M' });
  const process = inside('s');
  touchToDeath(process, 2048);
  expect([process.alive, process.lastSignal]).toEqual([false, 9]);
  expect(read('s/memory.swap.events')).toMatch(/^high 0\nmax [1-9]\d*\nfail [1-9]\d*\n$/);
  expect(read('s/memory.events')).toMatch(/oom 1\noom_kill 1\n/);
  expect(pages('s/memory.swap.peak')).toBe(256);
  expect(machine.dmesg()).toContain('swap: usage 1024kB, limit 1024kB, failcnt ');
  machine.validate();
});

test('memory.reclaim takes what is asked for, or says that there is not as much', () => {
  const { machine, mkdir, pages, stat, inside, write } = groups({ swap: [{ size: '64M' }] });
  mkdir('s');
  const process = inside('s');
  touch(process.os, 2048);
  const before = pages('s/memory.current');
  write('s/memory.reclaim', '1M');
  const taken = before - pages('s/memory.current');
  expect(taken).toBeGreaterThanOrEqual(256);
  expect(taken).toBeLessThan(512);
  expect(stat('s', 'pgsteal_proactive')).toBeGreaterThanOrEqual(256);
  expect(() => write('s/memory.reclaim', '1M swappiness=0')).toThrow(/EAGAIN/);
  expect(() => write('s/memory.reclaim', '64M')).toThrow(/EAGAIN/);
  expect(stat('s', 'anon')).toBeLessThan(32 * PAGE);
  machine.validate();
});

test('of a group within its memory.low nothing is taken while others have something', () => {
  const { machine, mkdir, pages, read, inside, write } = groups({ swap: [{ size: '64M' }] });
  mkdir('p', { 'cgroup.subtree_control': '+memory', 'memory.low': 'max' });
  mkdir('p/1', { 'memory.low': '4M' });
  mkdir('p/2');
  for (const group of ['p/1', 'p/2']) touch(inside(group).os, 2048);
  while (pages('p/2/memory.current') > 300) write('p/memory.reclaim', '1M');
  // As on a real kernel: down to its low, and not below.
  expect(pages('p/1/memory.current')).toBeGreaterThanOrEqual(960);
  expect(read('p/1/memory.events')).toMatch(/^low 0\n/);
  for (let i = 0; i < 20; i++) {
    try {
      write('p/memory.reclaim', '1M');
    } catch {
      break;
    }
  }
  expect(pages('p/1/memory.current')).toBeLessThan(128);
  expect(read('p/1/memory.events')).toMatch(/^low [1-9]/);
  expect(read('p/2/memory.events')).toMatch(/^low 0\n/);
  machine.validate();
});

test('memory.min is left alone whatever happens', () => {
  const { machine, mkdir, pages, inside } = groups({ swap: [{ size: '64M' }] });
  mkdir('p', { 'cgroup.subtree_control': '+memory', 'memory.max': '8M', 'memory.min': '4M' });
  mkdir('p/1', { 'memory.min': '4M' });
  mkdir('p/2');
  touch(inside('p/1').os, 1000);
  touch(inside('p/2').os, 4000);
  // A real kernel: p 2015, p/1 1024, p/2 983.
  expect(pages('p/1/memory.current')).toBeGreaterThanOrEqual(1000);
  expect(pages('p/memory.current')).toBeLessThanOrEqual(2048);
  machine.validate();
});

test('memory.peak is the largest usage, and for who writes to it the largest since then', () => {
  const { machine, keeper, mkdir, read, pages, inside } = groups();
  mkdir('m');
  const process = inside('m');
  const at = touch(process.os, 1000);
  process.os.munmap(at, 1000 * PAGE);
  const peak = pages('m/memory.peak');
  expect(peak).toBeGreaterThan(1000);
  const fd = open(keeper.os, `${MOUNT}/m/memory.peak`, 2);
  const buffer = touch(keeper.os, 1);
  keeper.os.mem.store8(buffer, 0x31);
  keeper.os.syscall(Syscall.write, fd, buffer, 1);
  keeper.os.syscall(Syscall.lseek, fd, 0, 0);
  const length = keeper.os.syscall(Syscall.read, fd, buffer, 64);
  expect(Number(keeper.os.mem.loadCString(buffer).slice(0, length))).toBeLessThan(100 * PAGE);
  expect(Number(read('m/memory.peak'))).toBe(peak * PAGE);
  machine.validate();
});

test('a configuration makes groups, and programs start in them', () => {
  const machine = boot({ memory: '64M', cgroups: { '/jobs/small': { 'memory.max': '2M', 'memory.oom.group': 1 }, '/jobs': { 'memory.high': 'max' } } });
  expect(machine.readFile(`${MOUNT}/jobs/small/memory.max`)).toBe('2097152\n');
  const result = machine.run((os) => {
    os.print(os.readFile('/proc/self/cgroup').trim());
    touch(os, 1000);
  }, { cgroup: '/jobs/small' });
  expect([result.signal, machine.consoleText]).toEqual([9, expect.stringContaining('0::/jobs/small\n')]);
  expect(() => machine.createProcess({ cgroup: '/nowhere' })).toThrow(/ENOENT/);
  expect(() => machine.createProcess({ cgroup: '/jobs' })).toThrow(/EBUSY/);
  machine.validate();
  expect(() => boot({ memory: '64M', cgroups: { '/a': { 'memory.mux': 1 } } })).toThrow(/cgroups: "\/a": "memory.mux" is no file of a group/);
  expect(() => boot({ memory: '64M', cgroups: { '/a': { 'memory.max': 'lots' } } })).toThrow(/cgroups: "\/a": memory.max cannot be set to "lots"/);
});
