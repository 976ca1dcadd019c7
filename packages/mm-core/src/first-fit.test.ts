import { pageAllocatorContract } from './contract.ts';
import { firstFitAllocator } from './first-fit.ts';

pageAllocatorContract(firstFitAllocator);
