/**
 * The recorded loads that can be done again.
 */
import { compact } from './compact.ts';
import { forkcow } from './forkcow.ts';
import { hugetlb } from './hugetlb.ts';
import type { Load } from './load-run.ts';
import { mlock } from './mlock.ts';
import { numapolicy } from './numapolicy.ts';
import { overcommit } from './overcommit.ts';
import { thp } from './thp.ts';
import { zonefill } from './zonefill.ts';

/** Each under the name that `config.json` has for it. */
export const LOADS: readonly Load[] = [compact, forkcow, hugetlb, mlock, numapolicy, overcommit, thp, zonefill];
