/**
 * Recomputes what virtual memory keeps count of, from the mappings and the page tables alone, and compares.
 *
 * Costs a few steps for each mapping, each page-table entry and each TLB slot of the machine.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_WORDS, PTE_DIRTY, PTE_NX_HI, PTE_PRESENT, PTE_PS, PTE_RW } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import {
  NODE_STAT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HEAD,
  PG_HUGETLB,
  PG_KSM,
  PG_MLOCKED,
  PG_OFFLINE,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TABLE,
  PG_TAIL,
  ZONE_STAT,
  folioNrPages,
} from '@pagelab/mm-core';
import type { AnonVma } from './anon-vma.ts';
import { validateWriteback } from './folio-writeback.ts';
import type { AddressSpace, VmFile } from './file.ts';
import { isDataMapping, isExecMapping, isStackMapping } from './limits.ts';
import { validateHugetlb } from './hugetlb-validate.ts';
import { validateKsm } from './ksm-validate.ts';
import { validateMemCgroups } from './memcg-validate.ts';
import { MM_SWAPENTS } from './mm-struct.ts';
import { hwpoisonPfn } from './hwpoison.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi } from './pgtable-shape.ts';
import { findLeaf, isCountedTable, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_PROTNONE, PTE_SPECIAL, isMarker, markerOf, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { locksPages, mmCounter, pageMappings } from './rmap.ts';
import { folioOrder } from './page-cache.ts';
import { validatePageCacheNodes } from './page-cache-nodes.ts';
import { validateLru } from './swap.ts';
import { validateSwap } from './swapfile.ts';
import { pteToSwp } from './swapops.ts';
import type { Vm } from './vm.ts';
import { VM_ACCOUNT, VM_HUGETLB, VM_LOCKED, VM_MAYWRITE, VM_SHARED, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What one pass over all address spaces finds. */
interface Census {
  /** Entries that show a frame, by frame; and whether one of them is in a VM_LOCKED mapping. */
  readonly mapcount: Map<Pfn, number>;
  readonly locked: Set<Pfn>;
  /** Entries that refer to a page, or to a part of a huge one, by its head; and huge entries. */
  readonly references: Map<Pfn, number>;
  readonly hugeEntries: Map<Pfn, number>;
  /** The same of folios of files, and of pages of the huge page pool. */
  readonly filePmds: Map<Pfn, number>;
  readonly hugetlbEntries: Map<Pfn, number>;
  readonly tables: Set<Pfn>;
  /** VMAs by the file, the mapping and the anon_vmas they name. */
  readonly files: Map<VmFile, number>;
  readonly mappings: Map<AddressSpace, VmArea[]>;
  readonly chains: Map<AnonVma, number>;
  readonly activeVmas: Map<AnonVma, number>;
  accountedPages: number;
  /** Entries of page tables, and files, that name a swap slot. */
  readonly swapped: Map<number, number>;
}

/**
 * Checks every invariant of virtual memory: sizes and resident sets of each address space, page tables against
 * mappings, map and reference counts of frames, the ways back from frames, interval trees, anon_vmas, what is promised,
 * and that no CPU holds a translation that the page tables would not give it. Nothing may hold pages or be in the
 * middle of a change. Then the kernel's own areas.
 *
 * @throws KernelBug at the first that does not hold
 */
export function validateVm(vm: Vm): void {
  const census: Census = {
    mapcount: new Map(),
    locked: new Set(),
    references: new Map(),
    hugeEntries: new Map(),
    filePmds: new Map(),
    hugetlbEntries: new Map(),
    tables: new Set(),
    files: new Map(),
    mappings: new Map(),
    chains: new Map(),
    activeVmas: new Map(),
    accountedPages: 0,
    swapped: new Map(),
  };
  vm.mms.forEach((mm) => {
    validateMm(mm, census);
  });
  validateFrames(vm, census);
  validateFiles(vm, census);
  validateWriteback(vm);
  validateAnonVmas(vm, census);
  checkState(vm.committedAs, census.accountedPages, 'pages committed');
  validateTlbs(vm);
  validateLru(vm);
  validatePageCacheNodes(vm);
  validateHugetlb(vm, census.hugetlbEntries);
  validateSwap(vm, census.swapped);
  vm.zswap.validate();
  validateMemCgroups(vm);
  validateKsm(vm);
  validateBroken(vm);
  vm.vmalloc.validate();
  vm.highmem?.validate();
}

