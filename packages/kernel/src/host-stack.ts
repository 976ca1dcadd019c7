import type { PageOwnerContext } from '@pagelab/mm-core';
import type { Kernel } from './kernel.ts';

/** Functions through which an allocation goes, whoever asks for it. */
const OWN = /^(?:hostCallers|allocationContext|.*[.#](?:set|rmqueue|allocPages\w*|allocPage|#allocLocal|allocate)|PageOwner\..*|PageAlloc\..*|getPageFromFreelist|allocPagesSlowpath|Object\..*|<anonymous>)$/;

/**
 * The functions of the kernel that are being called, by the host's call stack, the innermost first: for who asks who
 * allocated. Some microseconds.
 */
export function hostCallers(): string[] {
  const { stack = '' } = new Error();
  const names: string[] = [];
  for (const line of stack.split('\n')) {
    // "    at Class.method [as other] (place)" in V8, "method@place" elsewhere.
    const name = /^\s*at (?:async )?(?:new )?([^\s(]+)(?: \[as [^\]]+\])? \(/.exec(line)?.[1] ?? /^([^@\s]+)@/.exec(line)?.[1];
    if (name === undefined || OWN.test(name)) continue;
    names.push(name.slice(name.lastIndexOf('.') + 1).replace('#', ''));
  }
  return names;
}

/** Who asks for memory now: a module, a task, or the kernel on nobody's behalf. */
export function allocationContext({ callTrace, current, moduleThread, modulePid }: Kernel): PageOwnerContext {
  const trace = callTrace.save();
  if (moduleThread !== null) return { pid: modulePid, tgid: modulePid, comm: 'insmod', trace };
  const own = trace.length > 0 ? trace : hostCallers();
  if (current === null) return { pid: 0, tgid: 0, comm: 'swapper/0', trace: own };
  return { pid: current.pid, tgid: current.tgid, comm: current.process.comm, trace: own };
}
