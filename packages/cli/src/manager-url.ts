import { BlockList, isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Where a manager is, as an origin; throws `cli.url_malformed`, and `cli.url_insecure` for http past this machine. */
export function parseManagerUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search || url.username) {
    throw new TrustError('cli.url_malformed', 'invalid', `cannot use ${text} as the manager's URL`, {
      hint: 'write it like https://manager.example:16516',
    });
  }
  // SECURITY: the token would cross the network readable.
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw new TrustError(
      'cli.url_insecure',
      'invalid',
      `cannot use ${text}: the token would travel unencrypted`,
      {
        hint: 'use https, or a tunnel: ssh -L 16516:127.0.0.1:16516 and http://127.0.0.1:16516',
      },
    );
  }
  return url.origin;
}

function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  return family === 0 ? host === 'localhost' : LOOPBACK.check(host, family === 4 ? 'ipv4' : 'ipv6');
}
