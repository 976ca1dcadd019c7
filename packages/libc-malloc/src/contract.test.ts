import { mallocContract } from './contract.ts';
import { mallocs } from './registry.ts';
import { FlatOs } from './testing/flat-os.ts';

for (const [name, create] of Object.entries(mallocs)) {
  mallocContract(
    ({ memoryBytes }) => {
      const os = new FlatOs({ heapBytes: memoryBytes / 2, areaBytes: memoryBytes / 2 });
      return { malloc: create(os), os };
    },
    { name },
  );
}
