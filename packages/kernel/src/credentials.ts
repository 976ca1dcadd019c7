import { CAP_LAST_CAP } from '@pagelab/abi';
import type { CapabilitySet, Credentials } from '@pagelab/syscalls';

/** Every capability there is. */
const FULL: CapabilitySet = Object.freeze({ low: 0xffff_ffff, high: 2 ** (CAP_LAST_CAP - 31) - 1 });
const EMPTY: CapabilitySet = Object.freeze({ low: 0, high: 0 });

/** The credentials of the first process: root, with every capability. @linux init/init_task.c:init_cred */
export function rootCredentials(): Credentials {
  return { uid: 0, gid: 0, effective: FULL, permitted: FULL, inheritable: EMPTY };
}

/** What another program begins with: root has every capability again. @linux security/commoncap.c:cap_bprm_creds_from_file */
export function credentialsForExec(credentials: Credentials): void {
  if (credentials.uid !== 0) return;
  credentials.permitted = FULL;
  credentials.effective = FULL;
}

/** A copy for a child. @linux kernel/cred.c:prepare_creds */
export function copyCredentials(from: Credentials): Credentials {
  return { ...from };
}

/** Whether a capability is in force. @linux security/commoncap.c:cap_capable */
export function hasCapability(credentials: Credentials, capability: number): boolean {
  const { low, high } = credentials.effective;
  return capability < 32 ? ((low >>> capability) & 1) === 1 : ((high >>> (capability - 32)) & 1) === 1;
}
