/**
 * The recorded loads that can be done again.
 */
import { compact } from './compact.ts';
import { dropcaches } from './dropcaches.ts';
import { filelru } from './filelru.ts';
import { forkcow } from './forkcow.ts';
import { hugetlb } from './hugetlb.ts';
import type { Load } from './load-run.ts';
import { mlock } from './mlock.ts';
import { numapolicy } from './numapolicy.ts';
import { oom } from './oom.ts';
import { overcommit } from './overcommit.ts';
import { swap } from './swap.ts';
import { thp } from './thp.ts';
import { zonefill } from './zonefill.ts';

/** Each under the name that `config.json` has for it. */
export const LOADS: readonly Load[] = [compact, dropcaches, filelru, forkcow, hugetlb, mlock, numapolicy, oom, overcommit, swap, thp, zonefill];
