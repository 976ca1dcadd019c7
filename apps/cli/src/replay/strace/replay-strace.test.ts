import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BufferPool, boot } from '@pagelab/kernel';
import { afterAll, describe, expect, it } from 'vitest';
import { openTrace } from '../../trace-file.ts';
import { formatStrace, replayStrace } from './replay-strace.ts';
import type { StraceResult } from './replay-strace.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

const traces = fileURLToPath(new URL('../../../../../test/data/traces/', import.meta.url));
const buffers = new BufferPool();

/** Replays on a machine that must be valid, and as empty as it was, afterwards. */
async function replay(file: string, reports?: string[]): Promise<StraceResult> {
  const machine = boot({ memory: '3G', cpus: 2 }, { buffers });
  const result = await replayStrace(machine, await openTrace(file), { strict: reports === undefined, report: (message) => reports?.push(message) });
  machine.validate();
  expect(result.memory.after.framesByOwner.anonymous ?? 0).toBe(0);
  machine.dispose();
  return result;
}

function log(name: string, ...lines: string[]): string {
  const path = join(directory, name);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

describe('a log of strace', () => {
  it.each([
    ['node', 644, 1], ['perl', 183, 2], ['sort', 104, 5], ['sqlite', 215, 1], ['errors', 32, 1],
  ])('%s: each call has a result of the recorded class', async (name, calls, processes) => {
    const result = await replay(`${traces}${name}.strace.gz`);
    expect(result.exceptions).toEqual([]);
    expect(result).toMatchObject({ calls, replayed: calls, same: calls, notReplayed: [], skippedLines: 0 });
    expect(result.processes).toHaveLength(processes);
  });

  it('leads addresses to where the machine has them, piece by piece', async () => {
    const result = await replay(log('pieces.strace',
      '1 execve("/bin/p", ["p"], 0x7ffc /* 1 var */) = 0',
      '1 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10002000',
      '1 mmap(NULL, 1048576, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x50000000',
      // Right behind the first where it was recorded, elsewhere here.
      '1 mmap(NULL, 4096, PROT_READ, MAP_SHARED|MAP_ANONYMOUS, -1, 0) = 0x10004000',
      '1 mprotect(0x10002000, 12288, PROT_READ) = 0',
      '1 munmap(0x10003000, 8192) = 0',
      '1 mprotect(0x10002000, 8192, PROT_READ) = -1 ENOMEM (Cannot allocate memory)',
      '1 mremap(0x10002000, 4096, 16384, MREMAP_MAYMOVE) = 0x20000000',
      '1 madvise(0x20000000, 16384, MADV_DONTNEED) = 0',
      '1 mmap(0x20001000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x20001000',
      '1 exit_group(0) = ?'));
    expect(result.exceptions).toEqual([]);
    expect(result).toMatchObject({ calls: 11, same: 11, assumedRanges: 0 });
  });

  it('follows children that run before their parent\'s fork has returned, and threads', async () => {
    const result = await replay(log('forks.strace',
      '10 execve("/bin/a", ["a"], 0x0) = 0',
      '10 brk(NULL) = 0x5000000',
      '10 brk(0x5021000) = 0x5021000',
      '10 vfork( <unfinished ...>',
      '11 execve("/bin/none", ["none"], 0x0) = -1 ENOENT (No such file or directory)',
      '11 execve("/bin/b", ["b"], 0x0 <unfinished ...>',
      '10 <... vfork resumed>) = 11',
      '11 <... execve resumed>) = 0',
      '11 brk(NULL) = 0x7000000',
      '10 clone(child_stack=0x7f01, flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SIGHAND, parent_tid=[12]) = 12',
      '12 brk(0x5042000) = 0x5042000',
      '12 exit(0) = ?',
      '12 +++ exited with 0 +++',
      '10 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>',
      '13 brk(0x5021000) = 0x5021000',
      '13 +++ killed by SIGKILL +++',
      '10 <... clone resumed>) = 13',
      '10 wait4(13, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}], 0, NULL) = 13',
      '11 exit_group(7) = ?',
      '11 +++ exited with 7 +++',
      '10 wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 7}], 0, NULL) = 11',
      '10 wait4(-1, 0x7ffc, WNOHANG, NULL) = -1 ECHILD (No child processes)',
      '10 +++ exited with 0 +++'));
    expect(result.exceptions).toEqual([]);
    expect(result.processes.map(({ pid, name }) => `${pid} ${name}`)).toEqual(['13 a', '11 b', '10 a']);
    expect(result.notReplayed).toEqual([{ reason: 'a program that could not be run', count: 1, calls: ['execve'], line: 5 }]);
  });

  it('makes the calls of a thread as one, until it ends or takes its process over with another program', async () => {
    const trace = log('threads.strace',
      '10 execve("/bin/a", ["a"], 0x0) = 0',
      '10 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000000',
      '10 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SIGHAND}, 88) = 11',
      '11 mprotect(0x10001000, 4096, PROT_READ) = 0',
      '11 exit(0) = ?',
      '11 +++ exited with 0 +++',
      '10 munmap(0x10000000, 8192) = 0',
      '10 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SIGHAND}, 88) = 12',
      '12 execve("/bin/b", ["b"], 0x0 <pid changed to 10 ...>',
      '10 +++ superseded by execve in pid 12 +++',
      '10 <... execve resumed>) = 0',
      '10 brk(NULL) = 0x5000000',
      '10 exit_group(3) = ?');
    const machine = boot({ memory: '3G', cpus: 2 }, { buffers });
    machine.trace.enable('sched_process_exit');
    const result = await replayStrace(machine, await openTrace(trace), { strict: true, report: () => {} });
    expect(result.exceptions).toEqual([]);
    expect(result.processes).toMatchObject([{ pid: 10, name: 'b' }]);
    expect([...machine.trace]).toHaveLength(3);
    machine.dispose();
  });

  it('names each call with another result, what was not made again, and why', async () => {
    const result = await replay(log('exceptions.strace',
      'mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 ENOMEM (Cannot allocate memory)',
      'mprotect(0x1, 4096, PROT_READ) = 0',
      'mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0) = -1 EBADF (Bad file descriptor)',
      'read(3, "\\177ELF"..., 832) = 832'));
    expect(result.exceptions).toEqual([
      { line: 1, call: 'mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)', recorded: 'ENOMEM', here: expect.stringMatching(/^0x7f/) as string },
      { line: 2, call: 'mprotect(0x1, 4096, PROT_READ)', recorded: '0', here: 'EINVAL' },
    ]);
    expect(result.notReplayed.map(({ calls, line }) => [calls, line])).toEqual([[['mmap'], 3], [['read'], 4]]);
    expect(formatStrace(result)).toMatch(/line 2: mprotect\(0x1, 4096, PROT_READ\): 0 recorded, EINVAL here/);
  });

  it('tells of broken lines by their number, or ends there', async () => {
    const reports: string[] = [];
    const broken = log('broken.strace', 'brk(NULL) = 0x1000', 'brk(NULL', '9 <... brk resumed>) = 0', 'strace: Process 9 attached');
    expect((await replay(broken, reports)).skippedLines).toBe(2);
    expect(reports).toEqual([expect.stringMatching(/broken\.strace:2: expected 'TASK CALL/), expect.stringMatching(/broken\.strace:3: 'brk' resumes without/)]);
    await expect(replay(broken)).rejects.toThrow(/broken\.strace:2: expected/);
  });
});
