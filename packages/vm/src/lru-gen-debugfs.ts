/**
 * `/sys/kernel/debug/lru_gen`: the generations and how large they are; and commands that make a generation, or take the
 * pages of the oldest ones.
 *
 * ```
 * memcg     0
 *  node     0
 *           0      12345          0        120
 *           …  sequence number, age in milliseconds, anonymous pages, pages of files
 * ```
 *
 * @linux Documentation/admin-guide/mm/multigen_lru.rst
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { ANON_AND_FILE, MAX_NR_GENS, MIN_NR_GENS, genOf, genOfLruvec } from './lru-gen.ts';
import { evictableMinSeq, tryToIncMaxSeq } from './lru-gen-aging.ts';
import { evict, newEvictRun, swappinessFor } from './lru-gen-evict.ts';
import { LruGenReclaim } from './lru-gen-policy.ts';
import { descendants } from './memcg.ts';
import { MAX_SWAPPINESS, RECLAIMER_PROACTIVE, SWAPPINESS_ANON_ONLY, ScanControl } from './scan-control.ts';
import { lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { runReclaim } from './vmscan.ts';

const NS_PER_MS = 1e6;
/** Memory cgroups by number and path; without any, all memory is number 0's. */
function groups(vm: Vm): { readonly id: number; readonly path: string; readonly lruvecs: readonly Lruvec[] }[] {
  if (vm.memcgs === null) return [{ id: 0, path: '', lruvecs: vm.pages.lru.lruvecs }];
  return [...descendants(vm.memcgs.root)];
}

/**
 * The file's text: from the oldest generation that has pages to take; `full`: all of the last four.
 *
 * @linux mm/vmscan.c:lru_gen_seq_show
 */
export function lruGenText(vm: Vm, full: boolean): string {
  if (!(vm.reclaim.policy instanceof LruGenReclaim)) return '';
  let text = '';
  for (const { id, path, lruvecs } of groups(vm)) {
    text += `memcg ${String(id).padStart(5)} ${path}\n`;
    for (const lruvec of lruvecs) text += lruvecText(vm, lruvec, full);
  }
  return text;
}

function lruvecText(vm: Vm, lruvec: Lruvec, full: boolean): string {
  let text = ` node ${String(lruvec.nid).padStart(5)}\n`;
  const lrugen = genOfLruvec(lruvec);
  const first = full ? Math.max(lrugen.maxSeq - MAX_NR_GENS + 1, 0) : evictableMinSeq(lrugen, MAX_SWAPPINESS / 2);
  for (let seq = first; seq <= lrugen.maxSeq; seq++) {
    const age = Math.floor((vm.clock.now - lrugen.birth[genOf(seq)]) / NS_PER_MS);
    text += ` ${String(seq).padStart(10)} ${String(age).padStart(10)}`;
    for (let type = 0; type < ANON_AND_FILE; type++) {
      text += ` ${String(lrugen.size(seq, type)).padStart(10)}${full && seq < lrugen.minSeq[type] ? 'x' : ' '}`;
    }
    text += '\n';
  }
  return text;
}

/**
 * Runs commands, separated by commas, semicolons or line ends: `+ memcg node seq [swappiness [force]]` makes a generation,
 * `- memcg node seq [swappiness [pages]]` takes generations up to that one.
 *
 * @returns 0, or the -errno of the first that failed: −EINVAL for what is none, −EEXIST where the generation is not the youngest
 * @linux mm/vmscan.c:lru_gen_seq_write
 */
export function lruGenCommand(vm: Vm, text: string): number {
  const { policy } = vm.reclaim;
  if (!(policy instanceof LruGenReclaim)) return -Errno.EINVAL;
  for (const line of text.split(/[,;\n]/)) {
    const words = line.trim();
    if (words === '') continue;
    const match = /^([+-])\s*(\d+)\s+(\d+)\s+(\d+)(?:\s+(\w+))?(?:\s+(\d+))?$/.exec(words);
    if (match === null) return -Errno.EINVAL;
    const [, command, memcg, nid, seq, wish, option] = match;
    const lruvec = groups(vm).find(({ id }) => id === Number(memcg))?.lruvecs[Number(nid)];
    if (lruvec === undefined) return -Errno.EINVAL;
    const sc = new ScanControl(0, GFP_KERNEL, 0, vm.pages.nodes[lruvec.nid].zones.length - 1, RECLAIMER_PROACTIVE);
    const swappiness = wish === undefined ? swappinessFor(vm, lruvec, sc) : wish === 'max' ? SWAPPINESS_ANON_ONLY : Number(wish);
    if (!(swappiness >= 0 && swappiness <= SWAPPINESS_ANON_ONLY)) return -Errno.EINVAL;
    const result =
      command === '+'
        ? runAging(policy, lruvec, Number(seq), swappiness, Number(option ?? 0) > 0)
        : runReclaim(vm, () => runEviction(policy, lruvec, Number(seq), swappiness, option === undefined ? Infinity : Number(option), sc));
    if (result < 0) return result;
  }
  return 0;
}

/** @linux mm/vmscan.c:run_aging */
function runAging(policy: LruGenReclaim, lruvec: Lruvec, seq: number, swappiness: number, force: boolean): number {
  if (seq > genOfLruvec(lruvec).maxSeq) return -Errno.EINVAL;
  return tryToIncMaxSeq(policy, lruvec, seq, swappiness, force) ? 0 : -Errno.EEXIST;
}

/** @linux mm/vmscan.c:run_eviction */
function runEviction(policy: LruGenReclaim, lruvec: Lruvec, seq: number, swappiness: number, nrToReclaim: number, sc: ScanControl): number {
  const lrugen = genOfLruvec(lruvec);
  if (seq + MIN_NR_GENS > lrugen.maxSeq) return -Errno.EINVAL;
  lruAddDrain(policy.vm);
  while (seq >= evictableMinSeq(lrugen, swappiness) && sc.nrReclaimed < nrToReclaim) {
    if (evict(policy, lruvec, sc, swappiness, nrToReclaim - sc.nrReclaimed, newEvictRun()) === 0) break;
  }
  return 0;
}