/** @throws KernelBug with this message unless the condition holds */
function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new KernelBug(`vm: ${message}`);
}

function count<K>(map: Map<K, number>, key: K): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

function hex(value: number): string {
  return `${value < 0 ? '-' : ''}0x${Math.abs(value).toString(16)}`;
}

function validateMm(mm: MmStruct, census: Census): void {
  const who = `mm ${mm.id}`;
  mm.vmas.validate();
  const pages = { total: 0, data: 0, exec: 0, stack: 0, locked: 0, vmas: 0 };
  mm.vmas.forEach((vma, start, end) => {
    check(vma.mm === mm, `${who}: holds a mapping of another address space`);
    check(vma.start === start && vma.end === end, `${who}: ${hex(vma.start)} is elsewhere in the tree`);
    check(start % PAGE_SIZE === 0 && end % PAGE_SIZE === 0 && end <= mm.taskSize, `${who}: bounds of ${hex(start)}`);
    const nrPages = (end - start) / PAGE_SIZE;
    pages.vmas++;
    pages.total += nrPages;
    if (isExecMapping(vma.flags)) pages.exec += nrPages;
    else if (isStackMapping(vma.flags)) pages.stack += nrPages;
    else if (isDataMapping(vma.flags)) pages.data += nrPages;
    if ((vma.flags & VM_LOCKED) !== 0) pages.locked += nrPages;
    if ((vma.flags & VM_ACCOUNT) !== 0) census.accountedPages += nrPages;
    noteVma(vma, census);
  });
  check(mm.mapCount === pages.vmas, `${who}: mapCount ${mm.mapCount}, mappings ${pages.vmas}`);
  check(mm.totalVm === pages.total, `${who}: totalVm ${mm.totalVm}, mapped ${pages.total}`);
  check(mm.execVm === pages.exec, `${who}: execVm ${mm.execVm}, mapped ${pages.exec}`);
  check(mm.stackVm === pages.stack, `${who}: stackVm ${mm.stackVm}, mapped ${pages.stack}`);
  check(mm.dataVm === pages.data, `${who}: dataVm ${mm.dataVm}, mapped ${pages.data}`);
  check(mm.lockedVm === pages.locked, `${who}: lockedVm ${mm.lockedVm}, mapped ${pages.locked}`);
  validateTables(mm, census);
}

function noteVma(vma: VmArea, census: Census): void {
  const { file } = vma;
  if (file !== null) {
    count(census.files, file);
    const { mapping } = file.inode;
    const known = census.mappings.get(mapping);
    if (known === undefined) census.mappings.set(mapping, [vma]);
    else known.push(vma);
  }
  for (const link of vma.anonVmaChain) {
    check(link.vma === vma && link.isPlaced, `anon_vma chain of ${hex(vma.start)} is broken`);
    checkInterval(vma, link.node.first, link.node.last);
    count(census.chains, link.anonVma);
  }
  const { anonVma } = vma;
  if (anonVma === null) return;
  check(vma.anonVmaChain.some((link) => link.anonVma === anonVma), `${hex(vma.start)} is not linked to its anon_vma`);
  count(census.activeVmas, anonVma);
}

function checkInterval(vma: VmArea, first: number, last: number): void {
  const isRight = first === vma.pgoff && last === vma.pgoff + (vma.end - vma.start) / PAGE_SIZE - 1;
  check(isRight, `interval of ${hex(vma.start)} is stale`);
}

