/**
 * `/sys/devices/system/node/nodeN/compact`: compacts one node.
 *
 * @linux mm/compaction.c:compact_store
 */
import { compactNode } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';

/** The files, by path. Kernels of 32 bits are built without nodes. */
export function compactFiles(kernel: Kernel): Map<string, ProcFile> {
  const files = new Map<string, ProcFile>();
  if (kernel.config.arch !== 'x86-64') return files;
  const { pages } = kernel;
  for (const node of pages.nodes) {
    files.set(`/sys/devices/system/node/node${node.nid}/compact`, {
      mode: 0o200,
      write: (text) => {
        pages.hooks.migration?.drain();
        compactNode(pages, node);
        return text.length;
      },
    });
  }
  return files;
}
