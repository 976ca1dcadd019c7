#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';

// A system call is a few dozen small functions, and V8 stops at 920 bytes of bytecode to compile them into one: with more,
// calls and faults take 10 to 20 % less time.
setFlagsFromString('--max-inlined-bytecode-size-cumulative=2000');
await import('../dist/main.js');