/** Goes through the user half of the page tables. */
function validateTables(mm: MmStruct, census: Census): void {
  const { vm } = mm;
  const { ram } = vm;
  const rss = [0, 0, 0, 0];
  let tables = 0;
  let hugeEntries = 0;
  let filePmds = 0;
  let hugetlbPages = 0;
  const { entryWords: step, format, userPgdEntries } = vm.tables;
  const visit = (pfn: Pfn, base: VirtAddr, depth: number): void => {
    const level = format.levels[depth];
    const span = 2 ** level.shift;
    check(!census.tables.has(pfn), `page table ${pfn} is used twice`);
    check((vm.frames.flags[pfn] & PG_TABLE) !== 0 && vm.frames.refcount[pfn] === 1, `frame ${pfn} is no page table`);
    census.tables.add(pfn);
    const word = ram.frameWord(pfn);
    const entries = depth === 0 ? userPgdEntries : level.entries;
    for (let slot = 0; slot < entries; slot++) {
      const lo = ram.i32[word + slot * step];
      const hi = entryHi(ram.i32, word + slot * step, step);
      if ((lo | hi) === 0) continue;
      const addr = base + slot * span;
      if (span === PAGE_SIZE) {
        checkEntry(mm, addr, lo, hi, rss, census);
        if ((lo & PTE_MAPS) !== 0 && (lo & PTE_SPECIAL) === 0) count(census.references, headOf(vm, pfnOf(lo, hi)));
      } else if (span === vm.tables.pmdSize && (lo & PTE_PS) !== 0) {
        const vma = mm.vmas.get(addr);
        if (vma !== undefined && (vma.flags & VM_HUGETLB) !== 0) {
          if ((lo & PTE_MAPS) === 0) {
            check(markerOf(vm.tables, lo, hi) !== 0 || hwpoisonPfn(vm.tables, lo, hi) >= 0, `mm ${mm.id}, ${hex(addr)}: an entry that means nothing`);
            continue;
          }
          hugetlbPages++;
          check((lo & PTE_RW) === 0 || (vma.flags & VM_WRITE) !== 0, `mm ${mm.id}, ${hex(addr)}: writable against the mapping's rights`);
          count(census.hugetlbEntries, pfnOf(lo, hi));
          continue;
        }
        if (vma?.file) {
          filePmds++;
          checkFilePmd(mm, addr, lo, hi, rss, census);
          continue;
        }
        hugeEntries++;
        checkHugeEntry(mm, addr, lo, hi, rss, census);
      } else {
        tables++;
        visit(pfnOf(lo, hi), addr, depth + 1);
      }
    }
  };
  visit(mm.pgd, 0, 0);
  check(mm.depositedTables.length === hugeEntries, `mm ${mm.id}: ${mm.depositedTables.length} tables set aside, ${hugeEntries} huge entries`);
  for (const table of mm.depositedTables) {
    check(!census.tables.has(table) && (vm.frames.flags[table] & PG_TABLE) !== 0, `frame ${table} is no table set aside`);
    census.tables.add(table);
  }
  tables += hugeEntries;
  check(mm.filePmds === filePmds, `mm ${mm.id}: ${mm.filePmds} third-level entries of files, found ${filePmds}`);
  check(mm.hugetlbPages === hugetlbPages, `mm ${mm.id}: ${mm.hugetlbPages} huge pages of the pool, entries ${hugetlbPages}`);
  check(mm.pgtablesBytes === tables * PAGE_SIZE, `mm ${mm.id}: pgtablesBytes ${mm.pgtablesBytes}, tables ${tables}`);
  for (let kind = 0; kind < rss.length; kind++) {
    check(mm.rss[kind] === rss[kind], `mm ${mm.id}: rss[${kind}] ${mm.rss[kind]}, entries ${rss[kind]}`);
  }
  const own = ram.frameWord(mm.pgd);
  const kernel = ram.frameWord(vm.kernelPgd);
  for (let word = userPgdEntries * step; word < PAGE_WORDS; word++) {
    check(ram.i32[own + word] === ram.i32[kernel + word], `mm ${mm.id}: kernel half differs`);
  }
}

/** A huge entry says what a table of small ones would. */
function checkHugeEntry(mm: MmStruct, addr: VirtAddr, lo: number, hi: number, rss: number[], census: Census): void {
  const { vm } = mm;
  const head = pfnOf(lo, hi);
  const where = `mm ${mm.id}, ${hex(addr)}`;
  check((lo & PTE_MAPS) !== 0 && head % vm.tables.ptrsPerPte === 0, `${where}: a huge entry that shows no block`);
  if ((lo & PTE_SPECIAL) !== 0) {
    check(head === vm.hugeZero.pfn && (lo & PTE_RW) === 0, `${where}: a special huge entry that is not the zero page`);
    return;
  }
  check((vm.frames.flags[head] & PG_HEAD) !== 0, `${where}: a huge entry that shows no huge page`);
  count(census.references, head);
  count(census.hugeEntries, head);
  for (let i = 0; i < vm.tables.ptrsPerPte; i++) {
    checkEntry(mm, addr + i * PAGE_SIZE, leafLo(vm.tables, lo, addr + i * PAGE_SIZE), hi, rss, census);
  }
}

