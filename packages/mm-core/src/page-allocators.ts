/**
 * The page allocators there are, by the name that the machine configuration's `pageAllocator` takes.
 */
import { buddyAllocator } from './buddy.ts';
import { firstFitAllocator } from './first-fit.ts';
import { llfreeAllocator } from './llfree.ts';
import type { PageAllocatorFactory } from './page-allocator.ts';

export const pageAllocators = {
  buddy: buddyAllocator,
  llfree: llfreeAllocator,
  'first-fit': firstFitAllocator,
} as const satisfies Record<string, PageAllocatorFactory>;

/** What `pageAllocator` in the machine configuration may be. */
export type PageAllocatorName = keyof typeof pageAllocators;
