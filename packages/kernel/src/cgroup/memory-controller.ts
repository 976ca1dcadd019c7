/**
 * The memory controller of a group: `memory.*` are its files, {@link MemCgroup} of virtual memory is what it controls by.
 *
 * @linux mm/memcontrol.c
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { SLAB_HWCACHE_ALIGN, SLAB_PANIC } from '@pagelab/slab';
import type { KmemCache } from '@pagelab/slab';
import { enableMemCgroups, memcgHandleOverHigh } from '@pagelab/vm';
import type { MemCgroup, MemCgroups, MemcgTask } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import { memcgOutOfMemory } from '../oom-kill.ts';
import { sleepTask } from '../scheduler.ts';
import type { Task } from '../task.ts';

/** Bytes of `struct mem_cgroup` in a kernel of 6.18. */
const MEM_CGROUP_BYTES = 2240;

/** The cache of groups, made when it is first wanted. */
function memcgCache(kernel: Kernel): KmemCache {
  kernel.memcgCache ??= kernel.slab.kmemCacheCreate({
    name: 'mem_cgroup',
    size: MEM_CGROUP_BYTES,
    align: 0,
    flags: SLAB_PANIC | SLAB_HWCACHE_ALIGN,
  }) as KmemCache;
  return kernel.memcgCache;
}

/** All groups; from the first time on that they are wanted, memory is charged. */
export function memcgsOf(kernel: Kernel): MemCgroups {
  if (kernel.vm.memcgs !== null) return kernel.vm.memcgs;
  const memcgs = enableMemCgroups(kernel.vm, {
    outOfMemory: (memcg, gfp, order) => memcgOutOfMemory(kernel, memcg, gfp, order),
    released: (memcg) => {
      memcgCache(kernel).free(memcg.object);
      memcg.object = 0;
      // The cache is there while there are groups.
      if (kernel.vm.memcgs!.nrGroups === 0 && kernel.slab.kmemCacheDestroy(memcgCache(kernel)) === 0) kernel.memcgCache = null;
    },
  });
  for (const task of kernel.tasks.values()) task.memcgTask.memcg = memcgs.root;
  memcgs.current = kernel.current?.memcgTask ?? null;
  return memcgs;
}

/**
 * Makes the controller of a group.
 *
 * @param parent the one above; `null` for the root
 * @returns it, or −ENOMEM
 */
export function createMemcg(kernel: Kernel, parent: MemCgroup | null, path: string): MemCgroup | number {
  const object = memcgCache(kernel).alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENOMEM;
  const memcgs = memcgsOf(kernel);
  const memcg = memcgs.create(parent ?? memcgs.root, path);
  if (memcg === null) {
    memcgCache(kernel).free(object);
    return -Errno.ENOMEM;
  }
  memcg.object = object;
  return memcg;
}

/** The group is removed: see `MemCgroups.offline`. */
export function removeMemcg(kernel: Kernel, memcg: MemCgroup): void {
  kernel.vm.memcgs!.offline(memcg);
}

/** On its way back to user mode a task pays for what its group uses too much. @linux include/linux/resume_user_mode.h:resume_user_mode_work */
export function payOverHigh(task: Task): void {
  const { memcgs } = task.kernel.vm;
  if (memcgs === null || task.memcgTask.nrPagesOverHigh === 0 || memcgs.current !== task.memcgTask) return;
  const ns = memcgHandleOverHigh(memcgs);
  if (ns > 0) sleepTask(task, ns);
}

/** What of a task its group sees. */
export class TaskMemcg implements MemcgTask {
  memcg!: MemCgroup;
  nrPagesOverHigh = 0;
  readonly #task: Task;

  constructor(task: Task) {
    this.#task = task;
  }

  isDying(): boolean {
    const task = this.#task;
    return task.isDead || task.oomVictim || task.pending.some(({ signo }) => signo === 9) || task.process.pending.some(({ signo }) => signo === 9);
  }
}