/** A third-level entry of a file says what a table of small ones would; its pages are one folio. */
function checkFilePmd(mm: MmStruct, addr: VirtAddr, lo: number, hi: number, rss: number[], census: Census): void {
  const { vm } = mm;
  const head = pfnOf(lo, hi);
  check((lo & PTE_MAPS) !== 0 && head % vm.tables.ptrsPerPte === 0, `mm ${mm.id}, ${hex(addr)}: a huge entry that shows no block`);
  count(census.filePmds, head);
  for (let i = 0; i < vm.tables.ptrsPerPte; i++) {
    check(folioOrder(vm, head + i) === vm.tables.hugeOrder, `mm ${mm.id}, ${hex(addr)}: a huge entry that shows small folios`);
    count(census.references, head + i);
    checkEntry(mm, addr + i * PAGE_SIZE, leafLo(vm.tables, lo, addr + i * PAGE_SIZE), hi, rss, census);
  }
}

/** The head of a page that may be a part of a huge one. */
function headOf(vm: Vm, pfn: Pfn): Pfn {
  return (vm.frames.flags[pfn] & PG_TAIL) === 0 ? pfn : vm.frames.next[pfn];
}

function checkEntry(mm: MmStruct, addr: VirtAddr, lo: number, hi: number, rss: number[], census: Census): void {
  const { vm } = mm;
  const vma = mm.vmas.get(addr);
  const where = `mm ${mm.id}, ${hex(addr)}`;
  check(vma !== undefined, `${where}: a page outside every mapping`);
  if ((lo & PTE_MAPS) === 0) {
    const swp = pteToSwp(vm.tables.entryWords, lo, hi);
    if (swp >= 0) {
      rss[MM_SWAPENTS]++;
      count(census.swapped, swp);
      return;
    }
    check(isMarker(vm.tables, lo, hi) || hwpoisonPfn(vm.tables, lo, hi) >= 0, `${where}: an entry that means nothing`);
    return;
  }
  const rights = PTE_PRESENT | PTE_PROTNONE;
  const isHinting = vm.numa.lastCpupid !== null && (lo & (rights | PTE_RW)) === PTE_PROTNONE;
  check(isHinting || (lo & rights) === (pageProtLo(vma.flags) & rights), `${where}: present against the mapping's rights`);
  check(isHinting || !vm.tables.format.noExecute || (hi & PTE_NX_HI) === (pageProtHi(vma.flags) & PTE_NX_HI), `${where}: executable against the mapping's rights`);
  check((lo & PTE_RW) === 0 || (vma.flags & VM_WRITE) !== 0, `${where}: writable against the mapping's rights`);
  const pfn = pfnOf(lo, hi);
  if ((lo & PTE_SPECIAL) !== 0) {
    check(pfn === vm.zeroPfn && (lo & PTE_RW) === 0, `${where}: a special entry that is not the zero page`);
    return;
  }
  const pageFlags = vm.frames.flags[pfn];
  if ((lo & PTE_RW) !== 0 && (vma.flags & VM_SHARED) === 0) {
    check((pageFlags & PG_ANON_EXCLUSIVE) !== 0, `${where}: others may see frame ${pfn}, and it is writable`);
  }
  check((pageFlags & PG_ANON) !== 0 || vma.file !== null, `${where}: a page of a file in anonymous memory`);
  check((pageFlags & PG_ANON) === 0 || (vma.flags & VM_SHARED) === 0, `${where}: a private page in shared memory`);
  rss[mmCounter(pageFlags)]++;
  count(census.mapcount, pfn);
  if (locksPages(vma)) census.locked.add(pfn);
}

