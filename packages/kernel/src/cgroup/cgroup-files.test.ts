/**
 * The files of control groups against those of a real kernel: what they take, what they answer, what they then say.
 */
import { SyscallError } from '@pagelab/abi';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { boot } from '../boot.ts';
import type { Machine, Process } from '../machine.ts';

type Write = readonly [file: string, text: string, result: number, shown: string | null];

const recorded = JSON.parse(readFileSync(new URL('../../../../test/data/cgroup/files.json', import.meta.url), 'utf8')) as {
  readonly writes: readonly Write[];
  readonly mems: readonly (readonly [text: string, result: number, shown: string, effective: string])[];
  readonly stat: readonly string[];
  readonly numaStat: readonly string[];
};

const MOUNT = '/sys/fs/cgroup';
/** Controllers that the recorded kernel had beside those that are here. */
const OTHERS = /cpu$|io$/;

function machineWithGroup(nodes = 1): { machine: Machine; process: Process } {
  const numa = nodes === 1 ? {} : { numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [] }] };
  const machine = boot({ memory: '256M', ...numa });
  const process = machine.createProcess();
  process.os.mkdir(`${MOUNT}/a`);
  process.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory +cpuset');
  return { machine, process };
}

/** What a call came to: 0, or -errno. */
function outcome(body: () => void): number {
  try {
    body();
    return 0;
  } catch (error) {
    if (error instanceof SyscallError) return -error.errno;
    throw error;
  }
}

describe('writes to the files of a group', () => {
  const { machine, process } = machineWithGroup();
  test.each(recorded.writes.filter(([file, text]) => !OTHERS.test(text) && !(file === 'cgroup.procs' && text.startsWith('1'))))(
    '%s takes %j',
    (file, text, result, shown) => {
      expect(outcome(() => process.os.writeFile(`${MOUNT}/a/${file}`, text))).toBe(Math.min(result, 0));
      if (shown !== null) expect(machine.readFile(`${MOUNT}/a/${file}`)).toBe(shown);
      if (file === 'cgroup.procs') process.os.writeFile(`${MOUNT}/cgroup.procs`, '0');
      machine.validate();
    },
  );
});

test('cpuset.mems takes lists of nodes', () => {
  const { machine, process } = machineWithGroup(2);
  for (const [text, result, shown, effective] of recorded.mems) {
    expect(outcome(() => process.os.writeFile(`${MOUNT}/a/cpuset.mems`, text)), text).toBe(Math.min(result, 0));
    expect(machine.readFile(`${MOUNT}/a/cpuset.mems`), text).toBe(shown);
    expect(machine.readFile(`${MOUNT}/a/cpuset.mems.effective`), text).toBe(effective);
  }
});

test('memory.stat and memory.numa_stat have the names of Linux, in its order', () => {
  const { machine } = machineWithGroup();
  const names = (file: string): string[] => machine.readFile(`${MOUNT}/${file}`).trim().split('\n').map((line) => line.split(' ')[0]!);
  expect(names('a/memory.stat')).toEqual(recorded.stat);
  expect(names('memory.stat')).toEqual(recorded.stat);
  expect(names('a/memory.numa_stat')).toEqual(recorded.numaStat.filter((name) => name !== 'hugetlb'));
});

test('groups are directories: what can be made and removed, and when', () => {
  const { machine, process } = machineWithGroup();
  const { os } = process;
  const mkdir = (path: string): number => outcome(() => os.mkdir(`${MOUNT}/${path}`));
  const rmdir = (path: string): number => outcome(() => os.rmdir(`${MOUNT}/${path}`));
  const write = (path: string, text: string): number => outcome(() => os.writeFile(`${MOUNT}/${path}`, text));
  expect([mkdir('a'), mkdir('memory.x'), rmdir('memory.x'), mkdir('b\nc'), mkdir('x/y'), rmdir('x')]).toEqual([-17, 0, 0, -22, -2, -2]);
  expect([rmdir(''), mkdir('a/memory.max')]).toEqual([-16, -17]);
  expect([write('a/cgroup.max.depth', '0'), mkdir('a/z'), write('a/cgroup.max.depth', 'max')]).toEqual([0, -11, 0]);
  expect([write('a/cgroup.max.descendants', '0'), mkdir('a/z'), write('a/cgroup.max.descendants', 'max')]).toEqual([0, -11, 0]);
  // A group that has processes hands nothing of its memory down, and one that does takes none in.
  mkdir('a/c');
  expect(write('a/cgroup.procs', String(process.pid))).toBe(0);
  expect(machine.readFile(`${MOUNT}/a/cgroup.events`)).toBe('populated 1\nfrozen 0\n');
  expect(machine.readFile(`${MOUNT}/a/c/cgroup.events`)).toBe('populated 0\nfrozen 0\n');
  expect([write('a/cgroup.subtree_control', '+memory'), rmdir('a')]).toEqual([-16, -16]);
  expect([write('a/c/cgroup.procs', '0'), rmdir('a/c'), write('a/cgroup.subtree_control', '+memory')]).toEqual([0, -16, 0]);
  expect(machine.readFile(`/proc/${process.pid}/cgroup`)).toBe('0::/a/c\n');
  expect([machine.readFile(`${MOUNT}/a/cgroup.procs`), machine.readFile(`${MOUNT}/a/c/cgroup.procs`)]).toEqual(['', `${process.pid}\n`]);
  expect(machine.readFile(`${MOUNT}/a/cgroup.events`)).toBe('populated 1\nfrozen 0\n');
  expect([write('a/cgroup.procs', '0'), rmdir('a/c'), rmdir('a')]).toEqual([-16, -16, -16]);
  machine.validate();
  const other = machine.createProcess();
  other.os.writeFile(`${MOUNT}/a/cgroup.kill`, '1');
  expect([process.alive, process.lastSignal]).toEqual([false, 9]);
  expect(machine.readFile(`${MOUNT}/a/cgroup.events`)).toBe('populated 0\nfrozen 0\n');
  expect([outcome(() => other.os.rmdir(`${MOUNT}/a/c`)), outcome(() => other.os.rmdir(`${MOUNT}/a`))]).toEqual([0, 0]);
  expect(machine.readFile(`${MOUNT}/cgroup.stat`)).toContain('nr_descendants 0\n');
  machine.validate();
});
