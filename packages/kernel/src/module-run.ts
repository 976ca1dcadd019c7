/**
 * Loading a module: its code runs in a kernel thread of its own.
 *
 * @linux kernel/module/main.c
 */
import { SyscallError } from '@pagelab/abi';
import type { Kernel } from './kernel.ts';
import { KernelModule } from './module.ts';
import { ModuleUaccess } from './module-uaccess.ts';
import { StackUse } from './stack-use.ts';
import { allocTaskObjects, freeKernelStack, freeTaskObjects } from './task-objects.ts';

/** What a module is loaded with. */
export interface ModuleOptions {
  /** Its name; `module` unless told. Modules of one name are one: they share what {@link KernelModule.data} gave. */
  readonly name?: string;
}

/**
 * Runs a module's code, in a kernel thread with a stack of its own.
 *
 * @throws SyscallError ENOMEM where there is no memory for the thread
 * @throws KernelOops where it makes an access that hardware refuses; the kernel goes on
 */
export function runModule<T>(kernel: Kernel, body: (module: KernelModule) => T, options: ModuleOptions): T {
  const name = options.name ?? 'module';
  if (!/^\w+$/.test(name)) throw new RangeError(`module: a name has letters, digits and _, unlike ${JSON.stringify(name)}`);
  kernel.outOfTreeModule = true;
  let module = kernel.modules.get(name);
  if (module === undefined) {
    module = { name, data: [] };
    kernel.modules.set(name, module);
  }
  const { stackUse: outer } = kernel;
  const nested = kernel.moduleThread !== null;
  const thread = kernel.moduleThread ?? allocTaskObjects(kernel);
  if (typeof thread === 'number') throw new SyscallError('init_module', thread);
  kernel.moduleThread = thread;
  if (!nested) kernel.stackUse = new StackUse(kernel, thread.stack!, 'task');
  const cpu = kernel.smp.processorId;
  const { kmemleak } = kernel;
  if (!nested) kernel.modulePid = kernel.tasks.allocPid();
  const owner = kmemleak?.owner ?? 'kernel';
  if (kmemleak !== null) kmemleak.owner = 'module';
  kernel.callTrace.enter('init_module', name);
  const user = new ModuleUaccess(kernel);
  try {
    return body(new KernelModule(kernel, module, user));
  } finally {
    user.end();
    kernel.callTrace.leave();
    kernel.smp.processorId = cpu;
    if (kmemleak !== null) kmemleak.owner = owner;
    kernel.stackUse = outer;
    if (!nested) {
      kernel.moduleThread = null;
      freeKernelStack(kernel, thread);
      freeTaskObjects(kernel, thread);
    }
  }
}

/** Forgets a module, and frees its data section. What else it holds is leaked, as on Linux. @linux kernel/module/main.c:free_module */
export function unloadModule(kernel: Kernel, name: string): boolean {
  const module = kernel.modules.get(name);
  if (module === undefined) return false;
  for (const { address } of module.data) kernel.vm.vmalloc.vfree(address);
  return kernel.modules.delete(name);
}