function validateFrames(vm: Vm, census: Census): void {
  const { flags, refcount, mapcount, mapping, index } = vm.frames;
  let anonMapped = 0;
  let fileMapped = 0;
  let hugeMapped = 0;
  const mappedParts = new Map<Pfn, number>();
  for (const [pfn, mappings] of census.mapcount) {
    const pageFlags = flags[pfn];
    const isAnon = (pageFlags & PG_ANON) !== 0;
    check(!census.tables.has(pfn), `frame ${pfn} is a page and a page table`);
    check(mapcount[pfn] === mappings, `frame ${pfn}: mapcount ${mapcount[pfn]}, mapped ${mappings} times`);
    const cached = isAnon ? 0 : 1;
    const head = headOf(vm, pfn);
    const inSwapCache = (flags[head] & PG_SWAPCACHE) !== 0 ? folioNrPages(vm.frames, head) : 0;
    const references = census.references.get(head)! + cached + inSwapCache + (vm.heldPages.get(head) ?? 0);
    check(refcount[head] === references, `frame ${head}: refcount ${refcount[head]}, ${references} references`);
    if ((pageFlags & (PG_HEAD | PG_TAIL)) !== 0) mappedParts.set(head, (mappedParts.get(head) ?? 0) + 1);
    check((pageFlags & PG_ANON_EXCLUSIVE) === 0 || mappings === 1, `frame ${pfn}: exclusive, mapped ${mappings} times`);
    if (isAnon) anonMapped++;
    else {
      fileMapped++;
      check(vm.mappings.get(mapping[pfn])?.pages.get(index[pfn]) === pfn, `frame ${pfn}: not in its file's cache`);
    }
    const found = pageMappings(vm, pfn).length;
    // KSM finds those who brought a shared page back from swap when it looks at them next.
    check(found === mappings || (found < mappings && (pageFlags & PG_KSM) !== 0), `frame ${pfn}: mapped ${mappings} times, found ${found}`);
    const isLocked = (pageFlags & PG_MLOCKED) !== 0;
    check(isLocked === census.locked.has(pfn), `frame ${pfn}: mlocked without a locked mapping`);
  }
  for (const [head, parts] of mappedParts) {
    const { private: priv } = vm.frames;
    const hugeEntries = census.hugeEntries.get(head) ?? 0;
    if (hugeEntries > 0) hugeMapped += vm.tables.ptrsPerPte;
    checkState(priv[head], hugeEntries, `frame ${head}: huge mappings`);
    checkState(priv[head + 2], parts, `frame ${head}: mapped parts`);
    const isPartial = vm.deferredSplit.isPartial(head) === true;
    // One that was in swap is not noted: its parts come back one by one.
    const wasSwapped = !isPartial && (flags[head] & (PG_SWAPCACHE | PG_DIRTY)) !== 0;
    check(isPartial === parts < vm.tables.ptrsPerPte || wasSwapped, `frame ${head}: ${parts} parts mapped, and that is not noted`);
  }
  validateFilePmds(vm, census);
  for (const head of vm.deferredSplit.heads()) check(mappedParts.has(head), `frame ${head}: to be split, but not mapped`);
  checkState(vm.pages.nodeState(NODE_STAT.NR_ANON_THPS), hugeMapped, 'NR_ANON_THPS');
  checkState(vm.pages.nodeState(NODE_STAT.NR_ANON_MAPPED), anonMapped, 'NR_ANON_MAPPED');
  checkState(vm.pages.nodeState(NODE_STAT.NR_FILE_MAPPED), fileMapped, 'NR_FILE_MAPPED');
  checkState(vm.pages.zoneState(ZONE_STAT.NR_MLOCK), census.locked.size, 'NR_MLOCK');
  let counted = 0;
  for (const pfn of census.tables) if (isCountedTable(vm, pfn)) counted++;
  check(vm.pages.nodeState(NODE_STAT.NR_PAGETABLE) >= counted, 'NR_PAGETABLE is too low');
}

function validateFilePmds(vm: Vm, { filePmds }: Census): void {
  check(vm.isolatedFolios.size === 0, 'folios that were to be moved are still isolated');
  let shmem = 0;
  let file = 0;
  for (const [head, entries] of filePmds) {
    checkState(vm.pmdMapped.get(head) ?? 0, entries, `frame ${head}: third-level entries`);
    if ((vm.frames.flags[head] & PG_SWAPBACKED) !== 0) shmem += vm.tables.ptrsPerPte;
    else file += vm.tables.ptrsPerPte;
  }
  checkState(vm.pmdMapped.size, filePmds.size, 'folios that third-level entries show');
  checkState(vm.pages.nodeState(NODE_STAT.NR_SHMEM_PMDMAPPED), shmem, 'NR_SHMEM_PMDMAPPED');
  checkState(vm.pages.nodeState(NODE_STAT.NR_FILE_PMDMAPPED), file, 'NR_FILE_PMDMAPPED');
}

