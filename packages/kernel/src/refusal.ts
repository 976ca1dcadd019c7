/**
 * What the kernel says of a page allocator whose answer cannot be true.
 */
import { REFUSALS } from '@pagelab/mm-core';
import type { PageAllocatorRefusal } from '@pagelab/mm-core';
import type { KernelLog } from './kernel-log.ts';

/** Wrong answers reported for each zone; what comes after that is only counted, lest nothing else be read. */
const MOST_REPORTS = 10;

/** Reports a wrong answer of a page allocator, which was not acted on. */
export function warnRefusal(log: KernelLog, refusal: PageAllocatorRefusal): void {
  const { allocator, nid, zone, pfn, order, reason, times } = refusal;
  if (times > MOST_REPORTS) return;
  log.print(`WARNING: page allocator ${allocator}: node ${nid}, zone ${zone}: frame ${pfn} for order ${order} refused: ${REFUSALS[reason]}`);
  if (times === MOST_REPORTS) log.print(`page allocator ${allocator}: zone ${zone}: further wrong answers are not reported`);
}
