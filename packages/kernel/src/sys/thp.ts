/**
 * `/sys/kernel/mm/transparent_hugepage`: what huge pages are used for. Memory is kept free for them, so that a write moves
 * `vm.min_free_kbytes` and all watermarks.
 *
 * @linux mm/huge_memory.c:enabled_store
 */
import { Errno } from '@pagelab/abi';
import type { Kernel, TransparentHugepage } from '../kernel.ts';
import type { ProcFile } from '../proc/proc-file.ts';

const MODES: readonly TransparentHugepage[] = ['always', 'madvise', 'never'];

/** `enabled` */
export function thpEnabled(kernel: Kernel): ProcFile {
  return {
    mode: 0o644,
    read: () => `${MODES.map((mode) => (mode === kernel.transparentHugepage ? `[${mode}]` : mode)).join(' ')}\n`,
    write: (text) => {
      const mode = MODES.find((each) => each === text.replace(/\n$/, ''));
      if (mode === undefined) return -Errno.EINVAL;
      kernel.transparentHugepage = mode;
      kernel.vm.thpMode = mode;
      kernel.pages.sysctl.setTransparentHugepage(mode !== 'never');
      return text.length;
    },
  };
}
