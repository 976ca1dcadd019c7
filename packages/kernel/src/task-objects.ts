/**
 * What a task and a process take of kernel memory: slab objects, and the frames of the kernel stack.
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL, NODE_STAT, PG_KERNEL_DATA, __GFP_ACCOUNT, __GFP_ZERO } from '@pagelab/mm-core';
import type { Kernel } from './kernel.ts';
import type { ProcessObjects } from './process.ts';
import type { TaskObjects } from './task.ts';

/** Pages of a kernel stack. @linux arch/x86/include/asm/page_64_types.h:THREAD_SIZE */
export const KERNEL_STACK_PAGES = 4;
const KERNEL_STACK_KIB = 16;

/** Allocates what a task needs, or nothing. @returns the objects, or -ENOMEM @linux kernel/fork.c:dup_task_struct */
export function allocTaskObjects(kernel: Kernel): TaskObjects | number {
  const { caches, pages } = kernel;
  const objects: TaskObjects = { task: 0, cred: 0, pid: 0, stack: [] };
  objects.task = caches.task_struct.alloc(GFP_KERNEL);
  let complete = objects.task !== 0;
  // A stack is mapped by vmalloc: its pages need not lie together.
  for (let i = 0; complete && i < KERNEL_STACK_PAGES; i++) {
    const pfn = pages.allocPage(GFP_KERNEL | __GFP_ACCOUNT | __GFP_ZERO);
    complete = pfn >= 0;
    if (complete) {
      objects.stack.push(pfn);
      pages.frames.flags[pfn]! |= PG_KERNEL_DATA;
    }
  }
  if (complete) complete = (objects.cred = caches.cred.alloc(GFP_KERNEL)) !== 0;
  if (complete) complete = (objects.pid = caches.pid.alloc(GFP_KERNEL)) !== 0;
  if (objects.stack.length === KERNEL_STACK_PAGES) accountStack(kernel, objects, KERNEL_STACK_KIB);
  if (complete) return objects;
  freeKernelStack(kernel, objects);
  freeTaskObjects(kernel, objects);
  return -Errno.ENOMEM;
}

/** Gives the kernel stack back, which happens before the task is forgotten. @linux kernel/fork.c:put_task_stack */
export function freeKernelStack(kernel: Kernel, objects: TaskObjects): void {
  if (objects.stack.length === KERNEL_STACK_PAGES) accountStack(kernel, objects, -KERNEL_STACK_KIB);
  for (const pfn of objects.stack) {
    kernel.pages.frames.flags[pfn]! &= ~PG_KERNEL_DATA;
    kernel.pages.freePage(pfn);
  }
  objects.stack.length = 0;
}

/** @linux kernel/fork.c:free_task */
export function freeTaskObjects(kernel: Kernel, objects: TaskObjects): void {
  const { caches } = kernel;
  if (objects.pid !== 0) caches.pid.free(objects.pid);
  if (objects.cred !== 0) caches.cred.free(objects.cred);
  if (objects.task !== 0) caches.task_struct.free(objects.task);
  objects.pid = 0;
  objects.cred = 0;
  objects.task = 0;
}

/** Allocates what a process needs beside its threads, or nothing. @returns the objects, or -ENOMEM */
export function allocProcessObjects(kernel: Kernel): ProcessObjects | number {
  const { caches } = kernel;
  const objects: ProcessObjects = { signal: 0, sighand: 0, files: 0, fs: 0 };
  const complete =
    (objects.files = caches.files_cache.alloc(GFP_KERNEL)) !== 0 &&
    (objects.fs = caches.fs_cache.alloc(GFP_KERNEL)) !== 0 &&
    (objects.sighand = caches.sighand_cache.alloc(GFP_KERNEL)) !== 0 &&
    (objects.signal = caches.signal_cache.alloc(GFP_KERNEL)) !== 0;
  if (complete) return objects;
  freeProcessObjects(kernel, objects);
  return -Errno.ENOMEM;
}

/** Gives back those that are left. */
export function freeProcessObjects(kernel: Kernel, objects: ProcessObjects): void {
  const { caches } = kernel;
  if (objects.signal !== 0) caches.signal_cache.free(objects.signal);
  if (objects.sighand !== 0) caches.sighand_cache.free(objects.sighand);
  if (objects.fs !== 0) caches.fs_cache.free(objects.fs);
  if (objects.files !== 0) caches.files_cache.free(objects.files);
  objects.signal = 0;
  objects.sighand = 0;
  objects.fs = 0;
  objects.files = 0;
}

function accountStack(kernel: Kernel, objects: TaskObjects, kib: number): void {
  kernel.pages.modNodeState(objects.stack[0]!, NODE_STAT.NR_KERNEL_STACK_KB, kib);
}
