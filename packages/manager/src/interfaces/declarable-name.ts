import { isDnsName } from '@virt-trust/pki/general-name.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';

/** LDH labels in lower case (RFC 5890 §2.3.1): what the contract and every desired state take. */
const LDH_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** Whether a name can be declared for a host as a DNS name. */
export function isDeclarableName(name: string): boolean {
  return isDnsName(name) && LDH_NAME.test(name) && !isIpAddress(name);
}
