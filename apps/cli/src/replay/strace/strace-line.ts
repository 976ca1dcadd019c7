/**
 * One line of what `strace` prints: a call with its result, the two halves of one that another task interrupted, a signal, or
 * the end of a task.
 *
 *     17857 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0e7bad7000
 *     17858 brk(NULL <unfinished ...>
 *     17858 <... brk resumed>)                = 0x555b0402f000
 *     17857 --- SIGCHLD {si_signo=SIGCHLD, …} ---
 *     17858 +++ exited with 0 +++
 *
 * The task's number is missing where only one was traced, or stands in `[pid 17857]`; times may stand before and behind the
 * call.
 */

/** What a call returned: a number, the name of an error, or neither, where it did not return or the log does not say. */
export interface CallResult {
  /** Where it succeeded; 64 bits, as strace prints them. */
  readonly value: bigint | null;
  /** `ENOMEM`, … */
  readonly errno: string | null;
}

export type StraceLine =
  | { readonly kind: 'call'; readonly task: number; readonly name: string; readonly args: string; readonly result: CallResult }
  | { readonly kind: 'unfinished'; readonly task: number; readonly name: string; readonly args: string }
  | { readonly kind: 'resumed'; readonly task: number; readonly name: string; readonly args: string; readonly result: CallResult }
  | { readonly kind: 'signal'; readonly task: number; readonly signal: string }
  | { readonly kind: 'exited'; readonly task: number; readonly status: number }
  | { readonly kind: 'killed'; readonly task: number; readonly signal: string }
  /** A thread runs another program, and has the number of its process's first task from now on. */
  | { readonly kind: 'superseded'; readonly task: number; readonly by: number };

/** The task of lines without a number. */
export const ONLY_TASK = 0;

const TASK = /^(?:\[pid\s+(\d+)\]\s+|(\d+)\s+)?(?:\d+:\d+:\d+(?:\.\d+)?\s+|\d+\.\d+\s+)?/;
const CALL = /^(\w+)\((.*)\)\s*= (.+)$/;
const UNFINISHED = /^(\w+)\((.*?),?\s*<(?:unfinished|pid changed to \d+) \.\.\.>(?:\)\s*= \?)?$/;
const RESUMED = /^<\.\.\. (\w+) resumed>,?\s*(.*)\)\s*= (.+)$/;
const SIGNAL = /^--- (SIG\w+) .*---$/;
const STOPPED = /^--- stopped by (SIG\w+) ---$/;
const EXITED = /^\+\+\+ exited with (\d+) \+\+\+$/;
const KILLED = /^\+\+\+ killed by (SIG\w+)(?: \(core dumped\))? \+\+\+$/;
const SUPERSEDED = /^\+\+\+ superseded by execve in pid (\d+) \+\+\+$/;
const RESULT = /^(?:(0x[0-9a-f]+|-?\d+)(?:<[^>]*>)?|\?)(?:\s+(E[A-Z0-9]+)\b)?/;

function parseResult(text: string): CallResult | null {
  const fields = RESULT.exec(text);
  if (fields === null) return null;
  const [, value, errno = null] = fields;
  return { value: value === undefined || errno !== null ? null : BigInt(value), errno: value === undefined ? null : errno };
}

/** Reads a line; `null` where it is none of strace's. */
export function parseStraceLine(line: string): StraceLine | null {
  const prefix = TASK.exec(line)!;
  const task = Number(prefix[1] ?? prefix[2] ?? ONLY_TASK);
  const text = line.slice(prefix[0].length).trimEnd();
  let fields = UNFINISHED.exec(text);
  if (fields) return { kind: 'unfinished', task, name: fields[1]!, args: fields[2]! };
  fields = RESUMED.exec(text);
  if (fields) {
    const result = parseResult(fields[3]!);
    return result && { kind: 'resumed', task, name: fields[1]!, args: fields[2]!, result };
  }
  fields = CALL.exec(text);
  if (fields) {
    const result = parseResult(fields[3]!);
    return result && { kind: 'call', task, name: fields[1]!, args: fields[2]!, result };
  }
  fields = EXITED.exec(text);
  if (fields) return { kind: 'exited', task, status: Number(fields[1]) };
  fields = KILLED.exec(text);
  if (fields) return { kind: 'killed', task, signal: fields[1]! };
  fields = SUPERSEDED.exec(text);
  if (fields) return { kind: 'superseded', task, by: Number(fields[1]) };
  fields = SIGNAL.exec(text) ?? STOPPED.exec(text);
  return fields && { kind: 'signal', task, signal: fields[1]! };
}

const OPENING = '([{';
const CLOSING = ')]}';

/** A call's arguments apart: at commas that are in no bracket, string or comment. */
export function splitArguments(text: string): string[] {
  const args: string[] = [];
  let depth = 0;
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at]!;
    if (quoted) {
      if (letter === '\\') at++;
      else if (letter === '"') quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === '/' && text[at + 1] === '*') at = Math.max(at, text.indexOf('*/', at));
    else if (OPENING.includes(letter)) depth++;
    else if (CLOSING.includes(letter)) depth--;
    else if (letter === ',' && depth === 0) {
      args.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  const last = text.slice(start).trim();
  if (last !== '' || args.length > 0) args.push(last);
  return args;
}
