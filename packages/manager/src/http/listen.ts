import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

/** Where the API listens. */
export interface ListenOptions {
  readonly address: string;
  readonly port: number;
  /** Needed where the address is not a loopback one. */
  readonly tls?: { readonly certificate: string; readonly key: string } | undefined;
}

export const DEFAULT_LISTEN: ListenOptions = { address: '127.0.0.1', port: 16516 };

/** True for 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  return (isIP(address) === 4 && address.startsWith('127.')) || address === '::1';
}

/** Refuses to send tokens in the clear over a network. */
export function checkListen(listen: ListenOptions): void {
  if (isIP(listen.address) === 0) {
    throw new TrustError(
      'listen.address',
      'invalid',
      `cannot listen on ${listen.address}: not an IP address`,
      {
        hint: '127.0.0.1, ::1, or an address of this machine with --tls-certificate and --tls-key',
      },
    );
  }
  if (listen.tls !== undefined) {
    checkPair(listen.tls.certificate, listen.tls.key);
    return;
  }
  if (isLoopback(listen.address)) return;
  throw new TrustError(
    'listen.clear_text',
    'invalid',
    `cannot listen on ${listen.address}: tokens would cross the network in the clear`,
    { hint: 'give --tls-certificate and --tls-key, or listen on 127.0.0.1' },
  );
}

function checkPair(cert: string, key: string): void {
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw new TrustError('listen.tls', 'invalid', `cannot listen with TLS: ${describeError(cause)}`, {
      hint: 'give a PEM certificate chain and the unencrypted PEM key of its first certificate',
      cause,
    });
  }
}

/**
 * Refuses a Host that is none of a loopback listener's own names: a web page whose name was pointed at 127.0.0.1 (DNS
 * rebinding) must not talk to the API.
 */
export function checkHost(host: string | undefined): void {
  const name = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::\d{1,5})?$/.exec(host ?? '')?.[1]?.toLowerCase();
  const address = name?.replace(/^\[|\]$/g, '') ?? '';
  if (name === 'localhost' || isLoopback(address)) return;
  throw new TrustError('request.host', 'denied', 'cannot accept the request: its Host is not this manager', {
    hint: 'use http://127.0.0.1 or http://localhost with the port of the manager',
  });
}
