/**
 * Nodes that a cpuset leaves, and who is killed when those have run out: as a kernel of 6.17 was seen to do.
 */
import { expect, test } from 'vitest';
import { MPOL_BIND, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { boot } from '../boot.ts';
import type { Machine, Process } from '../machine.ts';

const MOUNT = '/sys/fs/cgroup';
const PAGE = 4096;

function machineOfTwoNodes(sysctl: Record<string, number> = {}): Machine {
  return boot({ memory: '256M', cpus: 2, numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }], sysctl });
}

function touch(os: Os, nrPages: number): void {
  const at = os.mmap(0, nrPages * PAGE, 3, 0x22);
  for (let i = 0; i < nrPages; i++) os.mem.store32(at + i * PAGE, 1);
}

/** Binds all that a task allocates to one node. */
function bindTo(os: Os, nid: number): void {
  const mask = os.mmap(0, PAGE, 3, 0x22);
  os.mem.store32(mask, 1 << nid);
  expect(os.syscall(Syscall.set_mempolicy, MPOL_BIND, mask, 64)).toBe(0);
}

function touchToDeath(process: Process, nrPages = 40_000): void {
  try {
    touch(process.os, nrPages);
  } catch {
    // Its handle says that it has ended.
  }
}

function anonByNode(machine: Machine, group: string): number[] {
  const line = /^anon (.*)$/m.exec(machine.readFile(`${MOUNT}/${group}/memory.numa_stat`))![1]!;
  return line.split(' ').map((each) => Number(each.split('=')[1]) / PAGE);
}

test('a group takes pages of its nodes alone, and what it has comes along when they change', () => {
  const machine = machineOfTwoNodes();
  const keeper = machine.createProcess();
  keeper.os.mkdir(`${MOUNT}/c`);
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory +cpuset');
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '1');
  const member = machine.createProcess();
  keeper.os.writeFile(`${MOUNT}/c/cgroup.procs`, String(member.pid));
  expect(machine.readFile(`/proc/${member.pid}/status`)).toMatch(/Mems_allowed:\t2\nMems_allowed_list:\t1\n/);
  touch(member.os, 1000);
  expect(anonByNode(machine, 'c')).toEqual([0, 1000]);
  machine.validate();
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '0');
  expect(anonByNode(machine, 'c')).toEqual([1000, 0]);
  machine.validate();
  // What the parent does not have, the child has not either.
  keeper.os.writeFile(`${MOUNT}/cgroup.procs`, String(member.pid));
  keeper.os.writeFile(`${MOUNT}/c/cgroup.subtree_control`, '+cpuset');
  keeper.os.mkdir(`${MOUNT}/c/d`);
  keeper.os.writeFile(`${MOUNT}/c/d/cpuset.mems`, '1');
  expect(machine.readFile(`${MOUNT}/c/d/cpuset.mems.effective`)).toBe('0\n');
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '0-1');
  expect(machine.readFile(`${MOUNT}/c/d/cpuset.mems.effective`)).toBe('1\n');
});

test('a cpuset without memory left: somebody goes who may use its nodes', () => {
  const machine = machineOfTwoNodes();
  const keeper = machine.createProcess({ name: 'keeper' });
  keeper.os.mkdir(`${MOUNT}/c`);
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory +cpuset');
  for (const group of ['d', 'e']) {
    keeper.os.mkdir(`${MOUNT}/c/${group}`);
  }
  keeper.os.writeFile(`${MOUNT}/c/cgroup.subtree_control`, '+cpuset');
  keeper.os.writeFile(`${MOUNT}/c/d/cpuset.mems`, '1');
  keeper.os.writeFile(`${MOUNT}/c/e/cpuset.mems`, '0');
  const elsewhere = machine.createProcess({ name: 'elsewhere' });
  keeper.os.writeFile(`${MOUNT}/c/e/cgroup.procs`, String(elsewhere.pid));
  touch(elsewhere.os, 20_000);
  const member = machine.createProcess({ name: 'member' });
  keeper.os.writeFile(`${MOUNT}/c/d/cgroup.procs`, String(member.pid));
  touchToDeath(member);
  // The larger one is on a node that would not have helped.
  expect([elsewhere.alive, member.alive]).toEqual([true, false]);
  const log = machine.dmesg();
  expect(log).toMatch(/oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=\(null\),cpuset=d,mems_allowed=1,global_oom,task_memcg=\/c,task=member,/);
  expect(log).toMatch(/\] Node 1 DMA32 free:/);
  // Who is killed finds no page then, and is told of all nodes.
  expect(log.split('page allocation failure')[0]).not.toMatch(/\] Node 0 DMA32 free:/);
  expect(log).not.toMatch(/ elsewhere$/m);
  machine.validate();
});

