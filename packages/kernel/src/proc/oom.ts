import { CAP_SYS_RESOURCE, Errno } from '@pagelab/abi';
import { OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN, oomScore } from '@pagelab/vm';
import type { Task } from '../task.ts';
import type { ProcFile } from './proc-file.ts';

/** `/proc/PID/oom_score`. @linux fs/proc/base.c:proc_oom_score */
export function oomScoreFile(task: Task): ProcFile {
  return {
    mode: 0o444,
    read: () => {
      const { kernel, process } = task;
      const total = kernel.pages.totalramPages + kernel.vm.totalSwapPages;
      return `${process.mm === null ? 0 : oomScore(process.mm, process.oomScoreAdj, total)}\n`;
    },
  };
}

/** `/proc/PID/oom_score_adj`. @linux fs/proc/base.c:oom_score_adj_write */
export function oomScoreAdjFile(task: Task): ProcFile {
  const { process } = task;
  return {
    mode: 0o644,
    read: () => `${process.oomScoreAdj}\n`,
    write: (text, writer) => {
      const word = text.trim();
      if (!/^[+-]?(0x[0-9a-f]+|\d+)$/i.test(word)) return -Errno.EINVAL;
      const value = word.startsWith('-') ? -Number(word.slice(1)) : Number(word.replace('+', ''));
      if (value > 0x7fff_ffff || value < -0x8000_0000) return -Errno.ERANGE;
      if (!(value >= OOM_SCORE_ADJ_MIN && value <= OOM_SCORE_ADJ_MAX)) return -Errno.EINVAL;
      const privileged = writer === null || writer.capable(CAP_SYS_RESOURCE);
      if (value < process.oomScoreAdjMin && !privileged) return -Errno.EACCES;
      process.oomScoreAdj = value;
      if (privileged) process.oomScoreAdjMin = value;
      return text.length;
    },
  };
}
