import { slabAllocatorContract } from './contract.ts';
import { SlobAllocator } from './slob.ts';

slabAllocatorContract(() => new SlobAllocator(), { operations: 20_000 });
