/**
 * `/sys/kernel/mm/mempolicy`: how many pages each node gives in its turn.
 */
import { Errno } from '@pagelab/abi';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';
import { kstrtoul } from './kstrto.ts';

const DIRECTORY = '/sys/kernel/mm/mempolicy/weighted_interleave/';

/** `weighted_interleave/nodeN`, from 1 to 255; an empty line brings 1 back, and before 6.16 so does 0. @linux mm/mempolicy.c:node_store */
export function interleaveWeightFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  if (kernel.config.arch !== 'x86-64' || kernel.config.kernel === '6.1') return files;
  const { interleaveWeights } = kernel.vm;
  for (const { nid } of kernel.pages.nodes) {
    files.set(`${DIRECTORY}node${nid}`, {
      mode: 0o664,
      read: () => `${interleaveWeights[nid]}\n`,
      write: (text) => {
        const weight = text === '\n' ? 1 : kstrtoul(text, 255, 0);
        if (weight < 0 || (weight === 0 && kernel.config.kernel === '6.18')) return -Errno.EINVAL;
        interleaveWeights[nid] = weight || 1;
        return text.length;
      },
    });
  }
  return files;
}
