/**
 * Out of memory: three programs, one of which says that it matters most, and one that nobody would miss. Without swap,
 * somebody has to go when a fourth wants all there is.
 */
import { MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, SIGKILL } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

export const machine = { memory: '64M' };

const MIB = 2 ** 20;

function use(os: Os, bytes: number): number {
  const start = os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  for (let at = 0; at < bytes; at += PAGE_SIZE) os.mem.store8(start + at, 1);
  return start;
}

/** A child that uses 6 MiB and then does nothing. */
function idle(os: Os, adj: number): number {
  return os.fork(function* (child) {
    child.writeFile('/proc/self/oom_score_adj', String(adj));
    use(child, 6 * MIB);
    for (;;) yield;
  });
}

export default function* outOfMemory(os: Os): Generator<undefined, void> {
  os.writeFile('/proc/self/oom_score_adj', '-1000');
  const names = new Map([[idle(os, -500), 'the one that matters'], [idle(os, 0), 'the one like any other'], [idle(os, 500), 'the one nobody would miss']]);
  for (let turn = 0; turn < 20; turn++) yield;
  for (const [pid, name] of names) os.print(`${name}: oom_score ${os.readFile(`/proc/${pid}/oom_score`).trim()}`);

  // It grows until it is killed itself, or has as much as it wants.
  const hog = os.fork((child) => {
    child.writeFile('/proc/self/oom_score_adj', '0');
    use(child, 64 * MIB);
  });
  os.print(`the one that wants 64 MiB: ${os.waitpid(hog)!.signal === SIGKILL ? 'killed' : 'has them'}`);
  for (const [pid, name] of names) {
    os.kill(pid, SIGKILL);
    os.waitpid(pid);
    os.print(`${name}: ${os.readFile('/dev/kmsg').includes(`Killed process ${pid} `) ? 'was killed for it' : 'lived on'}`);
  }
}
