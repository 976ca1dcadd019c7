/**
 * Memory policies: on a machine with several nodes, where a page lies is decided when it is first touched, by the policy
 * of its mapping or of the task; what lies elsewhere can be moved.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_MF_MOVE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';

const PAGES = 8;

/** The machine it is for, as `--machine numa-server` has it. */
export const machine = { memory: '2G', cpus: 2, numa: [{ memory: '1G', cpus: [0] }, { memory: '1G', cpus: [1] }] };

export default function numaPolicy(os: Os): void {
  const map = (pages: number): number => os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const nodes = os.sbrk(PAGE_SIZE);
  const setOf = (bits: number): number => {
    os.mem.storeAddress(nodes, bits);
    return nodes;
  };
  /** The policy and the nodes of a mapping, out of its line of numa_maps. */
  const show = (what: string, start: number): void => {
    const line = os.readFile('/proc/self/numa_maps').split('\n').find((each) => each.startsWith(start.toString(16)))!;
    const [, policy] = line.split(' ');
    os.print(`${what}: policy ${policy}, pages on ${line.match(/N\d+=\d+/g)!.join(' ')}`);
  };
  const touch = (what: string): number => {
    const start = map(PAGES);
    os.mem.fill(start, PAGES * PAGE_SIZE, 1);
    show(what, start);
    return start;
  };

  os.syscall(Syscall.sched_setaffinity, 0, 8, setOf(1));
  const near = touch('no policy, on CPU 0');
  os.mprotect(near, PAGE_SIZE, PROT_READ);
  os.syscall(Syscall.set_mempolicy, MPOL_INTERLEAVE, setOf(3), 64);
  const spread = touch('two nodes in turn');
  os.mprotect(spread, PAGE_SIZE, PROT_READ);
  os.syscall(Syscall.set_mempolicy, MPOL_DEFAULT, 0, 0);
  if (os.syscall(Syscall.mbind, spread + PAGE_SIZE, (PAGES - 1) * PAGE_SIZE, MPOL_BIND, setOf(2), 64, MPOL_MF_MOVE) < 0) {
    os.print('there is no node 1');
    return;
  }
  show('bound to node 1 and moved', spread + PAGE_SIZE);
}
