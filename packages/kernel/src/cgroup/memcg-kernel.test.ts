/**
 * Kernel memory that a group's tasks take, against a kernel of 6.18.15: the same steps, and by how much `memory.stat` grew. (Its
 * inodes have 8 bytes less: it is configured otherwise than the one whose objects' sizes are known here.)
 */
import { expect, test } from 'vitest';
import { Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { boot } from '../boot.ts';
import type { Machine, Process } from '../machine.ts';

const MOUNT = '/sys/fs/cgroup';
const PAGE = 4096;

function machineWithMember(kernel: '6.18' | '6.12' = '6.18'): { machine: Machine; keeper: Process; member: Process; os: Os; path: (name: string) => number } {
  const machine = boot({ memory: '256M', cpus: 2, kernel, cmdline: 'transparent_hugepage=never' });
  const keeper = machine.createProcess({ name: 'keeper' });
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory');
  keeper.os.mkdir(`${MOUNT}/a`);
  const member = machine.createProcess({ name: 'member' });
  keeper.os.writeFile(`${MOUNT}/a/cgroup.procs`, String(member.pid));
  const { os } = member;
  const page = os.mmap(0, PAGE, 3, 0x22);
  os.mem.store32(page, 1);
  return {
    machine,
    keeper,
    member,
    os,
    path(name) {
      os.mem.storeCString(page, name);
      return page;
    },
  };
}

type Figures = Partial<Record<'kernel' | 'kernel_stack' | 'pagetables' | 'percpu' | 'slab_reclaimable' | 'slab_unreclaimable' | 'file' | 'shmem', number>>;

function figures(machine: Machine, group = 'a'): Required<Figures> {
  const text = machine.readFile(`${MOUNT}/${group}/memory.stat`);
  const of = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)![1]);
  return {
    kernel: of('kernel'),
    kernel_stack: of('kernel_stack'),
    pagetables: of('pagetables'),
    percpu: of('percpu'),
    slab_reclaimable: of('slab_reclaimable'),
    slab_unreclaimable: of('slab_unreclaimable'),
    file: of('file'),
    shmem: of('shmem'),
  };
}

/** By how much the figures of the group grow while something is done. */
function grown(machine: Machine, body: () => void): Required<Figures> {
  const before = figures(machine);
  body();
  const after = figures(machine);
  for (const name of Object.keys(before) as (keyof Figures)[]) after[name] -= before[name];
  return after;
}

/** Objects of slabs with the 8 bytes of who owns them; the inode of a pipe and of an anonymous file; a dentry. */
const FILP = 200;
const INODE = 632;
const DENTRY = 200;

test('what a task opens is charged to its group: pipes, memory files, userfaultfds', () => {
  const { machine, os, path } = machineWithMember();
  const pipes: number[][] = [];
  const out = os.mmap(0, PAGE, 3, 0x22);
  os.mem.store32(out, 1);
  const open = grown(machine, () => {
    for (let i = 0; i < 100; i++) {
      os.syscall(Syscall.pipe, out);
      pipes.push([os.mem.load32(out), os.mem.load32(out + 4)]);
    }
  });
  // Two files, a dentry, an inode, the pipe itself and its array of 16 buffers.
  expect(open).toMatchObject({ kernel: 245_760, slab_reclaimable: 100 * (INODE + DENTRY), slab_unreclaimable: 100 * (2 * FILP + 200 + 1032) });
  expect(grown(machine, () => pipes.forEach(([, writer]) => os.syscall(Syscall.write, writer!, out, 1))).kernel).toBe(409_600);
  machine.validate();
  const closed = grown(machine, () => pipes.flat().forEach((fd) => os.syscall(Syscall.close, fd)));
  expect(closed.kernel).toBe(-655_360);
  const files: number[] = [];
  const memory = grown(machine, () => {
    for (let i = 0; i < 100; i++) files.push(os.syscall(Syscall.memfd_create, path('x'), 0));
  });
  expect(memory).toMatchObject({ kernel: 114_688, slab_reclaimable: 100 * DENTRY, slab_unreclaimable: 100 * (FILP + 760) });
  expect(grown(machine, () => files.forEach((fd) => os.syscall(Syscall.pwrite64, fd, out, 1, 0)))).toMatchObject({ file: 409_600, shmem: 409_600, kernel: 0 });
  expect(grown(machine, () => files.forEach((fd) => os.syscall(Syscall.close, fd)))).toMatchObject({ file: -409_600, kernel: -114_688 });
  const faults = grown(machine, () => {
    for (let i = 0; i < 100; i++) os.syscall(Syscall.userfaultfd, 1);
  });
  expect(faults).toMatchObject({ kernel: 102_400, slab_reclaimable: 100 * (INODE + DENTRY) });
  machine.validate();
});

