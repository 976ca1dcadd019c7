import { bugOn } from '@pagelab/lib';
import { validateVm } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import type { KernelStack } from './kernel-stack.ts';
import type { Process } from './process.ts';

/**
 * Recomputes the invariants of every subsystem, and those between them and the tasks.
 *
 * @throws KernelBug for the first that does not hold
 */
export function validateKernel(kernel: Kernel): void {
  kernel.pages.validate();
  kernel.pages.pageOwner?.validate(kernel.pages.zones);
  kernel.slab.validate();
  const [misuse] = kernel.slabReports;
  bugOn(misuse !== undefined && !kernel.outOfTreeModule, `the kernel misuses its own objects: ${misuse?.text}`);
  validateVm(kernel.vm);
  kernel.vm.blockFs.validate();
  kernel.hostFs?.validate();
  kernel.dma.validate();
  kernel.percpu.validate();
  for (const pool of kernel.mempools) pool.validate();
  validateTasks(kernel);
  validatePolicies(kernel);
}

/** Every address space has a process and every process its objects, threads and stacks. */
function validateTasks(kernel: Kernel): void {
  const { tasks, caches, vm } = kernel;
  const processes = new Set<Process>();
  const spaces = new Map<MmStruct, number>();
  const stacks: KernelStack[] = kernel.moduleThread?.stack ? [kernel.moduleThread.stack] : [];
  let pids = kernel.moduleThread === null ? 0 : 1;
  for (const task of tasks.values()) {
    const { process, objects } = task;
    pids += 1;
    bugOn(objects.task === 0 || objects.cred === 0 || objects.pid === 0, `task ${task.pid}: lacks an object`);
    bugOn(task.isDead === (objects.stack !== null), `task ${task.pid}: dead with a stack, or the reverse`);
    if (objects.stack !== null) stacks.push(objects.stack);
    bugOn(task.isDead === process.threads.includes(task), `task ${task.pid}: dead among the living, or the reverse`);
    bugOn(task.isDead && task !== process.leader, `task ${task.pid}: a dead thread was not released`);
    if (task !== process.leader) continue;
    processes.add(process);
    bugOn(process.isZombie !== (process.mm === null), `process ${process.tgid}: a zombie with memory, or the reverse`);
    bugOn(process.isZombie && process.parent === null, `process ${process.tgid}: ended and not reaped`);
    bugOn(process.parent !== null && !process.parent.children.has(process), `process ${process.tgid}: not its parent's child`);
    if (process.mm !== null) spaces.set(process.mm, (spaces.get(process.mm) ?? 0) + process.threads.length);
  }
  vm.mms.forEach((mm) => {
    bugOn(spaces.get(mm) !== mm.users, `address space ${mm.id}: ${mm.users} users, but ${spaces.get(mm) ?? 0} threads`);
  });
  bugOn(spaces.size !== vm.mms.size, `${vm.mms.size} address spaces, but ${spaces.size} that processes have`);
  kernel.stacks.validate(stacks);
  bugOn(caches.task_struct.activeObjects !== pids, `${caches.task_struct.activeObjects} task_struct objects for ${pids} tasks`);
  bugOn(caches.signal_cache.activeObjects !== processes.size, `${caches.signal_cache.activeObjects} signal objects for ${processes.size} processes`);
  bugOn(caches.sighand_cache.activeObjects !== processes.size, 'sighand objects miscounted');
  bugOn(kernel.current !== null && kernel.current.isDead, 'the current task is dead');
  for (const cpu of kernel.smp.cpus) {
    const pgd = cpu.cr3 / 4096;
    let known = pgd === vm.kernelPgd;
    vm.mms.forEach((mm) => {
      known ||= mm.pgd === pgd;
    });
    bugOn(!known, `CPU ${cpu.id} runs on page tables of nobody`);
  }
}

/** Every memory policy is a task's, a mapping's or a file's. */
function validatePolicies({ tasks, vm }: Kernel): void {
  let policies = 0;
  for (const { memPolicy } of tasks.values()) if (memPolicy.policy !== null) policies += 1;
  vm.mms.forEach(({ vmas }) => {
    for (const { policy } of vmas) if (policy !== null) policies += 1;
  });
  vm.mappings.forEach(({ inode }) => {
    policies += inode.policies?.length ?? 0;
  });
  bugOn(policies !== vm.nrPolicies, `${vm.nrPolicies} memory policies, of which ${policies} are somebody's`);
}
