/** Page replacement as textbooks have it, on traces of page references: no machine is needed. */
export { ReplacementError, ReplacementRun, replacementPolicies } from '@pagelab/vm';
export type {
  ReplacementOptions,
  ReplacementPolicy,
  ReplacementPolicyFactory,
  ReplacementResult,
  ReplacementSize,
} from '@pagelab/vm';