function checkState(counted: number, found: number, name: string): void {
  check(counted === found, `${name} is ${counted}, found ${found}`);
}

function validateFiles(vm: Vm, census: Census): void {
  const { flags, refcount, mapcount, mapping: mappingOf, index } = vm.frames;
  let filePages = 0;
  let shmemPages = 0;
  let tmpfsPages = 0;
  let shmemThps = 0;
  let fileThps = 0;
  vm.mappings.forEach((mapping, id) => {
    const { inode, pages, mmap } = mapping;
    const isHugetlb = mapping.ops === vm.hugetlbOps;
    check(mapping.id === id && inode.mapping === mapping, `mapping ${id}: wrong id`);
    pages.validate();
    mmap.validate();
    pages.forEachIn(0, Infinity, (pfn, pgoff) => {
      const knowsIt = mappingOf[pfn] === id && index[pfn] === pgoff;
      check(knowsIt, `frame ${pfn}: cached at ${pgoff} of ${id}, knows of another`);
      if (isHugetlb) return;
      const kept = (vm.hwpoison.kept.has(pfn) ? 1 : 0) + (vm.heldPages.get(pfn) ?? 0);
      check(refcount[pfn] === mapcount[pfn] + 1 + kept, `frame ${pfn}: refcount ${refcount[pfn]}, mapcount ${mapcount[pfn]}`);
      check(!census.tables.has(pfn), `frame ${pfn} is cached and a page table`);
      filePages++;
      if ((flags[pfn] & PG_SWAPBACKED) !== 0) shmemPages++;
      if (folioOrder(vm, pfn) === vm.tables.hugeOrder) {
        if (mapping.ops.swapBacked) shmemThps++;
        else fileThps++;
      }
    });
    if (mapping.ops.swapBacked) {
      census.accountedPages += inode.accounted ? Math.ceil(inode.size / PAGE_SIZE) : pages.size + mapping.swaps.size;
    }
    if (inode.superBlock === vm.tmpfs) tmpfsPages += pages.size + mapping.swaps.size;
    mapping.swaps.forEachIn(0, Infinity, (swp, pgoff) => {
      check(!pages.has(pgoff), `mapping ${id}: page ${pgoff} is cached and swapped out`);
      count(census.swapped, swp);
    });
    const vmas = census.mappings.get(mapping) ?? [];
    check(mmap.size === vmas.length, `mapping ${id}: ${mmap.size} VMAs known, ${vmas.length} there`);
    let writable = 0;
    for (const vma of vmas) {
      check(vma.mmapNode !== null && vma.mmapNode.value === vma, `${hex(vma.start)}: not among its file's mappings`);
      checkInterval(vma, vma.mmapNode.first, vma.mmapNode.last);
      if ((vma.flags & (VM_SHARED | VM_MAYWRITE)) === (VM_SHARED | VM_MAYWRITE)) writable++;
    }
    if (mapping.mmapWritable >= 0) checkState(mapping.mmapWritable, writable, `mapping ${id}: mmapWritable`);
  });
  checkState(vm.tmpfs.usedBlocks, tmpfsPages, 'pages of files in shared memory');
  for (const [mapping] of census.mappings) {
    check(vm.mappings.get(mapping.id) === mapping, 'a mapping of a file that is gone');
  }
  for (const [file, users] of census.files) {
    check(file.refcount >= users, `${file.path}: ${file.refcount} references, ${users} VMAs`);
  }
  const swapCached = vm.pages.nodeState(NODE_STAT.NR_SWAPCACHE);
  checkState(vm.pages.nodeState(NODE_STAT.NR_FILE_PAGES), filePages + swapCached, 'NR_FILE_PAGES');
  checkState(vm.pages.nodeState(NODE_STAT.NR_SHMEM), shmemPages, 'NR_SHMEM');
  checkState(vm.pages.nodeState(NODE_STAT.NR_SHMEM_THPS), shmemThps, 'NR_SHMEM_THPS');
  checkState(vm.pages.nodeState(NODE_STAT.NR_FILE_THPS), fileThps, 'NR_FILE_THPS');
}