test('nodes of a policy without memory left: who is bound to others stays', () => {
  const machine = machineOfTwoNodes();
  const other = machine.createProcess({ name: 'other' });
  bindTo(other.os, 0);
  touch(other.os, 20_000);
  const member = machine.createProcess({ name: 'member' });
  bindTo(member.os, 1);
  touchToDeath(member);
  expect([other.alive, member.alive]).toEqual([true, false]);
  expect(machine.dmesg()).toMatch(/oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=1,cpuset=\/,mems_allowed=0-1,global_oom,task_memcg=\/,task=member,/);
  expect(machine.dmesg()).not.toMatch(/ other$/m);
  machine.validate();
});

test('oom_kill_allocating_task takes who asks, a group’s limit aside', () => {
  const machine = machineOfTwoNodes({ 'vm.oom_kill_allocating_task': 1 });
  const large = machine.createProcess({ name: 'large' });
  bindTo(large.os, 1);
  touch(large.os, 20_000);
  const small = machine.createProcess({ name: 'small' });
  bindTo(small.os, 1);
  touchToDeath(small);
  expect([large.alive, small.alive]).toEqual([true, false]);
  expect(machine.dmesg()).toMatch(/Out of memory \(oom_kill_allocating_task\): Killed process \d+ \(small\)/);
});

test.each([[1, false], [2, true]])('panic_on_oom %d where only some memory is short', (value, panics) => {
  const machine = machineOfTwoNodes({ 'vm.panic_on_oom': value });
  const keeper = machine.createProcess();
  keeper.os.mkdir(`${MOUNT}/z`);
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory');
  keeper.os.writeFile(`${MOUNT}/z/memory.max`, '1M');
  const member = machine.createProcess({ name: 'member' });
  keeper.os.writeFile(`${MOUNT}/z/cgroup.procs`, String(member.pid));
  touchToDeath(member, 1000);
  if (panics) expect(() => machine.validate()).toThrow('Out of memory: compulsory panic_on_oom is enabled');
  else expect(member.alive).toBe(false);
});

test('policies name nodes of the cpuset: those that it has then', () => {
  const machine = machineOfTwoNodes();
  const keeper = machine.createProcess();
  keeper.os.mkdir(`${MOUNT}/c`);
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory +cpuset');
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '0');
  const { os, pid } = machine.createProcess();
  keeper.os.writeFile(`${MOUNT}/c/cgroup.procs`, String(pid));
  const words = os.mmap(0, PAGE, 3, 0x22);
  const policy = (mode: number, nodes: number): number => {
    os.mem.store32(words, nodes);
    return os.syscall(Syscall.set_mempolicy, mode, words, 64);
  };
  const shown = (flags = 0): number => {
    expect(os.syscall(Syscall.get_mempolicy, 0, words + 64, 64, 0, flags)).toBe(0);
    return os.mem.load32(words + 64);
  };
  expect(policy(MPOL_BIND, 2)).toBe(-22);
  expect([policy(MPOL_BIND, 3), shown(), shown(4)]).toEqual([0, 1, 1]);
  const at = os.mmap(0, 4 * PAGE, 3, 0x22);
  os.mem.store32(words, 1);
  expect(os.syscall(Syscall.mbind, at, 4 * PAGE, MPOL_BIND, words, 64, 0)).toBe(0);
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '1');
  expect([shown(), shown(4)]).toEqual([2, 2]);
  os.mem.store32(at, 1);
  expect(machine.readFile(`/proc/${pid}/numa_maps`)).toContain('bind:1 anon=1');
  // The nodes as they were given are kept where that is asked for.
  const STATIC = 0x8000;
  expect([policy(MPOL_BIND | STATIC, 3), shown()]).toEqual([0, 3]);
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '0-1');
  expect(shown()).toBe(3);
  expect([os.syscall(Syscall.set_mempolicy, 0, 0, 0), shown(4)]).toEqual([0, 3]);
  // Pages do not move to where the cpuset does not let them.
  keeper.os.writeFile(`${MOUNT}/c/cpuset.mems`, '1');
  os.mem.storeAddress(words, at);
  os.mem.store32(words + 64, 0);
  expect(os.syscall(Syscall.move_pages, 0, 1, words, words + 64, words + 128, 2)).toBe(-13);
  os.mem.store32(words, 2);
  os.mem.store32(words + 64, 1);
  expect(os.syscall(Syscall.migrate_pages, 0, 64, words, words + 64)).toBe(-22);
  machine.validate();
});
