/**
 * Measures one row in a thread of its own: what V8 learned from the rows before would change how it compiles this one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { measureRow } from './rows.ts';

const { name, rounds } = workerData as { name: string; rounds: number };

parentPort!.postMessage(await measureRow(name, rounds));
