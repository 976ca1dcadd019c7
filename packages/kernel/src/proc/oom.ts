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

const OOM_ADJUST_MIN = -16;
const OOM_ADJUST_MAX = 15;
const OOM_DISABLE = -17;

/** `/proc/PID/oom_adj`: what `oom_score_adj` was before, in steps of 17 to the thousand. @linux fs/proc/base.c:oom_adj_read, oom_adj_write */
export function oomAdjFile(task: Task): ProcFile {
  const scoreAdj = oomScoreAdjFile(task);
  return {
    mode: 0o644,
    read: () => {
      const { oomScoreAdj } = task.process;
      const value = oomScoreAdj === OOM_SCORE_ADJ_MAX ? OOM_ADJUST_MAX : Math.trunc((oomScoreAdj * -OOM_DISABLE) / OOM_SCORE_ADJ_MAX);
      return `${Math.min(value, OOM_ADJUST_MAX)}\n`;
    },
    write: (text, writer) => {
      const word = text.trim();
      if (!/^[+-]?\d+$/.test(word)) return -Errno.EINVAL;
      const value = Number(word);
      if ((value < OOM_ADJUST_MIN || value > OOM_ADJUST_MAX) && value !== OOM_DISABLE) return -Errno.EINVAL;
      const adj = value === OOM_ADJUST_MAX ? OOM_SCORE_ADJ_MAX : Math.trunc((value * OOM_SCORE_ADJ_MAX) / -OOM_DISABLE);
      if (adj < task.process.oomScoreAdj && writer !== null && !writer.capable(CAP_SYS_RESOURCE)) return -Errno.EACCES;
      const error = scoreAdj.write!(String(adj), writer);
      return error < 0 ? error : text.length;
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
