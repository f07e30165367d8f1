import { isDnsName } from '@virt-trust/pki/general-name.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { parseIpSubnet } from '@virt-trust/pki/ip-subnet.ts';

type Entry = { readonly value: string } | { readonly problem: string };

/** A subnet in its canonical form. */
export function subnetEntry(text: string): Entry {
  const parsed = parseIpSubnet(text);
  return 'problem' in parsed ? parsed : { value: parsed.text };
}

/** A glob of interface names, or a subnet. */
export function roleEntry(text: string): Entry {
  if (text.includes('/')) return subnetEntry(text);
  if (isIpAddress(text)) {
    const bits = text.includes(':') ? 128 : 32;
    return { problem: `an address; as a subnet of one it is ${text}/${bits}` };
  }
  // As the kernel allows interface names (dev_valid_name), which have at most 15 characters.
  if (/^[^\s/:[\]{}\p{Cc}\p{Cs}]{1,15}$/u.test(text) && text !== '.' && text !== '..') return { value: text };
  return {
    problem:
      'not a name of interfaces (1 to 15 characters, * for any number of them, ? for one) and not a subnet',
  };
}

/** A domain in lower case. */
export function domainEntry(text: string): Entry {
  const value = text.toLowerCase();
  if (value.startsWith('.') || value.startsWith('*'))
    return { problem: `not a domain; write it without what stands before, ${value.replace(/^[*.]+/, '')}` };
  if (value.endsWith('.')) return { problem: 'not a domain; write it without the dot at its end' };
  if (isDnsName(value) && !isIpAddress(value)) return { value };
  return { problem: 'not a domain such as rack1.example' };
}
