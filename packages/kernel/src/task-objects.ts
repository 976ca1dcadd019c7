/**
 * What a task and a process take of kernel memory: slab objects, and the kernel stack.
 */
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { Kernel } from './kernel.ts';
import type { ProcessObjects } from './process.ts';
import type { TaskObjects } from './task.ts';

/** Allocates what a task needs, or nothing. @returns the objects, or -ENOMEM @linux kernel/fork.c:dup_task_struct */
export function allocTaskObjects(kernel: Kernel): TaskObjects | number {
  const { caches, stacks } = kernel;
  const objects: TaskObjects = { task: 0, cred: 0, pid: 0, stack: null };
  objects.task = caches.task_struct.alloc(GFP_KERNEL);
  const stack = objects.task === 0 ? -Errno.ENOMEM : stacks.alloc(objects.task);
  if (typeof stack !== 'number') {
    objects.stack = stack;
    objects.cred = caches.cred.alloc(GFP_KERNEL);
    if (objects.cred !== 0) objects.pid = caches.pid.alloc(GFP_KERNEL);
    if (objects.pid !== 0) return objects;
  }
  freeKernelStack(kernel, objects);
  freeTaskObjects(kernel, objects);
  return -Errno.ENOMEM;
}

/** Gives the kernel stack back, which happens before the task is forgotten. @linux kernel/fork.c:put_task_stack */
export function freeKernelStack(kernel: Kernel, objects: TaskObjects): void {
  if (objects.stack !== null) kernel.stacks.free(objects.stack);
  objects.stack = null;
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
