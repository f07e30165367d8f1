import { BlockList, isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';

/**
 * SECURITY: whoever may set the webhook must not make the manager ask what only this machine may ask: the metadata
 * services of clouds (link-local, and the addresses of those that are not) give out credentials. Loopback and private
 * addresses are where receivers stand.
 */
const REFUSED = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['169.254.0.0', 16],
  ['100.100.100.200', 32],
  ['168.63.129.16', 32],
  ['192.0.0.192', 32],
  ['224.0.0.0', 3],
] as const)
  REFUSED.addSubnet(network, prefix, 'ipv4');
for (const [network, prefix] of [
  ['::', 128],
  ['fe80::', 10],
  ['ff00::', 8],
  ['fd00:ec2::254', 128],
  ['fd20:ce::254', 128],
] as const)
  REFUSED.addSubnet(network, prefix, 'ipv6');

/** Throws `webhook.address` for an address that no receiver may have. */
export function assertReceiver(address: string): void {
  const family = isIP(address);
  // An IPv4 address in an IPv6 one (RFC 4291 §2.5.5.2) is matched by its IPv4 rules.
  if (family !== 0 && !REFUSED.check(address, family === 6 ? 'ipv6' : 'ipv4')) return;
  throw new TrustError(
    'webhook.address',
    'denied',
    `cannot send to ${address}: link-local, multicast and metadata addresses receive no webhooks`,
    { hint: 'name the address of the machine that receives the alarms' },
  );
}

/** The URL of a receiver, checked as far as that goes without asking DNS; throws `webhook.url` or `webhook.address`. */
export function parseReceiver(text: string): URL {
  const url = URL.parse(text);
  const problem =
    url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')
      ? 'it is no http or https URL'
      : url.username !== '' || url.password !== ''
        ? 'it has a user name or password in it'
        : url.hash !== ''
          ? 'it has a fragment'
          : null;
  if (url === null || problem !== null)
    throw new TrustError('webhook.url', 'invalid', `cannot send alarms to this URL: ${problem}`, {
      hint: 'give a URL such as https://alarms.example.org/virt-trust; receivers check the signature, not a password',
    });
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0) assertReceiver(host);
  return url;
}
