import { lruGenReclaimBefore614 } from './lru-gen-policy.ts';
import { reclaimPolicyContract } from './reclaim-contract.ts';
import { reclaimPolicies } from './reclaim-policies.ts';

for (const policy of Object.values(reclaimPolicies)) reclaimPolicyContract(policy);

reclaimPolicyContract({ ...lruGenReclaimBefore614, name: 'mglru before 6.14' });
