import { pageAllocatorContract } from './contract.ts';
import { llfreeAllocator } from './llfree.ts';

pageAllocatorContract(llfreeAllocator);