function validateAnonVmas(vm: Vm, census: Census): void {
  const children = new Map<AnonVma, number>();
  const descendants = new Map<AnonVma, number>();
  vm.anonVmas.forEach((anonVma) => {
    // One without VMAs lives on for those below it, but is no child any more.
    if (anonVma.chains.size > 0) count(children, anonVma.parent);
    if (anonVma.root !== anonVma) count(descendants, anonVma.root);
  });
  vm.anonVmas.forEach((anonVma, id) => {
    const who = `anon_vma ${id}`;
    anonVma.chains.validate();
    const links = census.chains.get(anonVma) ?? 0;
    check(anonVma.chains.size === links, `${who}: ${anonVma.chains.size} links, VMAs have ${links}`);
    checkState(anonVma.numActiveVmas, census.activeVmas.get(anonVma) ?? 0, `${who}: numActiveVmas`);
    checkState(anonVma.numChildren, children.get(anonVma) ?? 0, `${who}: numChildren`);
    checkState(anonVma.refcount, (links > 0 ? 1 : 0) + (descendants.get(anonVma) ?? 0), `${who}: refcount`);
  });
  for (const [anonVma] of census.chains) {
    check(vm.anonVmas.get(anonVma.id) === anonVma, 'linked to an anon_vma that is gone');
  }
}

/** What a CPU may use without asking is what the page tables say. */
function validateTlbs(vm: Vm): void {
  for (const cpu of vm.smp.cpus) {
    let owner: MmStruct | undefined;
    vm.mms.forEach((mm) => {
      if (mm.pgd * PAGE_SIZE === cpu.cr3) owner = mm;
    });
    // A lazy CPU drops what it holds before it is used again.
    if (owner === undefined || vm.smp.isLazy(cpu.id)) continue;
    const { tlb } = cpu;
    for (const page of tlb.tags) {
      if (Number.isNaN(page)) continue;
      const entry = findLeaf(owner, page);
      const lo = entry < 0 ? 0 : leafLo(vm.tables, vm.ram.i32[entry], page);
      const hi = entry < 0 ? 0 : entryHi(vm.ram.i32, entry, vm.tables.entryWords);
      const frame = (lo & PTE_PRESENT) === 0 ? -1 : vm.ram.frameWord(pfnOf(lo, hi));
      const where = `CPU ${cpu.id} holds a stale translation of ${hex(page)}`;
      const read = tlb.lookupRead(page);
      const write = tlb.lookupWrite(page);
      const fetch = tlb.lookupFetch(page);
      check(read < 0 || read === frame, where);
      check(write < 0 || (write === frame && (lo & PTE_RW) !== 0 && (lo & PTE_DIRTY) !== 0), `${where} for writing`);
      check(fetch < 0 || (fetch === frame && (hi & PTE_NX_HI) === 0), `${where} for fetching`);
    }
  }
}

/** Broken frames are nobody's, or stay where they were with one reference more. */
function validateBroken({ frames, hwpoison }: Vm): void {
  for (const pfn of hwpoison.takenOff) {
    const isAlone = frames.refcount[pfn] === 1 && frames.mapcount[pfn] === 0 && frames.mapping[pfn] === 0;
    if (!isAlone || (frames.flags[pfn] & PG_OFFLINE) === 0) throw new KernelBug(`frame ${pfn}: broken, and somebody's`);
    if (!hwpoison.frames.has(pfn)) throw new KernelBug(`frame ${pfn}: taken out, and not broken`);
  }
  for (const pfn of hwpoison.kept) {
    const cached = frames.mapping[pfn] !== 0 || (frames.flags[pfn] & PG_SWAPCACHE) !== 0 ? 1 : 0;
    const pool = (frames.flags[pfn] & PG_HUGETLB) !== 0 ? 1 : 0;
    if (frames.refcount[pfn] !== 1 + cached + pool || frames.mapcount[pfn] !== 0) throw new KernelBug(`frame ${pfn}: broken, with ${frames.refcount[pfn]} references`);
  }
}
