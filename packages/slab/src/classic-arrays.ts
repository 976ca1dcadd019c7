/**
 * The memory of a cache's arrays: per-CPU memory for the CPUs', kmalloc blocks on their nodes for the others.
 *
 * @linux mm/slab.c:do_tune_cpucache, setup_kmem_cache_node (up to 6.7)
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { ArrayCache, arrayCacheBytes } from './classic-array.ts';
import type { ArrayMemory } from './classic-array.ts';
import type { ClassicGeometry } from './classic-geometry.ts';
import type { SlabHost } from './host.ts';
import type { PercpuPtr } from './percpu.ts';

/** Objects of another node that wait to be sent there. @linux mm/slab.c:alloc_alien_cache */
const ALIEN_LIMIT = 12;

/** Arrays, and what is to be freed with them. */
export interface ClassicArrays {
  /** Of each CPU. */
  readonly cpu: readonly ArrayMemory[];
  /** By node; and by node for each other. */
  readonly shared: readonly (ArrayCache | undefined)[];
  readonly alien: readonly (readonly (ArrayCache | undefined)[])[];
  readonly pointer: PercpuPtr;
  readonly blocks: readonly VirtAddr[];
}

/** Makes them. @returns `null` without memory, with nothing left behind */
export function allocArrays(host: SlabHost, { limit, batchcount, shared }: ClassicGeometry): ClassicArrays | null {
  const { machine, smp, pages } = host;
  const { wordBytes } = machine;
  const { percpu } = host.late;
  if (percpu === null) return null;
  const pointer = percpu.alloc(arrayCacheBytes(limit, wordBytes), wordBytes, GFP_KERNEL);
  if (pointer === 0) return null;
  const blocks: VirtAddr[] = [];
  const give = (): null => {
    freeArrays(host, { pointer, blocks });
    return null;
  };
  const block = (bytes: number, nid: number): VirtAddr => {
    const address = host.kmallocNode(bytes, GFP_KERNEL, nid);
    if (address !== 0) blocks.push(address);
    return address;
  };
  const array = (address: VirtAddr, entries: number): ArrayCache => new ArrayCache(memoryAt(host, address, (at) => at - pages.pageOffset), entries, 0);
  const sharedArrays: (ArrayCache | undefined)[] = [];
  const alienArrays: (ArrayCache | undefined)[][] = [];
  const alienLimit = limit > 1 ? ALIEN_LIMIT : limit;
  for (const { nid, present } of pages.nodes) {
    const home = present > 0 ? nid : -1;
    sharedArrays[nid] = undefined;
    alienArrays[nid] = [];
    if (shared > 0) {
      const address = block(arrayCacheBytes(shared * batchcount, wordBytes), home);
      if (address === 0) return give();
      sharedArrays[nid] = array(address, shared * batchcount);
    }
    if (pages.nodes.length === 1) continue;
    // An array of pointers, and for each other node a lock and its objects.
    if (block(pages.nodes.length * wordBytes, home) === 0) return give();
    for (const other of pages.nodes) {
      if (other.nid === nid) continue;
      const address = block(wordBytes + arrayCacheBytes(alienLimit, wordBytes), home);
      if (address === 0) return give();
      alienArrays[nid][other.nid] = array(address + wordBytes, alienLimit);
    }
  }
  const cpu = Array.from({ length: smp.cpus.length }, (_, id) => memoryAt(host, percpu.ptr(pointer, id), (address) => percpu.physAddr(address)));
  return { cpu, shared: sharedArrays, alien: alienArrays, pointer, blocks };
}

/** Gives their memory back. */
export function freeArrays(host: SlabHost, { pointer, blocks }: Pick<ClassicArrays, 'pointer' | 'blocks'>): void {
  host.late.percpu?.free(pointer);
  for (const block of blocks) host.kfree(block);
}

function memoryAt({ ram, machine }: SlabHost, address: VirtAddr, physAddr: (address: VirtAddr) => number): ArrayMemory {
  return {
    words: ram.i32,
    wordBytes: machine.wordBytes,
    wordAt(offset) {
      const pa = physAddr(address + offset);
      return ram.frameWord(Math.floor(pa / PAGE_SIZE)) + ((pa & (PAGE_SIZE - 1)) >> 2);
    },
  };
}