test('nodes of a file’s tree are charged with its pages', () => {
  const { machine, os, path } = machineWithMember();
  const fd = os.syscall(Syscall.memfd_create, path('x'), 0);
  os.syscall(Syscall.ftruncate, fd, 128 * PAGE);
  const at = os.mmap(0, 128 * PAGE, 3, 1, fd, 0);
  const { slab_reclaimable: nodes, file } = grown(machine, () => {
    for (let i = 0; i < 128; i++) os.mem.store32(at + i * PAGE, 1);
  });
  expect([file, nodes % 592, nodes / 592]).toEqual([128 * PAGE, 0, 3]);
  machine.validate();
});

test('a child brings per-CPU counters; page tables are charged, and in 6.18 no longer told apart', () => {
  for (const kernel of ['6.18', '6.12'] as const) {
    const { machine, member } = machineWithMember(kernel);
    const children: Process[] = [];
    const born = grown(machine, () => {
      for (let i = 0; i < 20; i++) children.push(member.fork() as unknown as Process);
    });
    expect(born).toMatchObject({ percpu: 1280, kernel_stack: 327_680 });
    expect(born.pagetables > 0).toBe(kernel === '6.12');
    expect(born.kernel).toBeGreaterThan(born.kernel_stack + born.slab_unreclaimable);
    machine.validate();
    const gone = grown(machine, () => {
      for (const child of children) child.exit(0);
    });
    expect(gone.percpu).toBe(-1280);
    machine.validate();
  }
});

test('names and files on the disk that a group brought in go when it is at its limit', () => {
  const { machine, keeper, os, path } = machineWithMember('6.18');
  const touch = (process: Os, name: (text: string) => number, prefix: string): void => {
    for (let i = 0; i < 300; i++) process.syscall(Syscall.close, process.syscall(Syscall.open, name(`/home/${prefix}${i}`), 0o102, 0o644));
  };
  const page = keeper.os.mmap(0, PAGE, 3, 0x22);
  const keepersPath = (text: string): number => {
    keeper.os.mem.storeCString(page, text);
    return page;
  };
  touch(keeper.os, keepersPath, 'k');
  const mine = grown(machine, () => {
    touch(os, path, 'm');
  });
  expect(mine.slab_reclaimable).toBe(300 * (DENTRY + INODE));
  const objects = (): number => Number(/^dentry\s+(\d+)/m.exec(machine.readFile('/proc/slabinfo'))![1]);
  const before = objects();
  machine.validate();
  // Twice: what was used lately is spared once.
  for (let i = 0; i < 8; i++) {
    try {
      keeper.os.writeFile(`${MOUNT}/a/memory.reclaim`, '256K');
    } catch {
      break;
    }
  }
  expect(figures(machine).slab_reclaimable).toBeLessThan(mine.slab_reclaimable / 4);
  // Those of others are all there.
  expect(before - objects()).toBeLessThanOrEqual(300);
  expect(before - objects()).toBeGreaterThan(200);
  machine.validate();
});

test('what a removed group had cached is its parent’s', () => {
  const { machine, keeper, member, os, path } = machineWithMember('6.18');
  for (let i = 0; i < 100; i++) os.syscall(Syscall.close, os.syscall(Syscall.open, path(`/home/m${i}`), 0o102, 0o644));
  member.exit(0);
  keeper.os.rmdir(`${MOUNT}/a`);
  machine.validate();
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  machine.writeFile('/proc/sys/vm/drop_caches', '2');
  expect(machine.readFile(`${MOUNT}/cgroup.stat`)).toContain('nr_dying_descendants 0\n');
  machine.validate();
});
