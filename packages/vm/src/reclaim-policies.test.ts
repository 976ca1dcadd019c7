import { lruGenReclaimBefore614 } from './lru-gen-policy.ts';
import { reclaimPolicyContract } from './reclaim-contract.ts';
import { optReclaim } from './reclaim-opt.ts';
import { reclaimPolicies } from './reclaim-policies.ts';

for (const policy of Object.values(reclaimPolicies)) reclaimPolicyContract(policy);

reclaimPolicyContract({ ...lruGenReclaimBefore614, name: 'mglru before 6.14' });

// Without an oracle; and with one that is wrong about everything.
reclaimPolicyContract(optReclaim([]));
reclaimPolicyContract({ ...optReclaim(Array.from({ length: 20_000 }, (_, i) => 0x7_ffff_7000 - ((i * 7919) % 9000))), name: 'opt, misinformed' });
