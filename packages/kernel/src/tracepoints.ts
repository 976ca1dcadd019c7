import type { TraceRing } from '@pagelab/lib';
import { defineSyscallEvents } from '@pagelab/syscalls';

/** Ids of the kernel's own events in the trace ring. Names and fields as Linux's. */
export interface Tracepoints {
  readonly schedSwitch: number;
  readonly processFork: number;
  readonly processExit: number;
  readonly signalGenerate: number;
  readonly signalDeliver: number;
  readonly markVictim: number;
}

/** Registers the events, those of system calls among them, all switched off. @linux include/trace/events/sched.h, signal.h, oom.h */
export function defineTracepoints(trace: TraceRing): Tracepoints {
  defineSyscallEvents(trace);
  return {
    schedSwitch: trace.define('sched_switch', ['prev_pid', 'next_pid', 'cpu']),
    processFork: trace.define('sched_process_fork', ['parent_pid', 'child_pid']),
    processExit: trace.define('sched_process_exit', ['pid', 'exit_code']),
    signalGenerate: trace.define('signal_generate', ['sig', 'code', 'pid']),
    signalDeliver: trace.define('signal_deliver', ['sig', 'code', 'pid']),
    markVictim: trace.define('mark_victim', ['pid', 'total_vm', 'anon_rss', 'oom_score_adj']),
  };
}
