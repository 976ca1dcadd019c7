/**
 * `numapolicy`: on which node memory comes to lie under each policy, and what moves when it is told to.
 */
import { Syscall } from '@pagelab/abi';
import type { Os, VirtAddr } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { parseNumbers } from '../proc-text.ts';
import { LoadMismatch, MIB, PAGE, map, shown, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const NODES = '/sys/devices/system/node/';
const COUNTERS = ['numa_hit', 'numa_miss', 'numa_foreign', 'interleave_hit', 'local_node', 'other_node'];
/** Pages that the recorded programs have by themselves, and that move with the others. */
const OWN_PAGES = 512;
/** Pages that a program may get for itself while it touches memory. */
const STRAY_PAGES = 4;

export const numapolicy: Load = { name: 'numapolicy', run };

function run(load: LoadRun): void {
  load.stage('00-before');
  const init = load.start();
  const child = load.fork(init);
  const { os } = child;
  const stages = new NodeStages(load);
  const scratch = map(os, PAGE);
  os.mem.store8(scratch, 0);
  const fill = (label: RegExp): void => {
    const mib = Number(load.take(label)[1]);
    touchWrite(os, map(os, mib * MIB), mib * MIB, 1);
  };
  const policy = (): void => {
    const [, mode, mask, value, errno] = load.take(/^mpol\((\d+),(\d+)\) = (-?\d+) errno (\d+) /);
    os.mem.storeAddress(scratch, Number(mask));
    const result = os.syscall(Syscall.set_mempolicy, Number(mode), mask === '0' ? 0 : scratch, mask === '0' ? 0 : 64);
    load.equal('results', `set_mempolicy(${mode}, ${mask})`, value === '0' ? '0' : `errno ${errno}`, result === 0 ? '0' : shown(result));
  };

  pin(load, os, scratch, 0);
  load.take(/^pinned to cpu 0/);
  fill(/^default policy, (\d+) MiB$/);
  stages.reach('01-default-cpu0', child, 'first');
  policy();
  fill(/^MPOL_BIND node 1, (\d+) MiB$/);
  stages.reach('02-bind1', child, 'placed');
  policy();
  fill(/^MPOL_INTERLEAVE 0-1, (\d+) MiB$/);
  stages.reach('03-interleave', child, 'placed');
  policy();
  fill(/^MPOL_PREFERRED 1, (\d+) MiB$/);
  stages.reach('04-preferred1', child, 'placed');
  policy();
  pin(load, os, scratch, 1);
  fill(/^MPOL_LOCAL on cpu 1 \(node 1\), (\d+) MiB$/);
  stages.reach('05-local-cpu1', child, 'placed');
  pin(load, os, scratch, 0);
  policy();
  const bound = Number(/(\d+) MiB touched on node 0, then mbind/.exec(load.recording.text('events.txt'))?.[1] ?? 16) * MIB;
  const p = map(os, bound);
  touchWrite(os, p, bound, 1);
  os.mem.storeAddress(scratch, 2);
  load.replayCall(child, { p, m1: scratch });
  stages.reach('06-mbind-move', child, 'placed');
  for (const [from, to, stage] of [[1, 2, '07-migrate-pages'], [2, 1, '08-migrate-back']] as const) {
    os.mem.storeAddress(scratch, from);
    os.mem.storeAddress(scratch + 8, to);
    const result = os.syscall(Syscall.migrate_pages, child.pid, 64, scratch, scratch + 8);
    load.equal('results', stage, load.take(/^migrate_pages\(\d -> \d\) = (-?\d+)$/)[1], `${result}`);
    stages.reach(stage, child, 'moved');
  }
  fill(/^default policy on node 0, (\d+) MiB: spills to node 1$/);
  stages.reach('09-spill', child, 'spilt');
  compareMaps(load, child);
  load.end(child, 'numapol');
  load.stage('10-after-exit');
}

function pin(load: LoadRun, os: Os, scratch: VirtAddr, cpu: number): void {
  os.mem.store64(scratch, 1n << BigInt(cpu));
  load.equal('results', `sched_setaffinity: CPU ${cpu}`, '0', shown(os.syscall(Syscall.sched_setaffinity, 0, 8, scratch)));
}

/** Each node's `numastat` from stage to stage. */
class NodeStages {
  readonly #load: LoadRun;
  #last: { recorded: Map<string, number>; computed: Map<string, number> } | null = null;

  constructor(load: LoadRun) {
    this.#load = load;
  }

  /**
   * Ends a stage.
   *
   * @param kind what happened in it: memory was placed, or moved with the program's own; memory ran out on a node
   */
  reach(stage: string, process: Process, kind: 'first' | 'placed' | 'moved' | 'spilt'): void {
    const load = this.#load;
    load.stage(stage);
    const recorded = readNumastat(load.stageText(stage, 'numastat'));
    if (recorded.size === 0) throw new LoadMismatch(`${stage}.numastat.txt is not there`);
    const nodes = load.recording.config.numa.map(({ node }) => node).sort((a, b) => a - b);
    const computed = readNumastat(nodes.map((nid) => `== node${nid}\n${process.os.readFile(`${NODES}node${nid}/numastat`)}`).join(''));
    const last = this.#last;
    this.#last = { recorded, computed };
    if (last === null) return;
    for (const nid of nodes) {
      for (const name of COUNTERS) {
        const key = `node${nid} ${name}`;
        const was = recorded.get(key)! - last.recorded.get(key)!;
        const is = computed.get(key)! - last.computed.get(key)!;
        if (kind === 'spilt') load.shape(key, was, is);
        else load.within('NUMA', `${stage}: ${key}`, was, is, kind === 'moved' ? OWN_PAGES : STRAY_PAGES);
      }
    }
    const { recorded: was, computed: is } = load.change(previousStage(stage), stage, 'pgmigrate_success');
    // Where memory runs out, the kernel compacts as well.
    if (Number.isNaN(was)) return;
    if (kind === 'spilt') load.shape('pgmigrate_success', was, is);
    else load.within('NUMA', `${stage}: pgmigrate_success`, was, is, kind === 'moved' ? OWN_PAGES : 0);
  }
}

const STAGES = ['00-before', '01-default-cpu0', '02-bind1', '03-interleave', '04-preferred1', '05-local-cpu1', '06-mbind-move', '07-migrate-pages', '08-migrate-back', '09-spill'];

function previousStage(stage: string): string {
  return STAGES[STAGES.indexOf(stage) - 1]!;
}

function readNumastat(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const section of text.split(/^== /m).slice(1)) {
    const name = /^\w+/.exec(section)![0];
    for (const [counter, value] of parseNumbers(section)) found.set(`${name} ${counter}`, value);
  }
  return found;
}

/** The last mapping that was filled, as `numa_maps` has it. */
function compareMaps(load: LoadRun, process: Process): void {
  const lines = (text: string): string[] => text.split(/[;\n]/).filter((line) => /anon=\d{4}/.test(line));
  const largest = (text: string): string => lines(text).sort((a, b) => anonOf(b) - anonOf(a))[0] ?? '';
  const recorded = largest(load.take(/^np numa_maps: (.*)$/)[1]!);
  const own = largest(load.machine.readFile(`/proc/${process.pid}/numa_maps`));
  load.equal('NUMA', 'numa_maps: policy', recorded.split(' ')[1], own.split(' ')[1]);
  load.equal('NUMA', 'numa_maps: anon', anonOf(recorded), anonOf(own));
  for (const [, nid, pages] of recorded.matchAll(/ N(\d+)=(\d+)/g)) {
    load.shape(`numa_maps: pages on node ${nid}`, Number(pages), Number(new RegExp(` N${nid}=(\\d+)`).exec(own)?.[1] ?? 0));
  }
}

function anonOf(line: string): number {
  return Number(/anon=(\d+)/.exec(line)?.[1] ?? 0);
}
