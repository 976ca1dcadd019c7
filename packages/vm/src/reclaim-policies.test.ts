import { reclaimPolicyContract } from './reclaim-contract.ts';
import { reclaimPolicies } from './reclaim-policies.ts';

for (const policy of Object.values(reclaimPolicies)) reclaimPolicyContract(policy);
