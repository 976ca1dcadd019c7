/**
 * The fault on a page that NUMA balancing made inaccessible: it tells who uses the page, which may move to that node.
 *
 * @linux mm/memory.c:do_numa_page
 */
import { MPOL_BIND, MPOL_F_NUMA_BALANCING, MPOL_LOCAL, MPOL_PREFERRED, MPOL_PREFERRED_MANY } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_RW, PTE_UFFD_WP_LO } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_HIGHUSER_MOVABLE,
  GFP_TRANSHUGE_LIGHT,
  MIGRATE_ASYNC,
  MR_NUMA_MISPLACED,
  NODE_STAT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_SWAPBACKED,
  VM_EVENT,
  WMARK_HIGH,
  WMARK_PROMO,
  __GFP_DIRECT_RECLAIM,
  __GFP_KSWAPD_RECLAIM,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_THISNODE,
  blockOrder,
  compoundHead,
} from '@pagelab/mm-core';
import { localNode, vmaPolicyAt } from './mempolicy.ts';
import { isolateMovable, migratePages, putbackMovablePages } from './migrate.ts';
import {
  CPUPID_UNSET,
  NUMA_BALANCING_MEMORY_TIERING,
  cpupid,
  cpupidMatchesPid,
  cpupidNid,
  hintFaultLatency,
  nowMs,
  setAccessPidBit,
  taskNumaFault,
  usesAccessTime,
} from './numa-balancing.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { PTE_KEEP_HI, PTE_KEEP_LO, PTE_SPECIAL, pageProtHi, pfnOf, vmaProtLo } from './pte.ts';
import type { Vm } from './vm.ts';
import { VM_EXEC, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { wakeKswapd } from './kswapd.ts';

/** No node: the page stays where it is. */
const NO_NODE = -1;
/** Faults of so many scans move pages at once; later ones only where two in a row come from one node. */
const EARLY_SCANS = 4;
/** The threshold for promotion is changed in so many steps. @linux kernel/sched/fair.c:NUMA_MIGRATION_ADJUST_STEPS */
const ADJUST_STEPS = 16;
const PAGES_PER_GIB = 2 ** 18;
const MISPLACED_GFP =
  ((GFP_HIGHUSER_MOVABLE | __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN) & ~(__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)) | __GFP_THISNODE;

/**
 * Makes an entry accessible again, and moves its page first where it is better elsewhere.
 *
 * @param entry host word of the entry, of the last level or the third
 */
export function serveNumaHint(vma: VmArea, address: VirtAddr, entry: number): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { frames, numa, pages } = vm;
  const step = vm.tables.entryWords;
  const pfn = pfnOf(i32[entry], entryHi(i32, entry, step));
  if ((i32[entry] & PTE_SPECIAL) !== 0 || numa.lastCpupid === null) {
    makeAccessible(vma, entry, true);
    return;
  }
  const folio = compoundHead(frames, pfn);
  const nrPages = 1 << blockOrder(frames, folio);
  let nid = pages.nodeOf(folio);
  const lastCpupid = usesAccessTime(vm, nid) ? CPUPID_UNSET : numa.lastCpupid[folio];
  setAccessPidBit(vma, numa.task?.pid ?? 0);
  pages.events[VM_EVENT.NUMA_HINT_FAULTS]++;
  const local = nid === localNode(vm);
  if (local) pages.events[VM_EVENT.NUMA_HINT_FAULTS_LOCAL]++;
  const target = misplacedNode(vma, address, folio);
  if (target === NO_NODE) {
    makeAccessible(vma, entry, true);
    taskNumaFault(mm, lastCpupid, nid, nrPages, { local, migrated: false, failed: false });
    return;
  }
  const migrated = migrateMisplaced(vma, folio, target);
  // What was moved is mapped as a page that comes in is: a store to it faults once more.
  makeAccessible(vma, entry, !migrated);
  if (migrated) nid = target;
  taskNumaFault(mm, lastCpupid, nid, nrPages, { local, migrated, failed: !migrated });
}

/**
 * Gives an entry its mapping's rights back.
 *
 * @param upgrades whether a page that may be written without a fault becomes writable at once
 * @linux mm/memory.c:numa_rebuild_single_mapping
 */
