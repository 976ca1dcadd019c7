import { arc } from './arc.ts';
import { clock } from './clock.ts';
import { fifo } from './fifo.ts';
import { lru } from './lru.ts';
import { opt } from './opt.ts';
import type { ReplacementPolicyFactory } from './replacement-policy.ts';
import { secondChance } from './second-chance.ts';
import { workingSet } from './working-set.ts';

/** The textbooks' page replacement policies. */
export const replacementPolicies: readonly ReplacementPolicyFactory[] = [fifo, secondChance, clock, lru, arc, workingSet, opt];
