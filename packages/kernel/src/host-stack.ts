import type { PageOwnerContext } from '@pagelab/mm-core';
import type { Kernel } from './kernel.ts';

/** Frames looked at, and names kept of them. @linux mm/page_owner.c:PAGE_OWNER_STACK_DEPTH */
const MAX_FRAMES = 32;
const MAX_NAMES = 8;
/** Functions through which an allocation goes, whoever asks for it. */
const OWN = /^(?:hostCallers|allocationContext|.*[.#](?:set|rmqueue|allocPages\w*|allocPage|#allocLocal|allocate)|PageOwner\..*|PageAlloc\..*|getPageFromFreelist|allocPagesSlowpath|Object\..*|<anonymous>)$/;

/**
 * The functions of the kernel that are being called, by the host's call stack, the innermost first: for who asks who
 * allocated. Some microseconds.
 */
export function hostCallers(): string[] {
  const host = Error as { stackTraceLimit?: number };
  const { stackTraceLimit } = host;
  host.stackTraceLimit = MAX_FRAMES;
  const { stack = '' } = new Error();
  if (stackTraceLimit !== undefined) host.stackTraceLimit = stackTraceLimit;
  const names: string[] = [];
  for (const line of stack.split('\n')) {
    // "    at Class.method [as other] (place)" in V8, "method@place" elsewhere.
    const name = /^\s*at (?:async )?(?:new )?([^\s(]+)(?: \[as [^\]]+\])? \(/.exec(line)?.[1] ?? /^([^@\s]+)@/.exec(line)?.[1];
    if (name === undefined || OWN.test(name)) continue;
    names.push(name.slice(name.lastIndexOf('.') + 1).replace('#', ''));
    if (names.length === MAX_NAMES) break;
  }
  return names;
}

/** Who asks for memory now: a module, a task, or the kernel on nobody's behalf; `undefined` while it boots. */
export function allocationContext(kernel: Kernel | undefined): PageOwnerContext {
  if (kernel === undefined) return { pid: 0, tgid: 0, comm: 'swapper', trace: hostCallers() };
  const { callTrace, current, moduleThread, modulePid } = kernel;
  const trace = callTrace.save();
  if (moduleThread !== null) return { pid: modulePid, tgid: modulePid, comm: 'insmod', trace };
  const own = trace.length > 0 ? trace : hostCallers();
  if (current === null) return { pid: 0, tgid: 0, comm: 'swapper', trace: own };
  return { pid: current.pid, tgid: current.tgid, comm: current.process.comm, trace: own };
}