function makeAccessible(vma: VmArea, entry: number, upgrades: boolean): void {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const oldLo = i32[entry];
  const oldHi = entryHi(i32, entry, step);
  const isGuarded = (oldLo & PTE_UFFD_WP_LO) !== 0 && (vma.flags & VM_UFFD_WP) !== 0;
  let lo = (oldLo & PTE_KEEP_LO) | (vmaProtLo(vma) & ~PTE_KEEP_LO) | PTE_ACCESSED;
  if (isGuarded) lo &= ~PTE_RW;
  const hi = step === 2 ? (oldHi & PTE_KEEP_HI) | (pageProtHi(vma.flags) & ~PTE_KEEP_HI) : 0;
  if (upgrades && !isGuarded && (lo & PTE_SPECIAL) === 0 && (vma.flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) {
    const flags = vm.frames.flags[pfnOf(lo, hi)];
    if ((flags & (PG_ANON | PG_ANON_EXCLUSIVE)) === (PG_ANON | PG_ANON_EXCLUSIVE)) lo |= PTE_RW;
  }
  setEntry(i32, entry, step, lo, hi);
}

/** The node that a page belongs on, by its policy and by who uses it; −1 where it lies right. @linux mm/mempolicy.c:mpol_misplaced */
function misplacedNode(vma: VmArea, address: VirtAddr, pfn: Pfn): number {
  const { vm } = vma.mm;
  const nid = vm.pages.nodeOf(pfn);
  const here = localNode(vm);
  const policy = vmaPolicyAt(vma, address) ?? vm.taskPolicy.policy;
  if (policy !== null) {
    if ((policy.flags & MPOL_F_NUMA_BALANCING) === 0) return NO_NODE;
    const { mode, nodes } = policy;
    if (mode === MPOL_BIND || mode === MPOL_PREFERRED_MANY) {
      if (!nodes.has(here)) return NO_NODE;
    } else if (mode === MPOL_PREFERRED && nodes.has(nid)) return NO_NODE;
    else if (mode !== MPOL_LOCAL && mode !== MPOL_PREFERRED) return NO_NODE;
  }
  if (nid === here) return NO_NODE;
  return shouldMigrate(vm, pfn, nid, here) ? here : NO_NODE;
}

/**
 * Whether a page goes to the node where it is used. Of slow memory it does where it was used soon after it was made
 * inaccessible; elsewhere where its use so far came from there, too.
 *
 * @linux kernel/sched/fair.c:should_numa_migrate_memory
 */
function shouldMigrate(vm: Vm, pfn: Pfn, from: number, to: number): boolean {
  const { numa, pages } = vm;
  if (pages.nodes[to].present === 0) return false;
  if (usesAccessTime(vm, from)) return shouldPromote(vm, pfn, to);
  const pid = numa.task?.pid ?? 0;
  const last = numa.lastCpupid![pfn];
  numa.lastCpupid![pfn] = cpupid(vm, pid);
  if ((numa.mode & NUMA_BALANCING_MEMORY_TIERING) === 0 && !vm.tiers.isToptier(from) && last === CPUPID_UNSET) return false;
  const early = numa.task === null || numa.task.preferredNid < 0 || numa.task.scanSeq <= EARLY_SCANS;
  if (early && (last === CPUPID_UNSET || cpupidMatchesPid(last, pid))) return true;
  // Two uses in a row from there: chance is unlikely.
  return last === CPUPID_UNSET || cpupidNid(vm, last) === to;
}

/** Whether a page of slow memory is worth a place in fast memory. */
function shouldPromote(vm: Vm, pfn: Pfn, to: number): boolean {
  const { numa, pages } = vm;
  const { vmStat } = pages.nodes[to];
  const nrPages = 1 << blockOrder(vm.frames, pfn);
  if (hasPlenty(vm, to)) {
    numa.thresholdMs[to] = 0;
    vmStat[NODE_STAT.PGPROMOTE_CANDIDATE_NRL] += nrPages;
    return true;
  }
  adjustThreshold(vm, to);
  const threshold = numa.thresholdMs[to] === 0 ? numa.hotThresholdMs : numa.thresholdMs[to];
  return hintFaultLatency(vm, pfn) < threshold && !isOverRate(vm, to, nrPages);
}

/** @linux kernel/sched/fair.c:pgdat_free_space_enough */
function hasPlenty({ pages }: Vm, nid: number): boolean {
  const node = pages.nodes[nid];
  const enough = Math.max(PAGES_PER_GIB, Math.floor(node.present / 16));
  return node.zones.some((zone) => zone.managed > 0 && zone.watermarkOk(0, zone.wmarkPages(WMARK_PROMO) + enough, node.zones.length - 1, 0, zone.nrFree));
}

/** Counts candidates for promotion, and says whether there were too many in the last second. @linux kernel/sched/fair.c:numa_promotion_rate_limit */
function isOverRate(vm: Vm, nid: number, nrPages: number): boolean {
  const { numa, pages } = vm;
  const { vmStat } = pages.nodes[nid];
  vmStat[NODE_STAT.PGPROMOTE_CANDIDATE] += nrPages;
  const candidates = vmStat[NODE_STAT.PGPROMOTE_CANDIDATE];
  const now = nowMs(vm);
  if (now - numa.rateStartMs[nid] > 1000) {
    numa.rateStartMs[nid] = now;
    numa.rateCandidates[nid] = candidates;
  }
  return candidates - numa.rateCandidates[nid] >= numa.promoteRateLimitMbps * 256;
}

/** Where more were promoted than there should be, pages must be hotter from now on. @linux kernel/sched/fair.c:numa_promotion_adjust_threshold */
function adjustThreshold(vm: Vm, nid: number): void {
  const { numa, pages } = vm;
  const now = nowMs(vm);
  if (now - numa.thresholdStartMs[nid] <= numa.scanPeriodMaxMs) return;
  numa.thresholdStartMs[nid] = now;
  const wanted = (numa.promoteRateLimitMbps * 256 * numa.scanPeriodMaxMs) / 1000;
  const candidates = pages.nodes[nid].vmStat[NODE_STAT.PGPROMOTE_CANDIDATE];
  const found = candidates - numa.thresholdCandidates[nid];
  const unit = Math.floor((numa.hotThresholdMs * 2) / ADJUST_STEPS);
  let threshold = numa.thresholdMs[nid] === 0 ? numa.hotThresholdMs : numa.thresholdMs[nid];
  if (found > wanted * 1.1) threshold = Math.max(threshold - unit, unit);
  else if (found < wanted * 0.9) threshold = Math.min(threshold + unit, numa.hotThresholdMs * 2);
  numa.thresholdCandidates[nid] = candidates;
  numa.thresholdMs[nid] = threshold;
}

/** Moves a page to a node, where that has room for it. @returns whether it is there now @linux mm/migrate.c:migrate_misplaced_folio */
function migrateMisplaced(vma: VmArea, pfn: Pfn, nid: number): boolean {
  const { vm } = vma.mm;
  const { numa, pages, tiers } = vm;
  const order = blockOrder(vm.frames, pfn);
  if (!mayLeave(vma, pfn) || !hasRoom(vm, nid, 1 << order)) return false;
  const from = pages.nodeOf(pfn);
  if (!isolateMovable(vm, pfn)) return false;
  const list = [pfn];
  const gfp = order > 0 ? (GFP_TRANSHUGE_LIGHT | __GFP_THISNODE) : MISPLACED_GFP;
  migratePages(vm, list, (_, size) => pages.allocPagesNode(nid, size === order ? gfp : MISPLACED_GFP, size), MIGRATE_ASYNC, MR_NUMA_MISPLACED);
  const moved = list.length === 0;
  putbackMovablePages(vm, list);
  if (!moved) return false;
  pages.events[VM_EVENT.NUMA_PAGES_MIGRATED] += 1 << order;
  if ((numa.mode & NUMA_BALANCING_MEMORY_TIERING) !== 0 && !tiers.isToptier(from) && tiers.isToptier(nid)) {
    pages.nodes[nid].vmStat[NODE_STAT.PGPROMOTE_SUCCESS] += 1 << order;
  }
  return true;
}

/** Whether a page may go: not one of a file that is dirty, or that many run. @linux mm/migrate.c:migrate_misplaced_folio_prepare */
function mayLeave(vma: VmArea, pfn: Pfn): boolean {
  const { flags, mapcount } = vma.mm.vm.frames;
  if ((flags[pfn] & (PG_ANON | PG_SWAPBACKED)) !== 0) return true;
  return (flags[pfn] & PG_DIRTY) === 0 && ((vma.flags & VM_EXEC) === 0 || mapcount[pfn] <= 1);
}

/** Whether a node stays balanced with so many pages more; kswapd makes room for what is to be promoted. @linux mm/migrate.c:migrate_balanced_pgdat */
function hasRoom(vm: Vm, nid: number, nrPages: number): boolean {
  const node = vm.pages.nodes[nid];
  const zones = node.zones.filter((zone) => zone.managed > 0);
  if (zones.some((zone) => zone.watermarkOk(0, zone.wmarkPages(WMARK_HIGH) + nrPages, node.zones.length - 1, 0, zone.nrFree))) return true;
  const highest = zones.at(-1);
  if ((vm.numa.mode & NUMA_BALANCING_MEMORY_TIERING) !== 0 && highest !== undefined) wakeKswapd(vm, highest, 0, 0);
  return false;
}
